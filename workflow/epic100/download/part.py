"""An incomplete download: `{name}.part` beside the file, until all bytes have arrived."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from epic100.base.atomic import open_plain, writing
from epic100.base.errors import EpicError
from epic100.base.folders import lock, other_writers

_BUFFER = 1 << 17  # A killed process loses at most this many bytes.


def part_path(target: Path) -> Path:
    """Return the path `{name}.part` that keeps the bytes of `target` until they are verified."""
    return target.with_name(f"{target.name}.part")


class Part:
    """An open `.part` file, which has the bytes of a download so far.

    Attributes:
        target: The path of the finished download.
        path: The path of the `.part` file.
        write: The function that appends bytes.
    """

    def __init__(self, target: Path, file: BinaryIO):
        """Wrap the open `.part` file of `target`.

        Args:
            target: The path of the finished download.
            file: The `.part` file, open for appending.
        """
        self.target, self.path, self._file = target, part_path(target), file
        self.write = file.write

    @property
    def size(self) -> int:
        """Number of bytes received so far."""
        return self._file.tell()

    def require_room(self, count: int) -> None:
        """Raise EpicError if the disk has no room for `count` more bytes."""
        free = shutil.disk_usage(self.path.parent).free
        if count > free:
            raise EpicError(
                f"{self.target}: {count / 1e6:.0f} MB are to come and {free / 1e6:.0f} MB are "
                f"free; make room, then run again: it goes on from {self.size} bytes"
            )

    def flush(self) -> None:
        """Write all received bytes to the disk, and wait until they are there."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def restart(self) -> None:
        """Discard all received bytes."""
        self._file.seek(0)
        self._file.truncate()

    def finish(self) -> None:
        """Wait until all bytes are on the disk (`flush`), and rename the part to its target."""
        self.flush()
        os.replace(self.path, self.target)


@contextmanager
def claim(target: Path) -> Iterator[Part]:
    """Open the `.part` file of a download for this process alone.

    Args:
        target: The path of the finished download.

    Yields:
        The part, with the bytes of an earlier attempt if there are any.

    Raises:
        EpicError: Another process has it open, or another user made it or can write it.
        DiskError: The bytes cannot be written to the disk. Those written before are kept.
    """
    path = part_path(target)
    if os.path.lexists(path) and (other_users := other_writers(path, group=False)):
        raise EpicError(
            f"{path}: {other_users} can write it, and so choose bytes of the file; move it away, "
            "and run again: the download begins anew"
        )
    with (
        writing(path),
        open(open_plain(path, os.O_WRONLY | os.O_APPEND), "ab", buffering=_BUFFER) as file,
    ):
        # If another process has finished in the meantime, this file has its final name by now.
        if not (
            lock(file, waits=False) and path.exists() and os.path.samefile(path, file.fileno())
        ):
            raise EpicError(f"{path}: another process downloads this file; run again when it ended")
        yield Part(target, file)
