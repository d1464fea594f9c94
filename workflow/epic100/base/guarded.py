"""Call a function on a file that may be damaged, in a process with limits on time and memory.

Faults of the file are kept apart from faults of the machine. The file is at fault (`FileError`) in
these cases; each text is the reason of an `unreadable` row:

no progress in N s                              it hangs or waits
not read within N s                             it is far slower than any decoder should be
reading it asks for more than N MiB of memory
reading it crashed (SIGSEGV)                    or another signal
reading it failed: ...                          what FFmpeg says, or what the function says

The seconds are those in which the process computes, or waits of its own will. On a machine that is
far too busy, each video would be at fault otherwise. The file is not at fault (`ProcessError`) if
the disk fails or is full, if the process does not start, if something else kills it, or if the
machine leaves it no time. Any other exception is a bug of ours, and is shown with its traceback.

To start Python and to import PyAV, NumPy and the scan takes as much computing as 5 s of a small
video. A server does it once for the functions of a module, and each call is a fork of it. Forks
share nothing with each other: what a decoder does to its own memory ends with its process. A server
has one thread and nothing open but its socket, so a fork of it is as good as a new process. It ends
with whoever started it, and a fork ends with its server's caller. After a fork that crashed, the
next call has a new server.

A call goes to a server as a pickle. What comes back is lines of JSON, in which arrays are lists:
nothing that comes from a process that read a stranger's file is unpickled. Both go through one
socket, which is also the stderr of server and fork: the last line there tells why either failed.
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
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import av
import numpy as np
import psutil

from epic100.base.errors import DiskError, EpicError
from epic100.base.machine import limit_process, thread_states

POLL_SECONDS = 0.2
PATIENCE = 10  # times a limit may pass on the clock before the machine is at fault
START_SECONDS = 600.0  # what a start waits for is the disk that has the packages, not the file
END_SECONDS = 5.0  # that a server has to end its fork and itself
LARGEST = 2**28  # bytes of a result; the index of an hour of video takes some MiB
# No decoder sends these. SIGBUS: a page of a program or library cannot be read from the disk.
FOREIGN = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGBUS)
COMMAND = (sys.executable, "-P", "-c", "from epic100.base import guarded; guarded.serve()")
_MARK = b"\x1e"  # of a line of ours, among those that a library says


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
    """Call `function(*arguments, progress=...)` in a process that ends if it exceeds its limits.

    Args:
        function: A function of a module, which the process imports. It gets a function to which it
            gives the number of frames done; only a greater number counts as progress.
        *arguments: Its arguments, which travel as a pickle.
        limits: Limits on stalling and memory.
        seconds: Limit on usable time in all.
        progress: Called with the number of frames, a few times a second. An error that
            it raises ends the call.

    Returns:
        What the function returns: what JSON has, and lists in place of arrays.

    Raises:
        FileError: The file is at fault.
        ProcessError: The call failed and the file is not at fault.
    """
    if _in_a_call:  # whose limits hold
        return function(*arguments, progress=progress)
    server, said = _free_server(function.__module__), dict[str, Any]()
    try:
        wanted = {
            resource.RLIMIT_CPU: int(seconds) + 60,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_AS: limits.memory_mib * 2**20 or sys.maxsize,
        }
        order = (os.getcwd(), wanted, function, arguments)
        server.give(order)
        said = _watched(server, limits, seconds, progress)
    finally:
        if said.get("code") == 0:
            _idle[function.__module__].append(server)
        else:
            server.end()
    return _outcome(said, limits)


def _watched(
    server: "_Server",
    limits: Limits,
    seconds: float,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """All that is said of a call: until its process has ended, or had its time."""
    said: dict[str, Any] = {}
    frames, begun, clock = 0, time.monotonic(), None
    while "code" not in said:
        said |= server.listen()
        if clock is None and "pid" in said:
            clock = _Clock(said["pid"], limits, seconds)
        if clock is None and time.monotonic() - begun > START_SECONDS:
            raise ProcessError(f"its process did not start: not within {START_SECONDS:g} s")
        goes_on = said.get("frames", 0) > frames
        frames = max(said.get("frames", 0), frames)
        progress(frames)
        if clock is not None and "code" not in said:
            clock.check(goes_on)
    return said


def _outcome(said: dict[str, Any], limits: Limits) -> Any:
    code = said["code"]
    if code == 0 and "value" in said:
        return said["value"]
    if said.get("of") == "us":
        raise ProcessError(f"an error of ours, not of the file; please report it:\n{said['fault']}")
    reason = " ".join(said.get("fault", said.get("words", "")).split()) or f"exit code {code}"
    if "MemoryError" in reason or "Cannot allocate memory" in reason:
        raise FileError(f"reading it asks for more than {limits.memory_mib} MiB of memory")
    if -code in FOREIGN:
        raise ProcessError(
            f"its process was ended from outside ({_signal(-code)}): out of memory, or by hand"
        )
    if "pid" not in said:
        raise ProcessError(f"its process did not start: {reason}")
    if code < 0:
        raise FileError(f"reading it crashed ({_signal(-code)})")
    if code > 0:
        raise FileError(f"reading it failed: {reason}")
    if said.get("of") == "file":
        raise FileError(reason)
    raise ProcessError(reason if "fault" in said else "its process left no result")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal without a name
        return f"signal {number}"


class _Clock:
    """Tells when a process has had its time.

    What counts are the seconds in which it computed, or waited of its own will: not those in which
    it waited for a core, for memory or for a disk, or was suspended. Where the system does not tell
    (macOS), all seconds count.
    """

    def __init__(self, pid: int, limits: Limits, total: float):
        self._pid, self._limits, self._total = pid, limits, total
        self._begun = self._heard = self._then = time.monotonic()
        self._used = self._used_then = self._computed = 0.0

    def check(self, goes_on: bool) -> None:
        """Look at the process. To be called often; `goes_on` after progress."""
        now = time.monotonic()
        passed, self._then = now - self._then, now
        states, computed = thread_states(self._pid)
        ran, self._computed = computed - self._computed, computed
        asleep = states == {psutil.STATUS_SLEEPING}
        self._used += passed if asleep else min(passed, max(ran, 0.0))
        if goes_on:
            self._heard, self._used_then = now, self._used
        stall = self._limits.stall_seconds
        if self._used - self._used_then > stall:
            raise FileError(f"no progress in {stall:g} s")
        if self._used > self._total:
            raise FileError(f"not read within {self._total:g} s")
        silent, total = now - self._heard, now - self._begun
        if silent > PATIENCE * stall or total > PATIENCE * self._total:
            raise ProcessError(
                f"its process had {self._used:.0f} s of the last {total:.0f} s to work: the "
                "cores, the memory or the disk of this machine are too busy"
            )


class _Server:
    """A process that runs `serve`, and this side of the socket to it. Raises ProcessError."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        # It imports what this process can. NumPy's library would start a thread a core, each with
        # memory of its own, and compute nothing; Snakemake sets this to the threads of the rule.
        path = os.pathsep.join(filter(None, sys.path))
        env = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
        try:
            with theirs:
                self._process = subprocess.Popen(
                    COMMAND, stdin=theirs.fileno(), stderr=theirs.fileno(),
                    stdout=subprocess.DEVNULL, env=env,
                )  # fmt: skip
        except OSError as error:
            self._socket.close()
            raise ProcessError(f"{COMMAND[0]} does not start: {error.strerror}") from error
        self._text = bytearray()

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def give(self, order: object) -> None:
        """Give it a call to make."""
        self._socket.settimeout(START_SECONDS)
        with contextlib.suppress(OSError):  # it hangs or has ended, as is heard next
            self._socket.sendall(pickle.dumps(order))
        self._socket.settimeout(POLL_SECONDS)

    def listen(self) -> dict[str, Any]:
        """What it and its fork say, within a moment.

        Returns:
            `pid` of the fork; `frames` done; `value`, or `fault` and what it is `of`; the last of
            other `words`, as of an error; the exit `code` of the fork, or of the server if it has
            ended.
        """
        data = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            data = self._socket.recv(1 << 20)
        if not data and not self.lives:
            return {"code": self._process.returncode}
        self._text += data
        if len(self._text) > LARGEST:
            raise FileError(f"reading it failed: its result has more than {LARGEST >> 20} MiB")
        said: dict[str, Any] = {}
        if b"\n" in data:
            *lines, self._text = self._text.split(b"\n")
            for line in lines:
                if line.startswith(_MARK):
                    said |= _read(line)
                elif line.strip():
                    said["words"] = line.decode(errors="replace").strip()
        return said

    def end(self) -> None:
        """End it and its fork."""
        self._socket.close()
        with self._process as process:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:  # it hangs, or its fork waits for a disk
                process.kill()


