"""The length that a Matroska or WebM file states in bytes (RFC 8794, RFC 9559)."""

from collections.abc import Callable

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067  # the two elements at the top level of a file


def stated_bytes(read_at: Callable[[int, int], bytes]) -> int:
    """How many bytes a Matroska file has by its own header, trailing elements aside.

    Args:
        read_at: Reads from the file; takes position and count in bytes.

    Returns:
        The end of its segment in bytes; 0 if it states none, as a live recording, or is another
        kind of file.
    """
    position = 0
    for name in (_EBML, _SEGMENT):
        head = read_at(position, 12)
        if head[:4] != name.to_bytes(4, "big") or len(head) < 5 or not head[4]:
            return 0
        width = 9 - head[4].bit_length()  # of the size, by the zeros before its first one
        size = int.from_bytes(head[4 : 4 + width], "big") & ~(1 << 7 * width)
        if size == (1 << 7 * width) - 1:  # unknown
            return 0
        position += 4 + width + size
    return position
