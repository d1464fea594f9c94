"""The templates of pages: every value is escaped, and a name that is missing is an error."""

import os
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """Return a template of this folder.

    Args:
        name: Its file name.
    """
    here = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=here, autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    return environment.get_template(name)


def links(page: str | os.PathLike, files: Mapping[str, str | os.PathLike]) -> dict[str, str]:
    """Return the addresses of those files that exist, as `page` names them.

    Args:
        page: The page with the links.
        files: Files by what they show.
    """
    folder = Path(page).parent
    return {name: os.path.relpath(file, folder) for name, file in files.items()
            if Path(file).is_file()}  # fmt: skip
