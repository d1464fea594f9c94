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
        look = f"{element.get('style')}; x: {element.get('x')}; {element.get('transform')}"
        height = float(re.search(r"([\d.]+)px", look)[1])
        width = TextPath((0, 0), element.text, size=height).get_extents().width
        place = float(re.search(r"(?:x: |translate\()(-?[\d.]+)", look)[1])
        left = place - width * ("middle" in look) / 2 - width * ("anchor: end" in look)
        if left < 0 or left + width > right:
            found.append(element.text)
    return found


def size(path: Path) -> tuple[float, float]:
    """Width and height in pixels at which a browser shows the picture."""
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.get(name).removesuffix("pt")) for name in ("width", "height"))
    return width * 96 / 72, height * 96 / 72
