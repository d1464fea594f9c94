"""The templates of pages and texts: a name that is missing is an error; HTML is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape

from epic100.report.tables import accuracies
from epic100.scoring.metrics import wilson


def template(name: str) -> Template:
    """Return a template of this folder.

    Args:
        name: Its file name, `*.html.j2` for a page.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
        autoescape=select_autoescape(["html.j2"]), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals.update(accuracies=accuracies, wilson=wilson)
    return environment.get_template(name)