# By the module of the functions that they call. One of another module may have imported so much
# that the limit on memory is reached before a call begins.
_idle: dict[str, list[_Server]] = defaultdict(list)
_in_a_call = False
os.register_at_fork(after_in_child=_idle.clear)  # a server is for one process


def _free_server(module: str) -> _Server:
    while _idle[module]:
        with contextlib.suppress(IndexError):  # another thread took the last one
            server = _idle[module].pop()
            if server.lives:
                return server
            server.end()
    return _Server()


@atexit.register
def end_servers() -> None:
    """End the servers that wait for a call, as the end of this process does."""
    for servers in _idle.values():
        while servers:
            servers.pop().end()


def serve() -> None:
    """Make the calls that come through stdin, each in a fork, until it is closed: the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends this
    av.logging.set_level(None)
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    orders = channel.makefile("rb")
    with contextlib.suppress(EOFError, ConnectionError):  # who called is gone
        while True:
            order = pickle.load(orders)
            gc.freeze()  # else a fork's first collection writes to, and so copies, all there is
            ends, held = os.pipe()  # the fork holds one end for as long as it lives
            child = os.fork()
            if not child:
                os.close(ends)
                _make(channel, *order)
            os.close(held)
            if channel.fileno() in select.select([channel.fileno(), ends], [], [])[0]:
                os.kill(child, signal.SIGKILL)  # since the call is given up
            _, status = os.waitpid(child, 0)
            os.close(ends)
            _send(channel, code=os.waitstatus_to_exitcode(status))


def _make(
    channel: socket.socket,
    folder: str,
    limits: dict[int, int],
    function: Callable[..., Any],
    arguments: tuple,
) -> NoReturn:
    """Make a call, in the fork."""
    global _in_a_call
    _in_a_call = True
    limit_process(limits)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.chdir(folder)  # where the caller is by now
    _send(channel, pid=os.getpid())
    try:
        value = function(*arguments, progress=lambda frames: _send(channel, frames=int(frames)))
        _send(channel, value=value)
    except av.error.FFmpegError as error:  # first, since some are an OSError too
        why = error.strerror or type(error).__name__
        _send(channel, fault=f"reading it failed: {why}", of="file")
    except (DiskError, OSError) as error:
        _send(channel, fault=str(error), of="disk")
    except EpicError as error:
        _send(channel, fault=str(error), of="file")
    except MemoryError:
        raise  # its last line is heard
    except Exception:
        _send(channel, fault=traceback.format_exc(), of="us")
    os._exit(0)


def _send(channel: socket.socket, **message: object) -> None:
    text = json.dumps(message, default=np.ndarray.tolist)  # which takes nothing but an array
    channel.sendall(b"\n" + _MARK + text.encode() + b"\n")


def _read(line: bytes | bytearray) -> dict[str, Any]:
    try:
        return dict(json.loads(line.removeprefix(_MARK)))
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError("reading it failed: its result cannot be read") from error
