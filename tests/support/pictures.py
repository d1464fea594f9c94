"""What a picture of the report says and how large it is, read from its file. No test in here."""

import re
import xml.etree.ElementTree as ElementTree
from html import unescape
from pathlib import Path

import cv2


def words(path: Path) -> list[str]:
    """All texts of an SVG file: letters are drawn as paths, each text named in a comment."""
    return [unescape(text) for text in re.findall(r"<!-- (.*?) -->", path.read_text("utf-8"))]


def size(path: Path) -> tuple[float, float]:
    """Width and height in pixels at which a browser shows the picture."""
    if path.suffix != ".svg":
        height, width = cv2.imread(str(path)).shape[:2]
        return width, height
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.get(name).removesuffix("pt")) for name in ("width", "height"))
    return width * 96 / 72, height * 96 / 72
