"""Boxes of an MP4 file (ISO 14496-12), as far as a scan asks them whether the file is whole."""

import os
from collections.abc import Callable


def top_boxes(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """`boxes_of` a file. Raises OSError."""
    with open(path, "rb") as file:

        def read_at(position: int, count: int) -> bytes:
            file.seek(position)
            return file.read(count)

        return boxes_of(os.fstat(file.fileno()).st_size, read_at)


def boxes_of(size: int, read_at: Callable[[int, int], bytes]) -> list[tuple[str, int, int]]:
    """(name, start, stop) of the boxes at the top level of a file of `size` bytes, in bytes.

    Headers are included. `stop` lies behind the file's end where a box promises more than there is.
    Stops at the first thing that cannot be a box. `read_at` (position, count) gives bytes.
    """
    boxes, position = [], 0
    while position + 8 <= size:
        header = read_at(position, 16)
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
