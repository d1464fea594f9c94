"""Files and folders that appear complete or not at all, and links between files."""

import errno
import glob
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from epic100.base.disk import read_json
from epic100.base.errors import DiskError, EpicError

# This environment variable is `FILE=TOKEN`. A later job for the same files writes its own token
# into FILE.
FENCE = "EPIC100_FENCE"
# These errors mean that no more can be written: the disk is full, or the quota or the limit on the
# size of a file is reached.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A temporary file that has not changed for this time was left by a killed process.
LEFTOVER_SECONDS = 24 * 3600
Name = TypeVar("Name")


class DiskFullError(DiskError):
    """The disk, the quota or the file size limit is full. The message names the unwritten file."""


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it on success, remove it on failure.

    The temporary file is new, empty and has a random name, so that two writers do not meet. The
    suffix is kept, because writers (PyAV, torch) choose the format by it.

    The file is synced to disk before the rename, and the folder is synced before this returns.
    After a power cut, either the old file or the new one is there.

    Files that a killed process left for the same `path` a day ago are removed. If a later job is at
    work for the same files, this one replaces no file (`require_newest`).

    Args:
        path: The final path. Missing parent folders are created.

    Yields:
        The temporary path to write to.

    Raises:
        EpicError: A later job is at work for the same files (`require_newest`).
        DiskError: The file cannot be written (`writing`). In nested calls, the message of a full
            disk names the outermost file.
    """
    target = Path(path)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # Names of files may have brackets, which mean something to `glob`. A writer within a writer
        # adds another dot in front.
        names = f".*{glob.escape(target.stem)}.*.tmp{glob.escape(target.suffix)}"
        remove_leftovers(target.parent, names)
        temporary = target.with_name(f".{target.stem}.{secrets.token_hex(8)}.tmp{target.suffix}")
        try:
            temporary.touch(exist_ok=False)
            yield temporary
            _sync(temporary)
            require_newest()
            os.replace(temporary, target)
            _sync(target.parent)
        finally:
            # After a success, the file has its final name.
            temporary.unlink(missing_ok=True)


def require_newest() -> None:
    """Raise an error if a later job is at work for the same files, so that this one ends.

    `FENCE` is `FILE=TOKEN`; a later job has written its own token into FILE. This only saves work:
    a job that notices it too late replaces complete files by other complete files.

    Raises:
        EpicError: A later job is at work.
    """
    token_file, _, own_token = os.environ.get(FENCE, "").rpartition("=")
    newest_token = own_token
    # There may be no such file, or an incomplete one. Then this job counts as the newest.
    with suppress(OSError, ValueError, LookupError, TypeError):
        newest_token = read_json(token_file)["token"]
    if newest_token != own_token:
        raise EpicError(
            f"{token_file}: {newest_token} is at work for the same files since: this one ends"
        )


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn a failed write within the block into one DiskError, whose message is one line.

    Args:
        target: The file, for the error.

    Raises:
        DiskFullError: The disk or the quota is full.
        DiskError: The system does not write it for another reason.
    """
    try:
        yield
    except Exception as error:
        # An EpicError already explains itself. A full disk is told again, to name the outer file.
        if isinstance(error, EpicError) and not isinstance(error, DiskFullError):
            raise
        system_error = _system_error_behind(error, target)
        if system_error is None:
            raise
        message = f"{target}: not written: {system_error.strerror or system_error}"
        if system_error.errno in FULL:
            raise DiskFullError(
                f"{message}; make room and run again, what is finished is kept"
            ) from error
        raise DiskError(message) from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file in UTF-8 that appears complete or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy_file(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Copy the content of a file; the copy appears complete or not at all.

    The copy is no hard link, so that a later write into one file does not change the other.
    """
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


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


def remove_leftovers(folder: Path, names: str) -> None:
    """Remove the files and folders of these names (a pattern) that are older than a day.

    A process that was killed has left them. A newer one may belong to a living process.
    """
    for old in folder.glob(names):
        with suppress(FileNotFoundError):  # Another process may remove it at the same time.
            if time.time() - old.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(old) if old.is_dir() else old.unlink()


def _system_error_behind(error: BaseException, target: Path) -> OSError | None:
    """Return the system error behind `error` if it is about writing `target`, else None.

    A full disk counts whatever the path: torch raises its own RuntimeError on top of the system's
    error, so the chain of causes is searched for it. Any other error counts if it names the target,
    its temporary file or its folder.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return cause
        cause = cause.__context__
    # FFmpeg has errors that are OSErrors, in a module of PyAV. The system did not raise them.
    if type(error).__module__ == "builtins" and isinstance(error, OSError):
        path = target if error.filename is None else Path(os.fsdecode(error.filename))
        # The name of the temporary file contains the name of the target.
        is_this_file = path.parent == target.parent and target.stem in path.name
        if is_this_file or path == target.parent:
            return error
    return None


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot sync a folder, and give one of these errors.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
