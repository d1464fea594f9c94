"""Where the workflow's own files are: the Snakefile, rules, config, profiles, schemas and locks.

A clone has them beside the library. A wheel has them inside the package, in the same folders.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def _root() -> Path:
    """The folder of the Snakefile: in the clone if there is one, else in the wheel."""
    clone = PACKAGE.parents[1]
    return clone if (clone / "Snakefile").is_file() else PACKAGE / "shipped"


ROOT = _root()


def existing_path(path: str | os.PathLike[str], folder: str | os.PathLike[str] = ROOT) -> str:
    """Resolve a path that may point to a shipped file.

    Args:
        path: A path relative to the working folder, or absolute.
        folder: Where shipped files are looked up.

    Returns:
        `path` unchanged, or the path below `folder` if only that one exists.
    """
    shipped = Path(folder) / path
    return str(shipped) if not Path(path).exists() and shipped.exists() else str(path)
