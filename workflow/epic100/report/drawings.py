"""Pictures of `epic100.figures` as parts of an HTML page."""

import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from epic100.base.errors import EpicError
from epic100.figures.style import BLACK, FAINT, GREY, PALE, WHITE

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
KEPT = {f"{{{SVG}}}{tag}" for tag in (
    "svg", "g", "defs", "path", "use", "text", "tspan", "rect", "clipPath", "pattern",
)}  # fmt: skip
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
# The page sets these variables for light and for dark screens.
COLOURS = {
    BLACK: "var(--ink)",
    WHITE: "var(--paper)",
    GREY: "var(--grey)",
    PALE: "var(--pale)",
    FAINT: "var(--faint)",
}
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


@dataclass(frozen=True)
class Drawing:
    """A picture for an HTML page.

    Attributes:
        title: What it shows.
        hint: How to read it.
        markup: The `svg` element. Nothing in it can run or load anything.
    """

    title: str
    hint: str
    markup: str


def read_drawing(path: str | os.PathLike, name: str) -> Drawing:
    """Read a picture that `epic100.figures.style.drawing` wrote.

    Args:
        path: The SVG file.
        name: A prefix for its ids, which must not clash with those of other pictures of a page.

    Raises:
        EpicError: The file is no SVG.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise EpicError(
            f"{path}: no SVG file ({error}); make it again: snakemake -R {path}"
        ) from error
    title, hint = (
        root.findtext(f".//{DUBLIN_CORE}{key}") or "" for key in ("title", "description")
    )
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag not in KEPT:
                parent.remove(child)
    for element in root.iter():
        for key, value in list(element.items()):
            if key.lower().startswith("on"):
                del element.attrib[key]
            elif key == "id":
                element.set(key, f"{name}-{value}")
            elif key in ("href", f"{{{XLINK}}}href"):
                element.set(key, f"#{name}-{value.removeprefix('#')}")
            else:
                element.set(key, _own_colours(value).replace("url(#", f"url(#{name}-"))
    root.set("role", "img")
    root.set("aria-label", title)
    root.attrib.pop("height")
    return Drawing(title, hint, ElementTree.tostring(root, encoding="unicode"))


def _own_colours(style: str) -> str:
    for colour, variable in COLOURS.items():
        style = re.sub(colour, variable, style, flags=re.IGNORECASE)
    return style
