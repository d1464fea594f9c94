"""Call a function on a file that may be damaged, in a separate process with limits.

Errors of the file are kept apart from errors of the machine. These are the file's (`FileError`);
each text is the reason of an `unreadable` row:

no progress in N s                              it computes or waits without an end
not read within N s                             it is far slower than any decoder should be
reading it asks for more than N MiB of memory
reading it crashed (SIGSEGV)                    or another signal
reading it failed: ...                          what FFmpeg says, or what the function says

The seconds are those in which the process computes. The kernel counts them, and ends the process;
each report of progress allows some more. So a machine that is far too busy is no error of a file. A
process that is silent for `PATIENCE` times as long on the clock is checked, once. If it sleeps, it
hangs on the file. If not, it gets no core, memory or disk: an error of the machine
(`ProcessError`).

So it is if the disk fails or is full, if the process does not start, or if something else ends it.
Any other exception is a bug of ours, and is shown with its traceback.

A call travels as a pickle, in a file. What comes back is lines of JSON on a pipe that this call
alone has: nothing is unpickled that comes from a process that read a stranger's file. The exit code
is the kernel's. What libraries print is not read. The process ends with its caller.
"""

import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, NoReturn, Protocol

import av

from epic100.base.errors import DiskError, EpicError
from epic100.base.machine import end_with_parent, is_asleep, limit_process

# The limits count computing time. On the clock, a call may take PATIENCE times as long.
PATIENCE = 10
START_SECONDS = 600.0  # A start waits for the disk that has the packages, not for the file.
# The maximum number of bytes of a result. The index of an hour of video takes some MiB.
LARGEST = 2**28
# No decoder sends these signals. SIGBUS means that a page of a program or library cannot be read
# from the disk.
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGBUS)
# The process can import what its caller can. (PYTHONPATH cannot hold a path with a colon.)
COMMAND = (
    *(sys.executable, "-P", "-c"),
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from epic100.base import guarded; guarded.serve()",
)
_in_a_call = COMMAND[-1] in sys.orig_argv  # Whether this process is one that a call has started.


class FileError(EpicError):
    """It is the file's error. The text says what is wrong, without the path."""


class ProcessError(EpicError):
    """The call failed, and not because of the file."""


class Limits(Protocol):
    """Seconds without progress, and MiB of address space (0: no limit), as in `ScanLimits`."""

    stall_seconds: float
    memory_mib: int


@dataclass
class Order:
    """A call, as its process gets it: the function with its arguments, and the limits on time."""

    function: Callable[..., Any]
    stall_seconds: float
    total_seconds: float


@dataclass
class Report:
    """What the process of a call says; each of its messages is a complete report.

    Attributes:
        frames: The number of frames done; -1 before the function is called.
        is_last: Whether the limit on the total time ends the process next, not the limit on
            stalling.
        outcome: "value", or whose error it is: "file" or "machine"; "" before the end.
        content: The value that the function has returned, or the text of the error.
    """

    frames: int = -1
    is_last: bool = False
    outcome: str = ""
    content: Any = None


def call(
    function: Callable[..., Any],
    *arguments: Any,
    limits: Limits,
    seconds: float,
    progress: Callable[[int], None] = lambda frames: None,
) -> Any:
    """Call `function(*arguments, progress=...)` in a process with limits, and return its result.

    Args:
        function: A function of a module, which the process imports. Its argument `progress` is a
            function that it calls with the number of frames done. Only a number greater than all
            before counts as progress.
        *arguments: Its arguments, which are pickled.
        limits: Limits on stalling and memory.
        seconds: Limit on the seconds of computing in all.
        progress: Called here with the number of frames done, a few times a second. An error that
            it raises ends the call.

    Returns:
        The function's result: values that JSON can hold, with lists in place of arrays.

    Raises:
        FileError: It is the file's error.
        ProcessError: The call failed, and not because of the file.
    """
    if _in_a_call:  # The limits of the outer call hold.
        return function(*arguments, progress=progress)
    order = Order(partial(function, *arguments), limits.stall_seconds, seconds)
    answers, far_end = os.pipe()
    with (
        open(answers, "rb", buffering=0) as pipe,
        _started(order, far_end, limits.memory_mib) as process,
    ):
        try:
            report = _last_report(process, pipe, order, progress)
        finally:
            process.kill()
    return _outcome(report, process.returncode, order)


def _started(order: Order, far_end: int, memory_mib: int) -> subprocess.Popen[bytes]:
    """Start the process of a call.

    Args:
        order: The call.
        far_end: Descriptor of the end of the pipe to which the process writes. It is closed here.
        memory_mib: MiB of address space that the process may have; 0: no limit.

    Raises:
        ProcessError: Python does not start.
    """
    with open(far_end, "wb"), tempfile.TemporaryFile() as file:
        file.write(pickle.dumps([entry for entry in sys.path if entry]) + pickle.dumps(order))
        file.seek(0)
        try:
            return subprocess.Popen(
                [*COMMAND, str(far_end), str(os.getpid()), str(memory_mib)],
                stdin=file,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # NumPy's library OpenBLAS would start a thread for each core, each with memory of
                # its own, and would not use them. Snakemake sets this to the threads of the rule.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[far_end],
            )
        except OSError as error:
            raise ProcessError(f"{COMMAND[0]} does not start: {error.strerror}") from error


