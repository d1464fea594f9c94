"""What MP4 and Matroska files state of themselves: their boxes, their length.

Boxes: ISO/IEC 14496-12 (2022). Matroska: RFC 8794, RFC 9559.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

# It reads from a file, and takes the position and the count in bytes.
ReadAt = Callable[[int, int], bytes]
# These two elements are at the top level of a Matroska file.
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


class Box(NamedTuple):
    """A box of an MP4 file and the bytes where it and its content begin, and where it ends."""

    name: str
    start: int
    content: int
    stop: int


def boxes_of(read_at: ReadAt, start: int, stop: int) -> Iterator[Box]:
    """The boxes between two places of a file, up to the first thing that cannot be a box.

    The last one may claim more than is there.
    """
    while start + 8 <= stop:
        header = read_at(start, 16)
        length, header_size = int.from_bytes(header[:4]), 8
        if length == 1:
            length, header_size = int.from_bytes(header[8:16]), 16
        elif length == 0:
            length = stop - start
        name = header[4:8].decode("latin-1")
        if length < header_size or not name.isprintable():
            return
        yield Box(name, start, start + header_size, start + length)
        start += length


def matroska_bytes(read_at: ReadAt) -> int:
    """How many bytes a Matroska or WebM file has by its own header, trailing elements aside.

    Returns:
        The end of its segment in bytes; 0 if it states none, as a live recording, or is another
        kind of file.
    """
    position = 0
    for name in (_EBML, _SEGMENT):
        head = read_at(position, 12)
        if head[:4] != name.to_bytes(4) or len(head) < 5 or not head[4]:
            return 0
        # The zero bits before the first one bit tell how many bytes the size takes.
        width = 9 - head[4].bit_length()
        size = int.from_bytes(head[4 : 4 + width]) & ~(1 << 7 * width)
        if size == (1 << 7 * width) - 1:  # A size of one bits only is unknown.
            return 0
        position += 4 + width + size
    return position
