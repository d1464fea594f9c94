"""What MP4 and Matroska files state of themselves: their boxes, their timing, their length.

An MP4 states the timing of a track in several places that must agree. Names of boxes and fields
follow ISO/IEC 14496-12 (2022): `mvhd` 8.2.2, `tkhd` 8.3.2, `elst` 8.6.6, `mdhd` 8.4.2, `stts`
8.6.1.2, `ctts` 8.6.1.3, `stsz` 8.7.3.2. Matroska: RFC 8794, RFC 9559.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

ReadAt = Callable[[int, int], bytes]  # reads from a file; takes position and count in bytes
_MOST = 64 << 20  # bytes read of one box; no video has a larger table of times
# Where a track's header has the matrix of its pictures, by the version of the box.
MATRIX_AT = {0: 40, 1: 52}
# Signs of its values a, b, c, d, by quarter turns clockwise.
TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067  # the two elements at the top level of a Matroska file


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
        length, head = int.from_bytes(header[:4]), 8
        if length == 1:
            length, head = int.from_bytes(header[8:16]), 16
        elif length == 0:
            length = stop - start
        name = header[4:8].decode("latin-1")
        if length < head or not name.isprintable():
            return
        yield Box(name, start, start + head, start + length)
        start += length


def boxes_in(read_at: ReadAt, box: Box, name: str) -> list[Box]:
    """The whole boxes of a name in another one."""
    found = boxes_of(read_at, box.content, box.stop)
    return [each for each in found if each.name == name and each.stop <= box.stop]


def box_in(read_at: ReadAt, box: Box, *path: str) -> Box:
    """The only box of each name of a path, one in the other. Raises ValueError if it is not one."""
    for name in path:
        found = boxes_in(read_at, box, name)
        if len(found) != 1:
            raise ValueError(f"not one {name}")
        box = found[0]
    return box


def quarter_turns(size: int, read_at: ReadAt, track_id: int) -> int:
    """How often players turn the pictures of a track clockwise by 90 degrees; 0 in other files.

    Raises:
        ValueError: The note of the file is another one, such as a mirror.
    """
    try:
        _, _, header = _header(size, read_at, track_id)
        matrix = struct.unpack_from(">5i", header, MATRIX_AT[header[0]])
    except (IndexError, KeyError, ValueError, struct.error):
        return 0
    least = max(map(abs, matrix)) / 100  # scaled pictures are turned alike
    across, down = matrix[:2], matrix[3:]
    signs = tuple((value > least) - (value < -least) for value in across + down)
    return TURNS.index(signs) if any(signs) else 0


def _header(size: int, read_at: ReadAt, track_id: int) -> tuple[Box, Box, bytes]:
    """The boxes of the index and of a track, and the content of its header."""
    moov = boxes_in(read_at, Box("", 0, 0, size), "moov")[0]
    for trak in boxes_in(read_at, moov, "trak"):
        header = _content(read_at, trak, "tkhd")
        if _fields(header, "QQI")[-1] == track_id:
            return moov, trak, header
    raise ValueError(f"no track {track_id}")


def _fields(data: bytes, layout: str) -> tuple[int, ...]:
    """Numbers after the version of a box; those of 8 bytes (Q) have 4 unless it is version 1."""
    return struct.unpack_from(">4x" + (layout if data[0] == 1 else layout.replace("Q", "I")), data)


def _content(read_at: ReadAt, box: Box, *path: str) -> bytes:
    found = box_in(read_at, box, *path)
    return read_at(found.content, min(found.stop - found.content, _MOST))


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
        width = 9 - head[4].bit_length()  # of the size, by the zeros before its first one
        size = int.from_bytes(head[4 : 4 + width]) & ~(1 << 7 * width)
        if size == (1 << 7 * width) - 1:  # unknown
            return 0
        position += 4 + width + size
    return position
