"""Reads from a disk that may fail: they are tried again, and the error blames the disk.

FFmpeg and zipfile take a failed read for the end of a file, which then looks cut or damaged. So a
`WatchedFile` gives them the bytes.
"""

import errno
import hashlib
import io
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from epic100.base.errors import CONTROL, BrokenFile, DiskError, EpicError, shown

# Seconds between the tries of a read that fails, since a network disk may come back.
WAITS = (0.1, 1.0, 5.0)
# These errors are about the file itself. Any other error is the disk's or the machine's.
OF_THE_FILE = {
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
}
# Number of bytes that are read at once for a checksum.
PIECE = 1 << 20
# The maximum number of bytes of a text file.
LARGEST_TEXT = 64 << 20
# Hexadecimal digits of a checksum, by its algorithm.
DIGITS = {"md5": 32, "sha256": 64, "git": 40}
Value = TypeVar("Value")


def retry_disk(path: str | os.PathLike, doing: str, action: Callable[[], Value]) -> Value:
    """Run an action on a file; run it again after a pause if the disk fails.

    Args:
        path: The file, for the error.
        doing: What is being done, for the error.
        action: What to run.

    Returns:
        The result of `action`.

    Raises:
        DiskError: All tries failed.
        OSError: The error is about the file itself (`OF_THE_FILE`).
    """
    for seconds in (0, *WAITS):
        if seconds:
            time.sleep(seconds)
        try:
            return action()
        except OSError as error:
            if error.errno in OF_THE_FILE:
                raise
            failure = error
    raise DiskError(
        f"{path}: {doing} failed {len(WAITS) + 1} times: {failure.strerror}; the disk is at fault, "
        "not the file: run again, or copy the file anew"
    ) from failure


def read_text(path: str | os.PathLike, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Read a text file of at most 64 MiB.

    Args:
        path: The file.
        encoding: As for `open`; "utf-8-sig" drops a byte order mark.
        errors: As for `open`.

    Raises:
        BrokenFile: The path is a pipe or a device, or the file is larger than any text of this
            field (64 MiB).
        DiskError: The disk fails.
        OSError: There is no such file, or this user may not read it.
        UnicodeDecodeError: The file is not in this encoding.
    """
    with WatchedFile(path) as raw, io.BufferedReader(raw) as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise BrokenFile(f"{path}: over {LARGEST_TEXT >> 20} MiB; expected a text of this workflow")
    return io.TextIOWrapper(io.BytesIO(data), encoding, errors).read()


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        BrokenFile: The file is no JSON. See `read_text` for other errors.
    """
    try:
        return json.loads(read_text(path))
    except EpicError:
        raise
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"{path}: no JSON ({str(error)[:100]}); make it again") from error


@contextmanager
def reading(path: str | os.PathLike) -> "Iterator[io.BufferedReader[WatchedFile]]":
    """Open a file for a library that may hide a failed read, and report that read after the block.

    Raises:
        FileNotFoundError: There is no such file.
        DiskError: The file cannot be opened, or the block failed after a read that failed.
    """
    raw = None
    try:
        with WatchedFile(path) as raw, io.BufferedReader(raw) as file:
            yield file
    except FileNotFoundError:
        raise
    except Exception as error:
        # The library may have turned a failed read into an error about the file's content.
        failure = getattr(raw, "failure", None) or error
        if isinstance(failure, OSError) and failure.errno:
            remedy = "check the disk and the permissions, then run again"
            if failure.errno == errno.EISDIR:
                remedy = "expected a file"
            raise DiskError(f"{path}: cannot be read: {failure.strerror}; {remedy}") from error
        # A failed read that has been tried again is a DiskError, which has a message already.
        if failure is not error:
            raise failure from error
        raise


