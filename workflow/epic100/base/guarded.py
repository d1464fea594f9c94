"""Call a function on a file that may be damaged, in a process with limits on time and memory.

Faults of the file are kept apart from faults of the machine. The file is at fault (`FileError`) in
these cases; each text is the reason of an `unreadable` row:

no progress in N s                              it computes or waits without an end
not read within N s                             it is far slower than any decoder should be
reading it asks for more than N MiB of memory
reading it crashed (SIGSEGV)                    or another signal
reading it failed: ...                          what FFmpeg says, or what the function says

The seconds are those in which the process computes. The kernel counts them, and ends the process;
each report of progress allows some more. So a machine that is far too busy is no fault of a file.
Only a process that is silent for `PATIENCE` times as long is looked at: one that sleeps has hung,
and one that has no core, memory or disk to go on shows that the machine is at fault.

The file is not at fault (`ProcessError`) if the disk fails or is full, if the process does not
start, or if something else ends it. Any other exception is a bug of ours, and is shown with its
traceback.

To start Python and to import PyAV, NumPy and the scan takes as much computing as 5 s of a small
video: 4 % of the scans of an archive at 640x360. A server does it once for the functions of a
module, and each call is a fork of it. It has one thread and nothing open but its socket, so a fork
of it is as good as a new process. It ends with whoever started it, and a fork ends with its
server's caller. After a fork that crashed, the next call has a new server.

A call travels as a pickle, in a file. What comes back is lines of JSON on a pipe that this call
alone has: nothing is unpickled that comes from a process that read a stranger's file, and an answer
that comes late reaches nobody. What libraries print goes to another file, and is not read.
"""

import atexit
import contextlib
import gc
import json
import os
import pickle
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from typing import IO, Any, NoReturn, Protocol

import av
import numpy as np
import psutil

from epic100.base.errors import DiskError, EpicError
from epic100.base.machine import limit_process, thread_states

POLL_SECONDS = 0.2
# The limits count computing time, which the kernel measures. A process that waits computes nothing.
# So when PATIENCE times a limit has passed on the clock, its state is looked up LOOKS times.
PATIENCE = 10
LOOKS = 20
START_SECONDS = 600.0  # A start waits for the disk that has the packages, not for the file.
END_SECONDS = 5.0  # A server has this long to end its fork and itself.
# A result has at most so many bytes. The index of an hour of video takes some MiB.
LARGEST = 2**28
# No decoder sends these signals. SIGBUS means that a page of a program or library cannot be read
# from the disk.
FOREIGN = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGBUS)
EXIT_CODE = struct.Struct("i")  # The server sends the exit code of a fork as a C integer.
COMMAND = (sys.executable, "-P", "-c", "from epic100.base import guarded; guarded.serve()")


class FileError(EpicError):
    """The file is at fault. The text says how, without its path."""


class ProcessError(EpicError):
    """The call failed for a reason that is not the file's fault."""


