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


def keep_private() -> None:
    """Give this process, and those that it starts, caches that no other user can write.

    PyTorch's own choice is `/tmp/torchinductor_USER`, whoever made that, and it unpickles what is
    in it. A `matplotlibrc` of the working folder may name code, as the backend.
    """
    os.environ["MPLBACKEND"] = "agg"
    folder = Path(tempfile.gettempdir(), f"epic100-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or not folder.is_dir() or others(folder):
        folder = Path(tempfile.mkdtemp(prefix="epic100-"))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR"):
        os.environ.setdefault(name, str(folder / name.lower()))


def look_at_folder(folder: str | os.PathLike) -> str:
    """Look who else can write to a working folder.

    Returns:
        A warning in one line, or "".

    Raises:
        EpicError: Snakemake would run what another user may have put there.
    """
    refuse_foreign(Path(folder, ".snakemake"))
    who = others(folder)
    return who and (
        f"{folder}: {who} can write to this folder, and so replace results and settings; if that "
        "is not meant, `chmod go-w` it, or work in another folder"
    )


def refuse_foreign(path: str | os.PathLike) -> None:
    """Raise EpicError if another user made this path, or every user can write to it."""
    if os.path.lexists(path) and (who := others(path, group=False)):
        raise EpicError(
            f"{path}: {who} can write it, and what is in it runs; expected a place of yours: look "
            "at it, then move it away, or work in another folder"
        )


def others(path: str | os.PathLike, group: bool = True) -> str:
    """Who besides this user and the system can write to a path, or "".

    Args:
        path: A file, a folder or a link.
        group: Whether the path's group counts. That of a user alone has the user's number.
    """
    state = os.lstat(path)
    if state.st_uid not in (os.getuid(), 0):
        return f"user {state.st_uid}"
    if state.st_mode & 0o002 and not os.path.islink(path):
        return "every user"
    group_can_write = group and state.st_mode & 0o020 and state.st_gid not in (os.getuid(), 0)
    return f"group {state.st_gid}" if group_can_write else ""


def lock(file: int | IO[Any], waits: bool) -> bool:
    """Lock an open file or folder for this process.

    Where the file system has no locks, every process is alone.

    Args:
        file: The open file.
        waits: Whether to wait for another process that holds the lock.

    Returns:
        Whether no other process holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def links(page: str | os.PathLike, files: Mapping[Name, str | os.PathLike]) -> dict[Name, str]:
    """Return the addresses of those files that exist, as `page` names them.

    Args:
        page: The page with the links.
        files: Files by what they show.
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


def _remove_left(target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.*"):
        if leftover.suffix in (".new", ".old") and not leftover.is_symlink():
            with suppress(OSError), _locked(leftover, waits=False) as is_left:
                if is_left:
                    remove_folder(leftover)


@contextmanager
def _locked(folder: Path, waits: bool = True) -> Iterator[bool]:
    """Hold a lock on a folder; gives False where another process holds it and this waits not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield lock(descriptor, waits)
    finally:
        os.close(descriptor)


def _absolute(folder: str | os.PathLike) -> Path:
    return Path(os.path.abspath(folder))
