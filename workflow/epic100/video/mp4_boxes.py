"""Boxes of an MP4 file (ISO 14496-12), as far as a scan asks them whether the file is whole."""

import os
from pathlib import Path


def top_boxes(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """(name, start, stop) of the boxes at the file's top level, in bytes, headers included.

    `stop` lies behind the file's end where a box promises more than there is. Stops at the first
    thing that cannot be a box. Raises OSError.
    """
    size, boxes, position = Path(path).stat().st_size, [], 0
    with open(path, "rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            elif length == 0:
                length = size - position
            name = header[4:8].decode("latin-1")
            if length < 8 or not name.isprintable():
                break
            boxes.append((name, position, position + length))
            position += length
    return boxes
