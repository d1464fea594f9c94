"""Outputs appear whole or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epic100.base.errors import DiskError, EpicError

# What the kernel says where no more can be written: disk, quota and limit of a file's size.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LINKED = "a link or a pipe; expected a plain file; see who put it there, then remove it"


class DiskFullError(DiskError):
    """Disk, quota or limit of a file's size is reached; names the file not written."""


@contextmanager
def atomic_path(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on failure.

    It is a new, empty file with a name that nobody can know before: in a folder that others write
    to, a link of theirs under that name would send the output to a file of its owner's. The name
    keeps the suffix, since writers (PyAV, torch) choose a format by it. With
    `durable` the file is on the disk before it gets its name, so that it survives a power cut.
    Raises DiskFullError where the disk or the quota is full; the file it names is the outermost.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(8)}.tmp{target.suffix}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
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


def open_plain(path: str | os.PathLike, flags: int) -> int:
    """Open a plain file under a name that others can guess; returns its descriptor.

    `flags` as of os.open; a file that is not there is made. Raises EpicError where a link or a pipe
    has the name, since what is written would go elsewhere.
    """
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # a link; a pipe
            raise EpicError(f"{path}: {LINKED}") from error
        raise
    state = os.fstat(handle)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(handle)
        raise EpicError(f"{path}: {LINKED}")
    return handle
