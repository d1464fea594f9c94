"""The half of a file that has come so far: `{name}.part` beside the file, until it is whole."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from epic100.base.atomic import atomic_path, open_plain
from epic100.base.errors import EpicError

NOTES: dict[str, type] = {"length": int, "validator": str}  # either may be None, and lack then
LARGEST_NOTES = 10_000  # bytes
_BUFFER = 1 << 17  # what a killed process loses at most


def part_path(target: Path) -> Path:
    """Where the bytes of `target` wait until they are whole and verified."""
    return target.with_name(f"{target.name}.part")


def part_state(target: Path) -> tuple[int, int | None]:
    """(bytes that have come, bytes that the server promised or None), as other processes see it."""
    part = part_path(target)
    try:
        return part.stat().st_size, _notes(part).get("length")
    except OSError:
        return 0, None


class Part:
    """An open `.part` file: `size` bytes have come; `length` and `validator` (ETag or date) are
    what the server said of the whole."""

    def __init__(self, target: Path, file: BinaryIO):
        self.target, self.path, self._file = target, part_path(target), file
        notes = _notes(self.path)
        self.length: int | None = notes.get("length")
        self.validator: str | None = notes.get("validator")

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._file.tell()

    def promise(self, length: int | None, validator: str | None) -> None:
        """Note what the server says of the whole. Raises EpicError where the disk is too small."""
        self.length, self.validator = length, validator
        free = shutil.disk_usage(self.path.parent).free
        if length is not None and length - self.size > free:
            raise EpicError(
                f"{self.target}: {(length - self.size) / 1e6:.0f} MB are to come and "
                f"{free / 1e6:.0f} MB are free; make room, then run again: it goes on from "
                f"{self.size} bytes"
            )
        with atomic_path(_notes_path(self.path)) as temporary:
            temporary.write_text(json.dumps({"length": length, "validator": validator}))

    def append(self, data: bytes) -> None:
        """Write what came. Raises EpicError where the disk does not take it."""
        try:
            self._file.write(data)
        except OSError as error:
            raise self._unwritable(error) from error

    def flush(self) -> None:
        """Put on disk what came."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def restart(self) -> None:
        """Throw away what came."""
        self._file.seek(0)
        self._file.truncate()
        self.length = self.validator = None
        _notes_path(self.path).unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name."""
        self.flush()
        os.replace(self.path, self.target)
        _notes_path(self.path).unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> EpicError:
        advice = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see to the disk"
        return EpicError(f"{self.path}: {error.strerror}; {advice}, then run again: it goes on")


@contextmanager
def claim(target: Path) -> Iterator[Part]:
    """The part of `target`, for this process alone. Raises EpicError where another one has it."""
    path = part_path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open_plain(path, os.O_WRONLY | os.O_APPEND)
    with open(handle, "ab", buffering=_BUFFER) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have finished in between: this would then be the finished file.
            mine = os.path.samestat(os.fstat(file.fileno()), path.lstat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError:
            mine = True  # a file system without locks
        if not mine:
            raise EpicError(f"{path}: another process downloads this file; run again when it ended")
        yield Part(target, file)


def _notes_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _notes(part: Path) -> dict:
    path = _notes_path(part)
    try:
        if path.is_file() and path.stat().st_size <= LARGEST_NOTES:
            notes = json.loads(path.read_text(encoding="utf-8"))
            return {k: notes[k] for k, kind in NOTES.items() if isinstance(notes[k], kind)}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        pass
    return {}
