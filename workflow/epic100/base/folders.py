"""Folders that are shared with others: what is made, run or removed there is this user's own.

Folders on clusters are often shared. A link that another user put above an output would lead what
is written or removed to files of this user elsewhere, and a file that they planted would run.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from epic100.base.errors import EpicError

Name = TypeVar("Name")
LINKED = "a link or a pipe; expected a plain file; see who put it there, then remove it"


def refuse_links(folders: Iterable[str | os.PathLike]) -> None:
    """Raise EpicError if a folder, or a parent of it, is a link that another user made."""
    paths = {_absolute(folder) for folder in folders}
    for path in paths.union(*(folder.parents for folder in paths)):
        if path.is_symlink() and path.lstat().st_uid not in (os.getuid(), 0):
            raise EpicError(f"{path}: {LINKED}, or name another folder")


def make_folder(folder: str | os.PathLike) -> None:
    """Make a folder and its missing parents. Raises EpicError for links as `refuse_links` does."""
    refuse_links([folder])
    os.makedirs(folder, exist_ok=True)


def remove_folder(folder: str | os.PathLike) -> None:
    """Remove a folder as far as possible, or a link in its place.

    Raises:
        EpicError: A folder above it is a link of another user (`refuse_links`).
    """
    refuse_links([_absolute(folder).parent])
    if os.path.islink(folder):
        os.unlink(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, which replaces `target` if the block succeeds.

    Each of several writers has a folder of its own, and the folder of the last writer stays.
    Folders that killed writers left behind are removed first.

    Raises:
        EpicError: A folder above `target` is a link of another user (`refuse_links`).
        OSError: The system cannot make or rename the folder.
    """
    new = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
    old = target.with_name(f".{target.name}.{secrets.token_hex(8)}.old")
    make_folder(target.parent)
    with ExitStack() as stack:
        stack.callback(remove_folder, old)
        stack.callback(remove_folder, new)
        with _locked(target.parent):
            _remove_leftovers(target)
            new.mkdir()
            # The lock tells other writers that `new` is in use, so that they do not remove it.
            stack.enter_context(_locked(new))
        yield new
        # The lock keeps two writers from renaming at once. `old` is removed at the end.
        with _locked(target.parent):
            if os.path.lexists(target):
                target.rename(old)
            new.rename(target)


def keep_private() -> None:
    """Set environment variables so that PyTorch and matplotlib use caches of this user alone.

    Processes that this one starts inherit them. PyTorch's own choice is `/tmp/torchinductor_USER`,
    even if another user made it, and PyTorch unpickles the files there. A `matplotlibrc` of the
    working folder may name code, as the backend.
    """
    os.environ["MPLBACKEND"] = "agg"
    folder = Path(tempfile.gettempdir(), f"epic100-{os.getuid()}")
    # An earlier process of this user may have made the folder already. A folder of another user is
    # found by the check below.
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or not folder.is_dir() or other_writers(folder):
        folder = Path(tempfile.mkdtemp(prefix="epic100-"))
    # A folder that the user has chosen stays.
    for name in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
        os.environ.setdefault(name, str(folder / name.lower()))


def warn_of_other_writers(folder: str | os.PathLike) -> str:
    """Check who else can write to a working folder, and return a warning about them.

    Returns:
        A warning in one line, for the caller to show; "" if nobody else can write there.

    Raises:
        EpicError: Another user can write into `.snakemake`, and Snakemake would run files of it.
    """
    refuse_foreign(Path(folder, ".snakemake"))
    other_users = other_writers(folder)
    if not other_users:
        return ""
    return (
        f"{folder}: {other_users} can write to this folder, and so replace results and settings; "
        "if that is not meant, `chmod go-w` it, or work in another folder"
    )


def refuse_foreign_config(path: str, workflow: str | os.PathLike) -> None:
    """Refuse a config or profile of the working folder that another user made.

    In the folder of the workflow itself nothing is checked: whoever made it made the rules as well.

    Args:
        path: The path in the working folder, such as `config/mine.yaml`.
        workflow: The folder of the workflow.

    Raises:
        EpicError: Another user made the file or its top folder, or every user can write to it.
    """
    if not os.path.samefile(workflow, "."):
        refuse_foreign(path.partition("/")[0])
        refuse_foreign(path)


def refuse_foreign(path: str | os.PathLike) -> None:
    """Raise EpicError if another user made this path, or every user can write to it."""
    if os.path.lexists(path) and (other_users := other_writers(path, group=False)):
        raise EpicError(
            f"{path}: {other_users} can write it, and what is in it runs; expected a place of "
            "yours: look at it, then move it away, or work in another folder"
        )


def other_writers(path: str | os.PathLike, group: bool = True) -> str:
    """Name who besides this user and root can write to a path: `user 1001`, `every user`, or "".

    Args:
        path: A file, a folder or a link.
        group: Whether the path's group counts. A private group, whose number is that of this user,
            does not count: only this user is in it.
    """
    state = os.lstat(path)
    if state.st_uid not in (os.getuid(), 0):
        return f"user {state.st_uid}"
    # The mode of a link always has this bit, and nobody can write to a link.
    if state.st_mode & 0o002 and not os.path.islink(path):
        return "every user"
    group_can_write = group and state.st_mode & 0o020 and state.st_gid not in (os.getuid(), 0)
    return f"group {state.st_gid}" if group_can_write else ""


def lock(file: int | IO[Any], waits: bool) -> bool:
    """Lock an open file or folder for this process.

    On a file system without locks this does nothing, and reports success.

    Args:
        file: The open file.
        waits: Whether to wait for another process that holds the lock.

    Returns:
        False if another process holds the lock, else True.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # This file system has no locks.
        pass
    return True


def links(page: str | os.PathLike, files: Mapping[Name, str | os.PathLike]) -> dict[Name, str]:
    """Return links from a page to those of the files that exist, relative to the page's folder.

    Args:
        page: The page with the links.
        files: The files by a name of what each shows.

    Returns:
        The links by the same names.
    """
    folder = Path(page).parent
    return {
        name: os.path.relpath(file, folder) for name, file in files.items() if Path(file).is_file()
    }


def link_or_copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Make `target` the same file as `source`, or a copy where the disk has no hard links."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)


def _remove_leftovers(target: Path) -> None:
    """Remove folders `.NAME.*.new` and `.NAME.*.old` that killed writers of `target` left behind.

    A folder is a leftover if no process holds a lock on it. On a file system without locks, none is
    removed, since its writer may be at work.
    """
    for leftover in target.parent.glob(f".{target.name}.*"):
        if leftover.suffix in (".new", ".old") and not leftover.is_symlink():
            with suppress(OSError), _locked(leftover, waits=False):
                remove_folder(leftover)


@contextmanager
def _locked(folder: Path, waits: bool = True) -> Iterator[None]:
    """Lock a folder during the block.

    Args:
        folder: The folder.
        waits: Wait for a process that holds the lock, and do without on a file system without
            locks. If False, both raise OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if waits:
            lock(descriptor, waits=True)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _absolute(folder: str | os.PathLike) -> Path:
    """Return the absolute path without `..`; links are not followed."""
    return Path(os.path.abspath(folder))
