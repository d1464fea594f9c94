"""What runs, and what libraries keep, must not be what another user of the node planted."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from epic100.base.errors import EpicError


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


def refuse_foreign(place: str | os.PathLike) -> None:
    """Raise EpicError if another user made this place, or every user can write to it."""
    if os.path.lexists(place) and (who := others(place, group=False)):
        raise EpicError(
            f"{place}: {who} can write it, and what is in it runs; expected a place of yours: look "
            "at it, then move it away, or work in another folder"
        )


def others(place: str | os.PathLike, group: bool = True) -> str:
    """Who besides this user and the system can write to a place, or "".

    Args:
        place: A file, a folder or a link.
        group: Whether the place's group counts. That of a user alone has the user's number.
    """
    state = os.lstat(place)
    if state.st_uid not in (os.getuid(), 0):
        return f"user {state.st_uid}"
    if state.st_mode & 0o002 and not os.path.islink(place):
        return "every user"
    group_can_write = group and state.st_mode & 0o020 and state.st_gid not in (os.getuid(), 0)
    return f"group {state.st_gid}" if group_can_write else ""
