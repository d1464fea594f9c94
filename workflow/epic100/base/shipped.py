"""Paths of the workflow's own files: the Snakefile, rules, config, profiles, schemas and locks.

A clone has them next to the library. A wheel has them inside the package, in the same folders.
"""

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
