"""The templates of pages and texts: a name that is missing is an error; HTML is escaped."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup

from epic100.data.official_lists import DATA_SET
from epic100.pages.report_tables import accuracies
from epic100.scoring.metrics import wilson

FOLDER = Path(__file__).parent


def template(name: str) -> Template:
    """Load a template of this folder, with the functions that templates call.

    Args:
        name: The file name of the template, `*.html.j2` for a page.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    scripts = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js")}
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts.values()]
    environment.globals.update(
        accuracies=accuracies,
        wilson=wilson,
        interval=lambda percent, count: "{:.1f} to {:.1f}".format(*wilson(percent, count)),
        data_set=DATA_SET,
        script=lambda name: Markup(scripts[name]),
        # The content security policy of a page allows these scripts alone.
        digests=[base64.b64encode(digest).decode() for digest in digests],
    )
    return environment.get_template(name)