class WatchedFile(io.RawIOBase):
    """A file open for reading that remembers a failed read; for `av.open` and `io.BufferedReader`.

    Attributes:
        name: The path as text; FFmpeg reads the suffix.
        size: Bytes of the file when it was opened.
        descriptor: The descriptor of the open file; -1 after a read that failed.
        failure: The error of the last read that failed; None if none did.

    Raises:
        OSError: The file cannot be opened, and the disk is not the cause (`OF_THE_FILE`).
        BrokenFile: The path is a pipe or a device.
        DiskError: The disk fails; reads raise it too.
    """

    def __init__(self, path: str | os.PathLike):
        """Open the file; try again if the disk fails."""
        self.name = str(path)
        self.failure: OSError | DiskError | None = None
        self._position, self.descriptor = 0, -1
        # A name with a line break would split the message of an error in two lines.
        if CONTROL.search(self.name):
            raise BrokenFile(f"{shown(path)}: has a line break or a control character; rename it")
        retry_disk(path, "opening", self._open)

    def readable(self) -> bool:
        """Return True: the file is open for reading."""
        return True

    def seekable(self) -> bool:
        """Return True: the position can be set."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer` from the current position; return the number of bytes."""
        data = self.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read_at(self, position: int, count: int) -> bytes:
        """Read at most `count` bytes from `position`, without moving the current position."""
        doing = f"reading at byte {position}"
        try:
            return retry_disk(self.name, doing, lambda: self._read(position, count))
        except (OSError, DiskError) as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it; return -EINVAL for a position before the start.

        Corrupted files make FFmpeg ask for such a position.
        """
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            return -errno.EINVAL  # FFmpeg treats it like the system's own error.
        self._position = start + offset
        return self._position

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            with suppress(OSError):  # A failed close loses nothing of what was read.
                os.close(self.descriptor)

    def _open(self) -> None:
        """Open the file, and set `descriptor` and `size`; reject a pipe or a device."""
        # Without O_NONBLOCK, this would wait forever for a pipe that nobody writes to.
        self.descriptor = os.open(self.name, os.O_RDONLY | os.O_NONBLOCK)
        state = os.fstat(self.descriptor)
        if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
            os.close(self.descriptor)
            # With the old number, `close` might close a file that has got the number since.
            self.descriptor = -1
            raise BrokenFile(f"{self.name}: a pipe or a device; expected a file")
        self.size = state.st_size

    def _read(self, position: int, count: int) -> bytes:
        """Read once; after a failure, close the file, so that the next try opens it anew."""
        # After a failed read the file is opened anew, since a file server may forget a descriptor.
        if self.descriptor < 0:
            self._open()
        try:
            return os.pread(self.descriptor, count, position)
        except OSError:
            os.close(self.descriptor)
            self.descriptor = -1
            raise


class HashedFile(WatchedFile):
    """A file whose md5 is computed from the bytes that FFmpeg reads anyway.

    FFmpeg reads an MP4 from start to end, except for the index. Only the bytes that it skips are
    read for the md5 alone: a short gap when FFmpeg jumps over it, the rest at the end.
    """

    def __init__(self, path: str | os.PathLike):
        """Open the file, and begin its md5 at the first byte."""
        super().__init__(path)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashed = 0  # Number of bytes from the start of the file that are in the md5.

    def read_at(self, position: int, count: int) -> bytes:
        """Read at most `count` bytes from `position`, without moving the current position.

        Bytes that follow those in the md5 are added to it. After a jump over more than `PIECE`
        bytes nothing is added, and `md5` reads the rest.
        """
        # FFmpeg has skipped the bytes after the hashed part. If they are few, they are read first,
        # since an md5 takes bytes in order.
        if self._hashed < position <= self._hashed + PIECE:
            self.read_at(self._hashed, position - self._hashed)
        data = super().read_at(position, count)
        if position <= self._hashed < position + len(data):
            self._md5.update(memoryview(data)[self._hashed - position :])
            self._hashed = position + len(data)
        return data

    def md5(self) -> str:
        """Return the md5 of the complete file, in lower-case hex; read what is missing."""
        # Each read moves `_hashed` on, until there are no more bytes.
        while self.read_at(self._hashed, PIECE):
            pass
        return self._md5.hexdigest()


@dataclass(frozen=True)
class Checksum:
    """A checksum of a file, which tables write as `md5:...`, `sha256:...` or `git:...`.

    Attributes:
        algorithm: A key of `DIGITS`. `git` is the id of a git blob.
        value: The checksum in lower-case hex.
    """

    algorithm: str
    value: str

    @classmethod
    def parse(cls, text: str, where: str) -> "Checksum":
        """Parse a text such as `md5:0123...`.

        Args:
            text: The text to read.
            where: Start of the error message.

        Raises:
            EpicError: `text` has another form.
        """
        algorithm, _, value = text.strip().lower().partition(":")
        if len(value) != DIGITS.get(algorithm) or not re.fullmatch("[0-9a-f]+", value):
            raise EpicError(
                f"{where}: checksum is {text!r}; expected md5, sha256 or git, a colon and "
                f"{', '.join(map(str, DIGITS.values()))} hexadecimal digits"
            )
        return cls(algorithm, value)

    def __str__(self) -> str:
        """Return the checksum for a message: `md5 0123...`."""
        return f"{self.algorithm} {self.value}"


def digest(path: str | os.PathLike, algorithm: str) -> Checksum:
    """Compute the checksum of a file.

    Args:
        path: The file.
        algorithm: A key of `DIGITS`. `git` is git's blob id: SHA-1 over `blob {size}`, a zero byte
            and the bytes.

    Raises:
        FileNotFoundError: There is no such file.
        EpicError: The path is no plain file, or cannot be read.
    """
    hasher = hashlib.new("sha1" if algorithm == "git" else algorithm, usedforsecurity=False)
    with reading(path) as file:
        if algorithm == "git":
            hasher.update(b"blob %d\0" % file.raw.size)  # `raw` is the WatchedFile.
        hashlib.file_digest(file, lambda: hasher)
    return Checksum(algorithm, hasher.hexdigest())
