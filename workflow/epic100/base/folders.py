"""Complete folders, links between files, locks, and configs of other users, which are not run."""

import errno
import fcntl
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from epic100.base.atomic import remove_leftovers
from epic100.base.errors import EpicError

Name = TypeVar("Name")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder next to `target`, which replaces `target` if the block succeeds.

    Each of several writers has its own folder, and the folder of the last writer stays.

    Raises:
        OSError: The system cannot make or rename the folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.new-"
    remove_leftovers(target.parent, f"{glob.escape(prefix)}*")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
        # The outer folder is for this user alone, and the new one is as open as the umask says.
        new = Path(folder, "new")
        new.mkdir()
        yield new
        # Another writer may put its folder there between the two steps.
        while True:
            with suppress(FileNotFoundError):
                target.rename(Path(folder, secrets.token_hex(8)))
            try:
                new.rename(target)
                break
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise


def reject_untrusted_config(path: str, workflow: str | os.PathLike) -> None:
    """Reject a config or profile of the working folder that another user made.

    In the folder of the workflow itself nothing is checked: whoever made it made the rules as well.

    Args:
        path: The path in the working folder, e.g. `config/mine.yaml`.
        workflow: The folder of the workflow.

    Raises:
        EpicError: Another user made the file or its top folder, or every user can write to it.
    """
    if not os.path.samefile(workflow, "."):
        reject_untrusted(path.partition("/")[0])
        reject_untrusted(path)


def reject_untrusted(path: str | os.PathLike) -> None:
    """Raise EpicError if another user than root made this path, or every user can write to it."""
    if not os.path.lexists(path):
        return
    state = os.lstat(path)
    is_others = state.st_uid not in (os.getuid(), 0)
    # The mode of a link always has this bit, and nobody can write to a link.
    if is_others or state.st_mode & 0o002 and not os.path.islink(path):
        raise EpicError(
            f"{path}: {f'user {state.st_uid}' if is_others else 'every user'} can write it, and "
            "what is in it runs; expected a place of yours: check it, then move it away, or work "
            "in another folder"
        )


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
    """Return links from a page to the files that exist, relative to the page's folder.

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
