"""What a picture of the report says and how large it is, read from its file. No test in here."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def words(path: Path) -> list[str]:
    """Title and hint of an SVG file, then all of its texts."""
    root = ElementTree.parse(path).getroot()
    found = [root.findtext(f".//{DUBLIN_CORE}{key}") or "" for key in ("title", "description")]
    return found + [element.text or "" for element in root.iter(f"{SVG}text")]


def size(path: Path) -> tuple[float, float]:
    """Width and height in pixels at which a browser shows the picture."""
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.get(name).removesuffix("pt")) for name in ("width", "height"))
    return width * 96 / 72, height * 96 / 72
