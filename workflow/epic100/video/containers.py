"""Read the boxes of MP4 files, and the length that the header of a Matroska file states.

Boxes: ISO/IEC 14496-12 (2022). Matroska: RFC 8794, RFC 9559.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

# A function of this type takes a position and a number of bytes, and reads these bytes of a file.
ReadAt = Callable[[int, int], bytes]

# The numbers of bytes of a box header, without and with a length of 8 bytes.
_BOX_HEADER, _LONG_BOX_HEADER = 8, 16


class Box(NamedTuple):
    """A box of an MP4 file, e.g. `moov` or `mdat`.

    Attributes:
        name: The type of the box, four characters.
        start: The first byte of the box in the file.
        content: The first byte of its content, after its header.
        stop: The byte after its last one.
    """

    name: str
    start: int
    content: int
    stop: int


def boxes_of(read_at: ReadAt, start: int, stop: int) -> Iterator[Box]:
    """Read the boxes of an MP4 file one after another, up to bytes that cannot be a box.

    The last box may claim to go on beyond the end.

    Args:
        read_at: Reads bytes of the file.
        start: The byte where the first box begins.
        stop: The byte where reading ends; the size of the file for all its boxes.
    """
    while start + _BOX_HEADER <= stop:
        header = read_at(start, _LONG_BOX_HEADER)
        # A header is a length in 4 bytes, a name in 4, and a length in 8 bytes if the first is 1.
        length = int.from_bytes(header[:4])
        header_size = _LONG_BOX_HEADER if length == 1 else _BOX_HEADER
        if length == 1:
            length = int.from_bytes(header[8:16])
        elif length == 0:
            length = stop - start  # The box goes on to the end of the file.
        name = header[4:8].decode("latin-1")
        if length < header_size or not name.isprintable():
            return
        yield Box(name, start, start + header_size, start + length)
        start += length
