"""Links: of a page to files beside it, and files that are two names of one."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

Name = TypeVar("Name")


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
