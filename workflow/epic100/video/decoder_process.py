"""Run a decoder on one file, in a process with limits on time and memory.

Faults of the file are kept apart from faults of the machine. The file is at fault in these cases;
each text is the reason of an `unreadable` row:

no progress in N s                                  it hangs or waits
not decoded within N s                              it is far slower than any decoder should be
the decoder asked for more than N MiB of memory
the decoder crashed (SIGSEGV)                       or another signal
the decoder failed: ...                             with its last line of output

The seconds are those in which the process computes, or waits of its own will (`UsableTime`). On a
machine that is far too busy, each video would be at fault otherwise.

The file is not at fault, which is an error (`ProcessError`), if the disk fails or is full, if the
process does not start, if something else kills it, or if the machine leaves it no time.
"""

import contextlib
import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import IO, NoReturn, Protocol, Self

import av

from epic100.base.errors import DiskError, EpicError
from epic100.base.machine import limit_process
from epic100.settings import ScanLimits
from epic100.video.ffmpeg import error_text
from epic100.video.usable_time import UsableTime

POLL_SECONDS = 0.2
PATIENCE = 10  # times a limit may pass on the clock before the machine is at fault
IO_EXIT = 74  # EX_IOERR of sysexits.h: the process could not read or write
# No decoder sends these. SIGBUS: a page of a program or library cannot be read from the disk.
FOREIGN = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGBUS)
_FRAMES = re.compile(rb"^frames (\d+)\n", re.MULTILINE)
_TAIL = 4000  # bytes of its last output that are kept


class DecoderProcess(Protocol):
    """A running process: a `Popen`, or a `Fork`. Leaving its `with` block lets go of it."""

    pid: int
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None if it has not ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises TimeoutExpired."""

    def kill(self) -> None:
        """End it if it is alive."""


class ProcessError(EpicError):
    """The process ended for a reason that is not the file's fault."""


@contextlib.contextmanager
def own_faults() -> Iterator[None]:
    """Wrap all work of such a process: its last line is the reason of what fails.

    It exits with `IO_EXIT` if its disk fails, with 1 for a verdict on the file.
    """
    print("frames 0", flush=True)  # shows that the process has started
    try:
        yield
    except av.error.FFmpegError as error:  # first, since some are an OSError too
        _end(error_text(error), 1)
    except (DiskError, OSError) as error:
        _end(str(error), IO_EXIT)
    except EpicError as error:
        _end(str(error), 1)


def _end(reason: str, code: int) -> NoReturn:
    print(" ".join(reason.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def open_process(
    command: Sequence[str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a process with pipes for its output. Raises OSError."""
    # NumPy's library would start a thread a core, each with memory of its own, and compute nothing.
    # Snakemake sets this to the threads of the rule.
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )


def run_decoder(
    command: Sequence[str],
    limits: ScanLimits,
    total_seconds: float,
    progress: Callable[[int], None] = lambda frames: None,
    start: Callable[[Sequence[str]], DecoderProcess] = open_process,
) -> str:
    """Run `command` until it ends or exceeds its limits.

    The process prints `frames 0` on a line of stdout once it has started (`own_faults`), then
    `frames N` as it goes on. Only a greater N counts as progress.

    Args:
        command: Program and arguments.
        limits: Limits on stalling and memory.
        total_seconds: Limit on usable time.
        progress: Called with N, a few times a second. It may raise a ProcessError, which ends the
            process.
        start: Starts the process, such as `ForkServers.fork`.

    Returns:
        Why it gave no result, or "" if it succeeded.

    Raises:
        ProcessError: The process failed and the file is not at fault.
    """
    try:
        process = start(command)
    except OSError as error:
        raise ProcessError(f"{command[0]} does not start: {error.strerror}") from error
    with process:
        try:
            _limit(process.pid, limits, total_seconds)
            verdict, started, last_words = _watch(process, limits, total_seconds, progress)
        finally:
            process.kill()
        code = process.wait()
    if verdict or code == 0:
        return verdict
    said = last_line(last_words) or f"exit code {code}"
    if "MemoryError" in said or "Cannot allocate memory" in said:
        return f"the decoder asked for more than {limits.memory_mib} MiB of memory"
    if -code in FOREIGN:
        raise ProcessError(
            f"its process was ended from outside ({_signal(-code)}): out of memory, or by hand"
        )
    if code == IO_EXIT:
        raise ProcessError(said)
    if not started and code > 0:
        raise ProcessError(f"its process did not start: {said}")
    if code < 0:
        return f"the decoder crashed ({_signal(-code)})"
    return f"the decoder failed: {said}"


def _limit(pid: int, limits: ScanLimits, total_seconds: float) -> None:
    """Set limits that hold even if this process dies. The system's own limits may be lower."""
    wanted = {resource.RLIMIT_CPU: int(total_seconds) + 60, resource.RLIMIT_CORE: 0}
    if limits.memory_mib:
        wanted[resource.RLIMIT_AS] = limits.memory_mib * 2**20
    limit_process(pid, wanted)


def last_line(words: bytes) -> str:
    """The last line that a process said, or ""."""
    return (words.decode(errors="replace").strip().splitlines() or [""])[-1]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal without a name
        return f"signal {number}"


def _watch(
    process: DecoderProcess,
    limits: ScanLimits,
    total_seconds: float,
    progress: Callable[[int], None],
) -> tuple[str, bool, bytes]:
    """Return "" or why it must be killed, whether it reported its start, and its last output."""
    usable = UsableTime(process.pid)
    begun = heard = time.monotonic()
    used_then = 0.0
    started = False
    frames, line, last_words = 0, b"", b""
    with selectors.DefaultSelector() as selector:
        for stream in filter(None, (process.stdout, process.stderr)):
            selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            events = []
            if selector.get_map():
                events = selector.select(timeout=0 if ended else POLL_SECONDS)
            elif not ended:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            for key, _ in events:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    last_words = (last_words + data)[-_TAIL:]
                else:
                    line = (line + data)[-_TAIL:]
                    counts = [int(n) for n in _FRAMES.findall(line)]
                    line = line[line.rfind(b"\n") + 1 :]
                    started = started or bool(counts)
                    if counts and max(counts) > frames:
                        frames, heard = max(counts), time.monotonic()
                        used_then = usable.seconds()
                        progress(frames)
            if not events:
                progress(frames)  # it may raise, to end the process
            now = time.monotonic()
            if ended and (not events or now - begun > total_seconds):
                return "", started, last_words
            used = usable.seconds()
            if used - used_then > limits.stall_seconds:
                return f"no progress in {limits.stall_seconds:g} s", started, last_words
            if used > total_seconds:
                return f"not decoded within {total_seconds:g} s", started, last_words
            silent, total = now - heard, now - begun
            if silent > PATIENCE * limits.stall_seconds or total > PATIENCE * total_seconds:
                raise ProcessError(
                    f"its process had {used:.0f} s of the last {total:.0f} s to work: the "
                    "cores, the memory or the disk of this machine are too busy"
                )
