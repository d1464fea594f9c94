"""A video file read so that a failing disk is never taken for a damaged video.

FFmpeg goes on after a read that failed, or takes it for the file's end; what comes out is a video
that looks cut or spoilt. So the scan reads the bytes itself: a read that the disk refuses is tried
again, and then ends the scan of that file with an error of the disk.
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from epic100.base.errors import DiskError

RETRY_SECONDS = (0.1, 1.0, 5.0)  # waits before a further try: a disk over the network may come back
# What an open may fail with since the file is what it is, not since the disk fails.
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
    """The result of `action`, tried again where the disk refuses it.

    Raises DiskError, or the OSError itself where it is the file's (`OF_THE_FILE`).
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
                    "disk is at fault, not the video: run again, or copy the file anew"
                ) from error
        time.sleep(seconds)


class WatchedFile:
    """A file open for reading, with the methods that `av.open` asks of one.

    Raises OSError where it cannot be opened for what it is, DiskError where the disk fails.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.name = str(path)  # FFmpeg looks at its suffix
        self._position = 0
        self._file = insist(path, "opening", lambda: os.open(path, os.O_RDONLY))
        self.size = insist(path, "asking for its size", lambda: os.fstat(self._file).st_size)

    def read(self, count: int) -> bytes:
        """At most `count` bytes from here on."""
        data = self.read_at(self._position, count)
        self._position += len(data)
        return data

    def read_at(self, position: int, count: int) -> bytes:
        """At most `count` bytes from `position` on, whatever was read before."""
        place = f"reading at byte {position}"
        return insist(self.path, place, lambda: os.pread(self._file, count, position))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file. One before its start, as spoilt files ask for, is -EINVAL."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            return -errno.EINVAL  # FFmpeg takes it as the system's own answer
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Where in the file this is."""
        return self._position

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