class Limits(Protocol):
    """Seconds without progress, and MiB of address space (0: no limit), as in `ScanLimits`."""

    stall_seconds: float
    memory_mib: int


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
        FileError: The file is at fault.
        ProcessError: The call failed and the file is not at fault.
    """
    if _in_a_call:  # The limits of the outer call hold.
        return function(*arguments, progress=progress)
    with tempfile.TemporaryFile() as order, tempfile.TemporaryFile() as output:
        # `serve` takes the folder, and gives the other items to `_make_call`.
        pickle.dump(
            (
                os.getcwd(),
                limits.stall_seconds,
                seconds,
                limits.memory_mib,
                function,
                arguments,
            ),
            order,
        )
        order.seek(0)
        server = _free_server(function.__module__)
        report: dict[str, Any] = {}
        try:
            report = _wait_for_report(server, server.give(order, output), limits, seconds, progress)
        finally:
            # After an error the state of the server is unknown, so only a good one is used again.
            if report.get("code") == 0:
                _idle[function.__module__].append(server)
            else:
                server.end()
    return _outcome(report, limits, seconds)


def _wait_for_report(
    server: "_Server",
    pipe: int,
    limits: Limits,
    seconds: float,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Collect the messages of a call until its process has ended, and raise if it is overdue.

    Returns:
        The messages as one dict, such as {"pid": 71, "frames": 64, "value": [1, 2], "code": 0}. A
        key is missing if its message did not come:

        `pid`       The id of the fork, once it has started.
        `frames`    The number of frames done.
        `last`      Whether the limit on the whole time ends the fork next, not that on stalling.
        `value`     The result of the function.
        `fault`     A text in place of a result.
        `fault_of`  "file", "disk", "memory" or "us": whose fault it is.
        `code`      The exit code of the fork, or of a server that has ended.
    """
    report: dict[str, Any] = {}
    buffer = bytearray()
    frames = 0
    begun = last_progress = time.monotonic()
    with os.fdopen(pipe, "rb", buffering=0) as answers:
        os.set_blocking(pipe, False)
        while "code" not in report:
            channel = server.socket.fileno()
            readable, _, _ = select.select([pipe, channel], [], [], POLL_SECONDS)
            if channel in readable:  # The loop below still reads what the fork has written.
                report["code"] = server.code()
            while data := answers.read(1 << 20) or b"":
                buffer += data
                if len(buffer) > LARGEST:
                    raise FileError(
                        f"reading it failed: its result has more than {LARGEST >> 20} MiB"
                    )
            # An incomplete line stays in the buffer. Splitting copies the buffer, so this is done
            # only if it holds the end of a line.
            *lines, buffer = buffer.split(b"\n") if b"\n" in buffer else [buffer]
            for line in lines:
                report |= _read_message(line)
            # The start of the fork, which sends its pid first, counts as progress.
            if report.get("frames", 0) > frames or ("pid" in report and last_progress == begun):
                frames = max(report.get("frames", 0), frames)
                last_progress = time.monotonic()
            progress(frames)
            if "code" not in report:
                now = time.monotonic()
                _raise_if_overdue(report, limits, seconds, now - begun, now - last_progress)
    return report


def _raise_if_overdue(
    report: dict[str, Any], limits: Limits, seconds: float, passed: float, silent: float
) -> None:
    """Raise an error if a process had far more time than it may need; it names whose fault that is.

    Args:
        report: The messages of the call so far (`_wait_for_report`).
        limits: Limits on stalling and memory.
        seconds: Limit on the seconds of computing in all.
        passed: Seconds on the clock since the call.
        silent: Seconds on the clock since the last progress.

    Raises:
        FileError: The process hangs on the file.
        ProcessError: The process did not start, or the machine is too busy.
    """
    if "pid" not in report:
        if passed > START_SECONDS:
            raise ProcessError(f"its process did not start: not within {START_SECONDS:g} s")
        return
    stalled = silent > PATIENCE * limits.stall_seconds
    if not stalled and passed <= PATIENCE * seconds:
        return
    asleep_count = 0
    # A process that hangs may still wake for a moment, again and again, so one look is not enough.
    for _ in range(LOOKS):
        states, computed = thread_states(report["pid"])
        asleep_count += states == {psutil.STATUS_SLEEPING}
        time.sleep(POLL_SECONDS / LOOKS)
    # A process that sleeps most of the time could compute but hangs on the file. Any other one
    # wants to compute, and only gets no core, memory or disk.
    if 2 * asleep_count > LOOKS:
        raise FileError(_too_long(limits, seconds, is_total=not stalled))
    raise ProcessError(
        f"its process had {computed:.0f} s of the last {passed:.0f} s to work: the cores, the "
        "memory or the disk of this machine are too busy"
    )


def _too_long(limits: Limits, seconds: float, is_total: bool) -> str:
    """Say which limit was exceeded: the one on the whole time, or the one on stalling."""
    total_text = f"not read within {seconds:g} s"
    return total_text if is_total else f"no progress in {limits.stall_seconds:g} s"


