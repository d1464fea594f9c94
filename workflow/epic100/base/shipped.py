"""Where the workflow's own files are: the Snakefile, rules, config, profiles, schemas and locks.

A clone has them beside the library, a wheel inside the package, in the same folders.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def _root() -> Path:
    """The folder of the Snakefile: the clone's where the library is in one, else the wheel's."""
    clone = PACKAGE.parents[1]
    return clone if (clone / "Snakefile").is_file() else PACKAGE / "shipped"


ROOT = _root()


def existing_path(path: str | os.PathLike[str], folder: str | os.PathLike[str] = ROOT) -> str:
    """`path` as it stands, or below the workflow's own folder where only that one exists."""
    shipped = Path(folder) / path
    return str(shipped) if not Path(path).exists() and shipped.exists() else str(path)
