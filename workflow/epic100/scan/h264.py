"""Read the parameter sets of H.264, and declare a picture taller than it is.

A decoder reports a corrupted slice only if its syntax breaks. Most flipped bits do not break it:
the arithmetic decoder reads on, decodes garbage, and stops when the picture is full. So the picture
is declared taller than it is (`taller`), and the decoder must ignore errors in the rows below. A
correct slice ends with its own end mark at the true last macroblock. Garbage runs on into the rows
below until it hits an error or stops at the wrong place. Both are flagged, at no cost.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

from dataclasses import dataclass

from epic100.video.nal import SPS, Bits, code, escaped

INTRA = 2  # a slice type modulo 5, table 7-6
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Level 6.2, so that the taller picture does not reduce the reorder depth (table A-1).
_TOP_LEVEL = 62
_LEVEL_AT = 24  # bits before the level


@dataclass(frozen=True)
class StreamSettings:
    """Fields of a sequence parameter set; sizes in macroblocks (16 px).

    Attributes:
        poc_type: How the order of pictures is coded, clause 8.2.1.
        poc_bits: Bits of the order count in a slice header; 0 if it has none.
        colour_planes: Whether each colour has slices of its own.
        height_at: Bits [start, stop) of the height.
    """

    width: int
    height: int
    frame_num_bits: int
    poc_type: int
    poc_bits: int
    gaps_allowed: bool
    progressive: bool
    colour_planes: bool
    height_at: tuple[int, int]


def parse_sps(sps: bytes) -> StreamSettings:
    """Read a sequence parameter set (clause 7.3.2.1.1), including its NAL header.

    Raises:
        ValueError: It is not a sequence parameter set, or is broken.
    """
    bits = Bits(sps)
    if bits.u(8) & 31 != SPS:
        raise ValueError("not a sequence parameter set")
    profile = bits.u(8)
    bits.at = _LEVEL_AT + 8
    bits.ue()
    planes, chroma, poc_bits = False, 1, 0
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        planes = chroma == 3 and bool(bits.u(1))
        bits.skip(2)
        if bits.u(2) & 1:
            _skip_matrices(bits, 12 if chroma == 3 else 8)
    frame_num_bits, poc_type = bits.ue() + 4, bits.ue()
    if poc_type == 0:
        poc_bits = bits.ue() + 4
    elif poc_type == 1:
        bits.u(1)
        bits.skip(2)
        bits.skip(bits.ue())
    bits.ue()
    gaps, width, start = bool(bits.u(1)), bits.ue() + 1, bits.at
    height, stop = bits.ue() + 1, bits.at
    progressive = bool(bits.u(1))
    if poc_type > 2 or frame_num_bits > 16 or poc_bits > 16:
        raise ValueError("broken sequence parameter set")
    return StreamSettings(
        width, height, frame_num_bits, poc_type, poc_bits, gaps, progressive, planes, (start, stop)
    )


def is_arithmetic(pps: bytes) -> bool:
    """Whether pictures of a picture parameter set are coded with CABAC. Raises ValueError."""
    bits = Bits(pps, at=8)
    bits.skip(2)
    return bits.flag()


def taller(sps: bytes, rows: int) -> bytes:
    """The same parameter set for a picture with `rows` more rows of macroblocks at the bottom.

    Raises:
        ValueError: As of `parse_sps`.
    """
    settings, bits = parse_sps(sps), Bits(sps).text
    start, stop = settings.height_at
    # The height minus one; in pairs of rows if a frame has two fields.
    height = settings.height - 1 + (rows if settings.progressive else rows // 2)
    level = f"{_TOP_LEVEL:08b}"
    head = bits[:_LEVEL_AT] + level + bits[_LEVEL_AT + 8 : start]
    return escaped(head + code(height) + bits[stop:].rstrip("0"))


def _skip_matrices(bits: Bits, count: int) -> None:
    """Read over scaling lists (clause 7.3.2.1.1.1)."""
    for number in range(count):
        if bits.u(1):
            last = following = 8
            for _ in range(16 if number < 6 else 64):
                if following:
                    following = (last + bits.se()) % 256
                last = following or last