def _outcome(report: dict[str, Any], limits: Limits, seconds: float) -> Any:
    """Return the result of a call that has ended, or raise the error that it ended with.

    Args:
        report: All messages of the call (`_wait_for_report`).
        limits: Limits on stalling and memory, for messages.
        seconds: Limit on the seconds of computing in all, for messages.
    """
    # The surest sign comes first: a result, then what the process itself has sent. The exit code is
    # asked last. A signal from outside may also come before the process has sent its `pid`.
    code = report["code"]
    # The message of an error is one line.
    fault = " ".join(report.get("fault", "").split())
    if code == 0 and "value" in report:
        return report["value"]
    match report.get("fault_of"):
        case "us":
            raise ProcessError(
                f"an error of ours, not of the file; please report it:\n{report['fault']}"
            )
        case "file":
            raise FileError(fault)
        case "disk":
            raise ProcessError(fault)
        case "memory":
            raise FileError(f"reading it asks for more than {limits.memory_mib} MiB of memory")
    if -code in FOREIGN:
        raise ProcessError(
            f"its process was ended from outside ({_signal_name(-code)}): out of memory, or by hand"
        )
    if "pid" not in report:
        raise ProcessError(f"its process did not start: {fault or f'exit code {code}'}")
    if -code == signal.SIGXCPU:
        raise FileError(_too_long(limits, seconds, is_total=report.get("last", False)))
    if code < 0:
        raise FileError(f"reading it crashed ({_signal_name(-code)})")
    if code > 0:
        raise FileError(f"reading it failed: exit code {code}")
    raise ProcessError("its process left no result")


