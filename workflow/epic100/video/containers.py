"""Read the boxes of MP4 files, and the length that the header of a Matroska file states.

Boxes: ISO/IEC 14496-12 (2022). Matroska: RFC 8794, RFC 9559.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

# A function of this type takes a position and a number of bytes, and reads these bytes of a file.
ReadAt = Callable[[int, int], bytes]
# These are the ids of the two elements at the top level of a Matroska file.
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067

# The header of a box has this many bytes, without and with a length of 8 bytes.
_BOX_HEADER, _LONG_BOX_HEADER = 8, 16


class Box(NamedTuple):
    """A box of an MP4 file, such as `moov` or `mdat`.

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


def matroska_bytes(read_at: ReadAt) -> int:
    """Read the size in bytes that a Matroska or WebM file should have, from its header.

    Returns:
        The end of the segment, the element with all pictures; 0 if the header does not state it, as
        in a live recording, or if the file is of another kind.
    """
    position = 0
    for element_id in (_EBML, _SEGMENT):
        # An element is an id of 4 bytes, a size in 1 to 8 bytes, and its content.
        head = read_at(position, 12)
        # If the first byte of the size is 0, the size would take more than 8 bytes.
        if head[:4] != element_id.to_bytes(4) or len(head) < 5 or not head[4]:
            return 0
        # The zero bits before the first one bit tell how many bytes the size takes.
        width = 9 - head[4].bit_length()
        # The first one bit is no part of the size, which has 7 bits for each byte.
        size = int.from_bytes(head[4 : 4 + width]) & ~(1 << 7 * width)
        if size == (1 << 7 * width) - 1:  # A size whose bits are all ones is unknown.
            return 0
        position += 4 + width + size
    return position
