"""What a picture of the report says and how large it is, read from its file. No test in here."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from matplotlib.textpath import TextPath

SVG = "{http://www.w3.org/2000/svg}"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def words(path: Path) -> list[str]:
    """Title and hint of an SVG file, then all of its texts."""
    root = ElementTree.parse(path).getroot()
    found = [root.findtext(f".//{DUBLIN_CORE}{key}") or "" for key in ("title", "description")]
    return found + [element.text or "" for element in root.iter(f"{SVG}text")]


def cut(path: Path) -> list[str]:
    """Texts that do not fit between the picture's left and right edge, in matplotlib's own font."""
    found, right = [], size(path)[0] * 72 / 96
    for element in ElementTree.parse(path).getroot().iter(f"{SVG}text"):
        style, place = element.get("style"), float(element.get("x"))
        text = TextPath((0, 0), element.text, size=float(re.search(r"([\d.]+)px", style)[1]))
        share = {"start": 0, "middle": 0.5, "end": 1}[re.search(r"anchor: (\w+)", style)[1]]
        left = place - share * (width := text.get_extents().width)
        if left < 0 or left + width > right:
            found.append(element.text)
    return found


def size(path: Path) -> tuple[float, float]:
    """Width and height in pixels at which a browser shows the picture."""
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.get(name).removesuffix("pt")) for name in ("width", "height"))
    return width * 96 / 72, height * 96 / 72
