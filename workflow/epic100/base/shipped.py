"""Paths of the workflow's own files, and configs of other users, which are rejected.

The Snakefile, rules, config, profiles, schemas and locks are the workflow's own. A clone has them
next to the library. A wheel has them inside the package, in the same folders.
"""

import os
import stat
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from epic100.base.errors import EpicError

# This file lies in `epic100/base/`, and in a clone `epic100/` lies in `workflow/`.
PACKAGE = Path(__file__).resolve().parents[1]
CLONE = PACKAGE.parents[1]
# The Snakefile is in this folder.
ROOT = CLONE if (CLONE / "Snakefile").is_file() else PACKAGE / "shipped"


def own_version() -> str:
    """Return the version of the package, or `a clone, not installed`, which has no version."""
    try:
        return version("epic100")
    except PackageNotFoundError:
        return "a clone, not installed"


def own_commit() -> str:
    """Return the commit of the clone, with `+` where its files differ; empty without a clone."""
    # An installed package may lie in a clone of something else.
    if not (ROOT / ".git").exists():
        return ""
    command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def existing_path(path: str | os.PathLike[str], folder: str | os.PathLike[str] = ROOT) -> str:
    """Resolve a path that may point to a shipped file.

    Args:
        path: A path relative to the working folder, or absolute.
        folder: Where shipped files are searched.

    Returns:
        `path` unchanged, or the path below `folder` if only that one exists.
    """
    shipped = Path(folder) / path
    return str(shipped) if not Path(path).exists() and shipped.exists() else str(path)


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
    """Raise EpicError if neither you nor root own this path, or every user can write to it.

    A path that does not exist is fine.
    """
    if not os.path.lexists(path):
        return
    state = os.lstat(path)
    # The mode of a link always has this bit, and nobody can write to a link.
    everyone_can_write = state.st_mode & stat.S_IWOTH and not os.path.islink(path)
    if state.st_uid not in (os.getuid(), 0):
        writer = f"user {state.st_uid}"
    elif everyone_can_write:
        writer = "every user"
    else:
        return
    raise EpicError(
        f"{path}: {writer} can write it, and what is in it runs; expected a place of yours: check "
        "it, then move it away, or work in another folder"
    )
