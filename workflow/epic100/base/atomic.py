"""Outputs appear whole or not at all."""

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from epic100.base.errors import DiskError, EpicError

# What the kernel says where no more can be written: disk, quota and limit of a file's size.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LINKED = "a link or a pipe; expected a plain file; see who put it there, then remove it"


class DiskFullError(DiskError):
    """Disk, quota or limit of a file's size is reached; names the file not written."""


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on failure.

    It is a new, empty file with a name that nobody can know before: in a folder that others write
    to, a link of theirs under that name would send the output to a file of its owner's. The name
    keeps the suffix, since writers (PyAV, torch) choose a format by it. The file is on the disk
    before it gets its name, and its name before this returns: a power cut leaves the old file or
    the new one. What a killed process left behind for the same `path` is removed.
    Raises DiskFullError where the disk or the quota is full and DiskError for what else the system
    refuses; the file they name is the outermost.
    """
    target = Path(path)
    temporary, handle = None, None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _new_beside(target)
        _remove_left(target, temporary)
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    except Exception as error:
        own_words = isinstance(error, EpicError) and not isinstance(error, DiskFullError)
        reason = None if own_words else _refusal(error, (temporary, target, target.parent))
        if reason is None:
            raise
        if reason.errno in FULL:
            raise DiskFullError(
                f"{target}: not written: {reason.strerror}; make room and run again, what is "
                "finished is kept"
            ) from error
        raise DiskError(f"{target}: not written: {reason.strerror or reason}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        if handle is not None:
            os.close(handle)


def _new_beside(target: Path) -> tuple[Path, int]:
    """A new file and a descriptor that holds a lock on it: a sign that its writer lives."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    while True:
        temporary = target.with_name(f".{target.stem}.{secrets.token_hex(8)}.tmp{target.suffix}")
        handle = os.open(temporary, flags, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, on which nothing is taken for left behind
            return temporary, handle
        if os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)  # removed by another writer, before it was locked


def _remove_left(target: Path, own: Path) -> None:
    """Remove temporary files of `target` that nobody holds a lock on."""
    left = re.compile(
        rf"\.{re.escape(target.stem)}\.[0-9a-f]+\.tmp{re.escape(target.suffix)}", re.ASCII
    )
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name != own.name and left.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(handle)


def _refusal(error: BaseException, ours: tuple[Path | None, ...]) -> OSError | None:
    """The system's own error behind `error`, where it is one of writing this file.

    torch raises a RuntimeError of its own over that of a full disk.
    """
    if type(error).__module__ == "builtins" and isinstance(error, OSError):
        named = error.filename is None or any(os.fspath(error.filename) == str(p) for p in ours)
        if named or error.errno in FULL:
            return error
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in FULL:
            return behind
        behind = behind.__context__
    return None


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not known for folders everywhere
            raise
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