def _last_report(
    process: subprocess.Popen[bytes],
    pipe: IO[bytes],
    order: Order,
    progress: Callable[[int], None],
) -> Report:
    """Read what the process of a call reports until it has ended, and raise if it is overdue.

    Raises:
        FileError: The process hangs on the file, or what it says is no report.
        ProcessError: The process did not start, or the machine is too busy.
    """
    report, unread = Report(), bytearray()
    begun = last_progress = time.monotonic()
    for data in _written(process, pipe):
        unread += data
        if len(unread) > LARGEST:
            raise FileError(f"reading it failed: its result has more than {LARGEST >> 20} MiB")
        now = time.monotonic()
        if unread.endswith(b"\n"):
            earlier, report, unread = report, _newest_report(unread), bytearray()
            if report.frames > earlier.frames:
                last_progress = now
        progress(max(report.frames, 0))
        if process.returncode is None:
            _raise_if_overdue(process.pid, report, order, now - begun, now - last_progress)
    return report


def _written(process: subprocess.Popen[bytes], pipe: IO[bytes]) -> Iterator[bytes]:
    """Yield what a process writes, until it has ended; b"" if it has written nothing for 0.2 s."""
    while True:
        # What it wrote before its end is still read below.
        has_ended = process.poll() is not None
        is_readable, _, _ = select.select([pipe], [], [], 0.2)
        data = pipe.read(1 << 20) if is_readable else b""
        if has_ended and not data:
            return
        if not data:  # If the process has closed its end, `select` does not wait.
            time.sleep(0.01)
        yield data


def _newest_report(lines: bytearray) -> Report:
    """Read the last of some lines of JSON, `[frames, is_last, outcome, content]`.

    Raises:
        FileError: It is no report. A damaged file that the process reads may cause that.
    """
    try:
        frames, is_last, outcome, content = json.loads(lines.splitlines()[-1])
        return Report(int(frames), bool(is_last), str(outcome), content)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FileError("reading it failed: its result cannot be read") from error


def _raise_if_overdue(pid: int, report: Report, order: Order, passed: float, silent: float) -> None:
    """Check a process that had far more time than it may need, and raise whose error that is.

    Args:
        pid: The process.
        report: What it has said so far.
        order: Its call.
        passed: Seconds on the clock since the call.
        silent: Seconds on the clock since the last progress.

    Raises:
        FileError: The process sleeps, so it hangs on the file.
        ProcessError: The process did not start, or it gets no core, memory or disk.
    """
    has_started = report.frames >= 0
    longest = PATIENCE * order.total_seconds if has_started else START_SECONDS
    is_stalled = has_started and silent > PATIENCE * order.stall_seconds
    if not is_stalled and passed <= longest:
        return
    if has_started and is_asleep(pid):
        raise _too_long(order, is_total=not is_stalled)
    raise ProcessError(
        f"its process had too little of {passed:.0f} s to start or to work: the cores, the "
        "memory or the disk of this machine are too busy"
    )


def _too_long(order: Order, is_total: bool) -> FileError:
    """Make the error for the limit on the total time (`is_total`), or on stalling."""
    if is_total:
        return FileError(f"not read within {order.total_seconds:g} s")
    return FileError(f"no progress in {order.stall_seconds:g} s")


def _outcome(report: Report, code: int, order: Order) -> Any:
    """Return the result of a call that has ended, or raise the error that it ended with.

    Args:
        report: The last report of its process.
        code: The exit code of its process, below 0 for a signal.
        order: The call.
    """
    if report.outcome == "value" and code == 0:
        return report.content
    # A real-time signal has no name.
    name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
    if -code in FROM_OUTSIDE:
        raise ProcessError(
            f"its process was ended from outside ({name}): out of memory, or by hand"
        )
    match report.outcome:
        case "machine":
            raise ProcessError(report.content)
        case "file" if report.frames >= 0:
            # The message of an error is one line.
            raise FileError(" ".join(str(report.content).split()))
    if code == 0 or report.frames < 0:
        raise ProcessError(f"its process left no result: {report.content or f'exit code {code}'}")
    if -code == signal.SIGXCPU:
        raise _too_long(order, report.is_last)
    if code < 0:
        raise FileError(f"reading it crashed ({name})")
    raise FileError(f"reading it failed: exit code {code}")


def serve() -> NoReturn:
    """Be the process of a call: make the call on stdin, and report to the pipe that argv names."""
    pipe, parent, memory_mib = map(int, sys.argv[1:])
    end_with_parent(parent)
    report = Report()

    def send(outcome: str, content: object) -> None:
        """Write a line to the pipe; its content may hold plain values and arrays."""
        words = [report.frames, report.is_last, outcome, content]
        with open(pipe, "wb", closefd=False) as file:
            file.write(json.dumps(words, default=lambda array: array.tolist()).encode() + b"\n")

    def progress(frames: int) -> None:
        """Allow `stall_seconds` more of computing, up to `total_seconds`, and report it."""
        if frames > report.frames:
            stall_limit = time.process_time() + order.stall_seconds
            # The limit is an integer of seconds of CPU time since the process began, rounded up.
            limit_process({resource.RLIMIT_CPU: int(min(stall_limit, order.total_seconds)) + 1})
            report.frames, report.is_last = int(frames), stall_limit > order.total_seconds
            send("", None)

    try:
        order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301
        order.total_seconds += time.process_time()  # The imports do not count.
        limit_process(
            {resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: memory_mib << 20 or sys.maxsize}
        )
        progress(0)
        send("value", order.function(progress=progress))
    except MemoryError:  # FFmpeg's error of memory is one, too.
        send("file", f"reading it asks for more than {memory_mib} MiB of memory")
    except av.error.FFmpegError as error:  # This comes before OSError, since some are one.
        send("file", f"reading it failed: {error.strerror or type(error).__name__}")
    except (DiskError, OSError) as error:
        send("machine", str(error))
    except EpicError as error:
        send("file", str(error))
    except Exception:
        trace = traceback.format_exc()
        send("machine", f"an error of ours, not of the file; please report it:\n{trace}")
    os._exit(0)  # No thread and no handler of a library goes on.
