"""Read the texts and the size of a picture of the report from its SVG file. No test is here."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from matplotlib.textpath import TextPath

SVG = "{http://www.w3.org/2000/svg}"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
# CSS has 96 pixels and 72 points in an inch.
POINTS_PER_PIXEL = 72 / 96


def words(path: Path) -> list[str]:
    """Read the title and the hint of an SVG file, then all of its texts."""
    root = ElementTree.parse(path).getroot()
    head = [root.findtext(f".//{DUBLIN_CORE}{key}") or "" for key in ("title", "description")]
    return head + [element.text or "" for element in root.iter(f"{SVG}text")]


def cut(path: Path) -> list[str]:
    """List the texts that do not fit between the left and right edge, in matplotlib's own font."""
    texts = []
    width_in_pixels, _ = size(path)
    right = width_in_pixels * POINTS_PER_PIXEL
    for element in ElementTree.parse(path).getroot().iter(f"{SVG}text"):
        style = f"{element.get('style')}; x: {element.get('x')}; {element.get('transform')}"
        height = float(re.search(r"([\d.]+)px", style)[1])
        width = TextPath((0, 0), element.text, size=height).get_extents().width
        left = float(re.search(r"(?:x: |translate\()(-?[\d.]+)", style)[1])
        # The position is that of the text's middle or end if its anchor says so.
        if "middle" in style:
            left -= width / 2
        if "anchor: end" in style:
            left -= width
        if left < 0 or left + width > right:
            texts.append(element.text)
    return texts


def size(path: Path) -> tuple[float, float]:
    """Read the width and height in pixels at which a browser shows the picture."""
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.get(name).removesuffix("pt")) for name in ("width", "height"))
    return width / POINTS_PER_PIXEL, height / POINTS_PER_PIXEL
