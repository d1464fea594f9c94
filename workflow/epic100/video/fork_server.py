"""Start a process for each video as a fork of one that has imported all it needs.

To start Python and import PyAV, NumPy and the scan takes 0.2 s of computing, as much as 5 s of a
small video. A server does it once. Forks share nothing with each other: what a decoder does to
its own memory ends with its process. A server whose fork failed is not used again.

A server has one thread and nothing open but its pipes, so a fork of it is as good as a new process.
Its stdin is a socket: it reads an order, which is a line of JSON, answers with the pid of the fork
and, once that has ended, with its exit code. If the socket is closed, since the scan gives the
video up or was killed itself, the server kills its fork and ends.
"""

import contextlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from epic100.video.decoder_process import ProcessError, last_line, open_process

_ORDER = 1 << 20  # bytes, far above those of any order


def arguments_of_orders() -> list[str]:
    """Serve orders; return, in a fork for each, its arguments. Called in the server."""
    while order := os.read(0, _ORDER):
        ends, held = os.pipe()  # the fork holds one end for as long as it lives
        child = os.fork()
        if not child:
            os.close(ends)
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), 0)
            return list(json.loads(order))
        os.close(held)
        with contextlib.suppress(BrokenPipeError):  # the scan is gone: the select says so, too
            os.write(0, b"%d\n" % child)
        if 0 in select.select([0, ends], [], [])[0]:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(ends)
        with contextlib.suppress(BrokenPipeError):
            os.write(0, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.write(1, b"\n")  # wakes whoever waits for output of the fork
    sys.exit()


class ForkServers:
    """Servers of one command, as many as forks that are alive at once. They end with the block.

    Args:
        command: Program and arguments of a process that calls `arguments_of_orders`.
        seconds: A server that takes longer than this to start a fork has failed.
    """

    def __init__(self, command: Sequence[str], seconds: float):
        self._command, self._seconds = command, seconds
        self._idle: list[Fork] = []

    def __enter__(self) -> "ForkServers":
        return self

    def __exit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop().close()

    def fork(self, arguments: Sequence[str]) -> "Fork":
        """Start a process with these arguments. Raises ProcessError.

        Leaving its `with` block ends it.
        """
        try:
            fork = self._idle.pop()
        except IndexError:
            fork = Fork(self._command, self._seconds, self._idle)
        fork.start(arguments)
        return fork


class Fork:
    """A fork and its server, with the part of `subprocess.Popen` that `run_decoder` uses."""

    def __init__(self, command: Sequence[str], seconds: float, idle: "list[Fork]"):
        self._socket, theirs = socket.socketpair()
        self._idle, self._seconds = idle, seconds
        try:
            with theirs:
                self._server = open_process(command, theirs.fileno())
        except OSError as error:
            self._socket.close()
            raise ProcessError(f"{command[0]} does not start: {error.strerror}") from error
        self.stdout, self.stderr = self._server.stdout, self._server.stderr
        self.pid = 0
        self.returncode: int | None = None

    def start(self, arguments: Sequence[str]) -> None:
        """Give the server an order. Raises ProcessError."""
        self.returncode = None
        try:
            self._socket.sendall(json.dumps(arguments).encode() + b"\n")
            self.pid = self._answer(self._seconds)
        except (OSError, ValueError) as error:  # it takes too long, or has ended
            said = last_line(self.close()) or "it ended at once"
            if isinstance(error, TimeoutError):
                said = f"not within {self._seconds:g} s"
            raise ProcessError(f"its process did not start: {said}") from error

    def __enter__(self) -> "Fork":
        return self

    def __exit__(self, *_: object) -> None:
        # What a failed fork may have left behind, such as words in a pipe, is not for the next one.
        if self.returncode == 0 and not _has_news(self.stdout, self.stderr):
            self._idle.append(self)
        else:
            self.close()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None if it has not ended."""
        if self.returncode is None and _has_news(self._socket):
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises TimeoutExpired."""
        if self.returncode is None:
            try:
                self.returncode = self._answer(timeout)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self._server.args, timeout or 0.0) from None
            except (OSError, ValueError):
                self.returncode = self._server.wait()  # it was killed, and its fork soon ends
        return self.returncode

    def kill(self) -> None:
        """End it if it is alive; its server ends too."""
        if self.returncode is None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> bytes:
        """End the server; returns its last words on stderr."""
        self._socket.close()
        with self._server as server:
            server.kill()
            server.wait()
            assert server.stderr is not None, "it is a pipe"
            os.set_blocking(server.stderr.fileno(), False)  # its fork may hold the other end
            return server.stderr.read() or b""

    def _answer(self, timeout: float | None) -> int:
        """The next number from the server. Raises OSError or ValueError if there is none."""
        self._socket.settimeout(timeout)
        text = b""
        while not text.endswith(b"\n") and (piece := self._socket.recv(1)):
            text += piece
        return int(text)


def _has_news(*sources: IO[bytes] | socket.socket | None) -> bool:
    """Whether one of these can be read at once."""
    with selectors.DefaultSelector() as selector:
        for source in sources:
            if source is not None:
                selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(0))
