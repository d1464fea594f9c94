"""Read a video file so that a failing disk is never mistaken for a damaged video.

FFmpeg continues after a failed read, or takes it for the end of the file. The result looks like a
truncated or corrupted video. So the scan reads the bytes itself. If the disk refuses a read, the
scan tries again, and then stops with an error about the disk.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from epic100.base.errors import DiskError

if TYPE_CHECKING:
    import hashlib

PIECE = 1 << 20  # bytes of a file that are hashed at once
RETRY_SECONDS = (0.1, 1.0, 5.0)  # waits between tries: a network disk may come back
# Errors of an open that are about the file, not about a failing disk.
OF_THE_FILE = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
}
Value = TypeVar("Value")


def insist(path: str | os.PathLike, doing: str, action: Callable[[], Value]) -> Value:
    """Run `action`; try again if the disk refuses it.

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
    waits = iter(RETRY_SECONDS)
    while True:
        try:
            return action()
        except OSError as error:
            if error.errno in OF_THE_FILE:
                raise
            seconds = next(waits, None)
            if seconds is None:
                raise DiskError(
                    f"{path}: {doing} failed {len(RETRY_SECONDS) + 1} times: {error.strerror}; the "
                    "disk is at fault, not the file: run again, or copy the file anew"
                ) from error
        time.sleep(seconds)


def feed(
    hasher: "hashlib._Hash",
    path: str | os.PathLike,
    watch: Callable[[int], None] | None = None,
) -> str:
    """Add the bytes of a file to a hash.

    Args:
        hasher: The hash, of `hashlib`.
        path: The file.
        watch: Called with the size in bytes of every piece that was read.

    Returns:
        The digest in lower-case hex.

    Raises:
        OSError: The file cannot be opened, for a reason of its own.
        DiskError: The disk fails, also when it is tried again.
    """
    with contextlib.closing(WatchedFile(path)) as file:
        while piece := file.read(PIECE):
            hasher.update(piece)
            if watch:
                watch(len(piece))
    return hasher.hexdigest()


class WatchedFile:
    """A file open for reading, with the methods that `av.open` needs.

    Raises:
        OSError: The file cannot be opened, for a reason of its own.
        DiskError: The disk fails.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.name = str(path)  # FFmpeg looks at its suffix
        self._position = 0
        self._file = insist(path, "opening", lambda: os.open(path, os.O_RDONLY))
        self.size = insist(path, "asking for its size", lambda: os.fstat(self._file).st_size)

    def read(self, count: int) -> bytes:
        """Read at most `count` bytes from the current position."""
        data = self.read_at(self._position, count)
        self._position += len(data)
        return data

    def read_at(self, position: int, count: int) -> bytes:
        """Read at most `count` bytes from `position`, without moving the current position."""
        place = f"reading at byte {position}"
        return insist(self.path, place, lambda: os.pread(self._file, count, position))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position. One before the start (corrupted files ask for it) gives -EINVAL."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            return -errno.EINVAL  # FFmpeg treats it like the system's own error
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The current position in bytes."""
        return self._position

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # all that was wanted is read
            os.close(self._file)
