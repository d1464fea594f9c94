"""Folders that are made, replaced and removed, but not behind links of others.

Folders on clusters are often shared. A link that another user put above an output would lead what
is written or removed to files of this user elsewhere.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from epic100.base.errors import EpicError

LINKED = "a link or a pipe; expected a plain file; see who put it there, then remove it"


def refuse_links(folders: Iterable[str | os.PathLike]) -> None:
    """Raise EpicError if a folder, or one above it, is a link that another user made."""
    paths = {_absolute(folder) for folder in folders}
    for path in paths.union(*(folder.parents for folder in paths)):
        if path.is_symlink() and path.lstat().st_uid not in (os.getuid(), 0):
            raise EpicError(f"{path}: {LINKED}, or name another folder")


def make_folder(folder: str | os.PathLike) -> None:
    """Make a folder, and those above it, if they are not there; raises as `refuse_links`."""
    refuse_links([folder])
    os.makedirs(folder, exist_ok=True)


def remove_folder(folder: str | os.PathLike) -> None:
    """Remove a folder as far as possible, or a link in its place; raises as `refuse_links`."""
    refuse_links([_absolute(folder).parent])
    if os.path.islink(folder):
        os.unlink(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, which takes its place when all went well.

    Each of several writers has a folder of its own, and that of the last one stays. Folders that a
    killed process left behind are removed: they have no lock.

    Raises:
        EpicError: As `refuse_links`.
        OSError: The system refuses it.
    """
    new, old = (
        target.with_name(f".{target.name}.{secrets.token_hex(8)}.{end}") for end in ("new", "old")
    )
    make_folder(target.parent)
    with ExitStack() as stack:
        stack.callback(remove_folder, old)
        stack.callback(remove_folder, new)
        with _locked(target.parent):
            _remove_left(target)
            new.mkdir()
            stack.enter_context(_locked(new))
        yield new
        with _locked(target.parent):
            if os.path.lexists(target):
                target.rename(old)
            new.rename(target)


def _remove_left(target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.*"):
        if leftover.suffix in (".new", ".old") and not leftover.is_symlink():
            with suppress(OSError), _locked(leftover, fcntl.LOCK_NB):
                remove_folder(leftover)


@contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    """Hold a lock on a folder, where the file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _absolute(folder: str | os.PathLike) -> Path:
    return Path(os.path.abspath(folder))
