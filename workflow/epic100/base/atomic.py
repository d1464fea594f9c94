"""Outputs appear whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epic100.base.errors import EpicError

# What the kernel says where no more can be written: disk, quota and limit of a file's size.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(EpicError):
    """Disk, quota or limit of a file's size is reached; names the file not written."""


@contextmanager
def atomic_path(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on failure.

    The temporary name keeps the suffix, since writers (PyAV, torch) choose a format by it. With
    `durable` the file is on the disk before it gets its name, so that it survives a power cut.
    Raises DiskFullError where the disk or the quota is full; the file it names is the outermost.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, target)
        if durable:
            _sync(target.parent)
    except Exception as error:
        own_words = isinstance(error, EpicError) and not isinstance(error, DiskFullError)
        reason = _full(error)
        if own_words or reason is None:
            raise
        raise DiskFullError(
            f"{target}: not written: {reason.strerror}; make room and run again, what is finished "
            "is kept"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _full(error: BaseException | None) -> OSError | None:
    """The error of a full disk behind `error`: torch raises a RuntimeError of its own over it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__context__
    return None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
