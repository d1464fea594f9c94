"""Boxes of an MP4 file (ISO 14496-12), as far as a scan needs them to check that it is complete."""

import os
from collections.abc import Callable


def top_boxes(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """The `boxes_of` a file. Raises OSError."""
    with open(path, "rb") as file:

        def read_at(position: int, count: int) -> bytes:
            file.seek(position)
            return file.read(count)

        return boxes_of(os.fstat(file.fileno()).st_size, read_at)


def boxes_of(size: int, read_at: Callable[[int, int], bytes]) -> list[tuple[str, int, int]]:
    """Find the boxes at the top level of a file. Stops at the first thing that cannot be a box.

    Args:
        size: Size of the file in bytes.
        read_at: Reads from the file; takes position and count in bytes.

    Returns:
        (name, start, stop) per box in bytes, header included. `stop` is beyond the end of the file
        if the box claims more than is there.
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