def _signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGSEGV; real-time signals have none: `signal 40`."""
    names = {member.value: member.name for member in signal.Signals}
    return names.get(number, f"signal {number}")


class _Server:
    """A process that runs `serve`, and this side of the socket to it.

    Attributes:
        socket: This side of the socket.
        process: The process.

    Raises:
        ProcessError: The process does not start.
    """

    def __init__(self) -> None:
        """Start the process, with one end of the socket as its stdin."""
        self.socket, server_end = socket.socketpair()
        # The server can import what this process can. NumPy's library OpenBLAS would start a thread
        # for each core, each with memory of its own, and would not use them. Snakemake
        # sets the variable for this to the threads of the rule, so it is set anew.
        path = os.pathsep.join(filter(None, sys.path))
        env = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
        try:
            with server_end:
                self.process = subprocess.Popen(
                    COMMAND,
                    stdin=server_end.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=env,
                )
        except OSError as error:
            # Nothing else closes it, as no server is returned.
            self.socket.close()
            raise ProcessError(f"{COMMAND[0]} does not start: {error.strerror}") from error

    def give(self, order: IO[bytes], output: IO[bytes]) -> int:
        """Send a call to the server; return the pipe on which the call is answered.

        Args:
            order: A file with the pickled call.
            output: A file for what libraries print during the call.
        """
        answers, server_end = os.pipe()
        with contextlib.suppress(OSError):  # If the server has ended, `code` reports it next.
            socket.send_fds(self.socket, [b"!"], [order.fileno(), server_end, output.fileno()])
        os.close(server_end)
        return answers

    def code(self) -> int:
        """Return the exit code of the fork, or of the server itself if it has ended."""
        # A server that has ended may have left the connection broken.
        with contextlib.suppress(ConnectionError):
            if data := self.socket.recv(EXIT_CODE.size):
                (exit_code,) = EXIT_CODE.unpack(data)
                return int(exit_code)
        return self.process.wait()

    def end(self) -> None:
        """End the server and its fork: the closed socket tells the server to do so."""
        self.socket.close()
        with self.process as process:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:  # It hangs, or its fork waits for a disk.
                process.kill()


# Servers are kept by the module of the functions that they call. A server of another module may
# have imported so much that the limit on memory is reached before a call begins.
_idle: dict[str, list[_Server]] = defaultdict(list)
_in_a_call = False
os.register_at_fork(after_in_child=_idle.clear)  # A server is for one process.


def _free_server(module: str) -> _Server:
    """Take an idle server for functions of this module out of `_idle`, or start a new one."""
    while _idle[module]:
        with contextlib.suppress(IndexError):  # Another thread took the last one.
            server = _idle[module].pop()
            if server.process.poll() is None:
                return server
            server.end()
    return _Server()


@atexit.register
def end_servers() -> None:
    """End all idle servers; this also happens when this process ends."""
    for servers in _idle.values():
        while servers:
            servers.pop().end()


def serve() -> None:
    """Run as a server: make each call that comes through the socket on stdin, in a fork.

    The server ends when the caller closes the socket.
    """
    # Ctrl-C is for the caller, which ends this server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    av.logging.set_level(None)
    caller = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    with contextlib.suppress(ConnectionError):  # The caller is gone.
        # The second item holds the descriptors of three files. It is empty if the caller has closed
        # the socket.
        while descriptors := socket.recv_fds(caller, 1, 3)[1]:
            _serve_call(caller, *descriptors)


def _serve_call(caller: socket.socket, order: int, answers: int, output: int) -> None:
    """Make one call in a fork, wait for its end, and send its exit code.

    Args:
        caller: The socket to the caller.
        order: Descriptor of a file with the pickled call: the folder and the arguments of
            `_make_call` after the first. It is closed here, as the other two are.
        answers: Descriptor of the pipe for messages.
        output: Descriptor of the file that takes what the fork writes to stderr.

    Raises:
        Exception: The call cannot be unpickled. This ends the server.
        ConnectionError: The caller is gone.
    """
    try:
        with os.fdopen(order, "rb") as file:
            folder, *call_arguments = pickle.load(file)
    except Exception as error:
        _send(answers, fault=f"{type(error).__name__}: {error}")
        raise
    # Without this, the first garbage collection of a fork writes to all objects, and so copies
    # their memory.
    gc.freeze()
    # The fork holds one end for as long as it lives. So the other end becomes readable when the
    # fork ends.
    read_end, held_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        caller.close()
        os.dup2(output, 2)
        os.chdir(folder)  # The caller may have changed its folder.
        _make_call(answers, *call_arguments)  # It ends the fork, and never returns.
    for descriptor in (held_end, answers, output):
        os.close(descriptor)
    readable, _, _ = select.select([caller.fileno(), read_end], [], [])
    if caller.fileno() in readable:
        os.kill(child, signal.SIGKILL)  # The call is given up.
    _, status = os.waitpid(child, 0)
    os.close(read_end)
    caller.sendall(EXIT_CODE.pack(os.waitstatus_to_exitcode(status)))


def _make_call(
    answers: int,
    stall_seconds: float,
    total_seconds: float,
    memory_mib: int,
    function: Callable[..., Any],
    arguments: tuple,
) -> NoReturn:
    """Make a call in the fork, send the result or the fault, and end the fork.

    Args:
        answers: The pipe for messages.
        stall_seconds: Limit on the seconds of computing without progress.
        total_seconds: Limit on the seconds of computing in all.
        memory_mib: Limit on the address space; 0 means none.
        function: The function to call.
        arguments: Its arguments.
    """
    global _in_a_call
    _in_a_call = True  # Calls within this one are made here, in the same process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The count begins below 0, so that `progress(0)` sets the first limit.
    frames_so_far = -1

    def progress(frames: int) -> None:
        """Allow `stall_seconds` more of computing after progress, up to `total_seconds`."""
        nonlocal frames_so_far
        if frames > frames_so_far:
            frames_so_far = int(frames)
            cpu_deadline = time.process_time() + stall_seconds
            # The limit is in whole seconds of CPU time since the process began, so it is moved on
            # at each progress and rounded up.
            limit_process({resource.RLIMIT_CPU: int(min(cpu_deadline, total_seconds)) + 1})
            # The caller learns which limit ends the process if it makes no further progress.
            _send(answers, frames=frames_so_far, last=cpu_deadline > total_seconds)

    limit_process({resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: memory_mib * 2**20 or sys.maxsize})
    _send(answers, pid=os.getpid())
    try:
        progress(0)
        _send(answers, value=function(*arguments, progress=progress))
    except av.error.FFmpegError as error:  # This comes first, since some are an OSError too.
        if isinstance(error, MemoryError):
            _send(answers, fault_of="memory")
        else:
            why = error.strerror or type(error).__name__
            _send(answers, fault=f"reading it failed: {why}", fault_of="file")
    except (DiskError, OSError) as error:
        _send(answers, fault=str(error), fault_of="disk")
    except EpicError as error:
        _send(answers, fault=str(error), fault_of="file")
    except MemoryError:
        _send(answers, fault_of="memory")
    except Exception:
        _send(answers, fault=traceback.format_exc(), fault_of="us")
    os._exit(0)  # The fork must not go on with the server's loop.


def _send(answers: int, **message: object) -> None:
    """Write a message of plain values and arrays to the pipe, as one line of JSON."""
    text = memoryview(json.dumps(message, default=np.ndarray.tolist).encode() + b"\n")
    while text:
        text = text[os.write(answers, text) :]


def _read_message(line: bytes | bytearray) -> dict[str, Any]:
    """Read one line of JSON.

    Raises:
        FileError: The line is no message, and what the process has read may have made it so.
    """
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError("reading it failed: its result cannot be read") from error
