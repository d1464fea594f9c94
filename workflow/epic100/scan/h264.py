"""Read H.264 parameter sets and slice headers, and declare pictures taller than they are.

A decoder reports a corrupted slice only if its syntax breaks. Most flipped bits do not break it:
the arithmetic decoder reads on, decodes garbage, and stops when the picture is full. So the picture
is declared taller than it is (`taller`), and the decoder must ignore errors in the rows below. A
correct slice ends with its own end mark at the true last macroblock. Garbage runs on into the rows
below until it hits an error or stops at the wrong place. Both are flagged, at no cost.

The numbers in a slice header reveal lost and misplaced pictures.

Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

from dataclasses import dataclass
from typing import NamedTuple

from epic100.video.nal import IDR, SPS, Bits, code, escaped

# Sizes of pictures are counted in macroblocks of this many pixels in each direction.
MACROBLOCK = 16
# These two are slice types modulo 5 (table 7-6).
INTRA, _SI = 2, 4
# A slice type, or the number of a picture parameter set, is invalid from these numbers on.
_TYPES, _SETS = 10, 256
# All numbers that are read lie within this many bytes of a slice.
_BYTES = 24
# A decoder keeps at most this many pictures (clause A.3.1).
MAX_REFERENCES = 16
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Level 6.2 is declared, so that a taller picture does not reduce the reorder depth (table A-1).
_TOP_LEVEL = 62
# This many bits come before the level.
_LEVEL_AT = 24


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
    return bool(bits.u(1))


def taller(sps: bytes, rows: int) -> bytes:
    """The same parameter set for a picture with `rows` more rows of macroblocks at the bottom.

    Raises:
        ValueError: As of `parse_sps`.
    """
    settings, bits = parse_sps(sps), Bits(sps).text
    start, stop = settings.height_at
    # The set stores the height minus one. If a frame has two fields, it counts pairs of rows.
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


class SliceHeader(NamedTuple):
    """What a slice says of itself and of its picture.

    Attributes:
        first: Its first macroblock; 0 if it begins a picture.
        kind: Slice type modulo 5.
        poc_lsb: Low bits of the picture order count; None if the stream does not code it.
    """

    first: int
    kind: int
    idr: bool
    reference: bool
    frame_num: int
    poc_lsb: int | None

    @property
    def intra(self) -> bool:
        """Whether it refers to no other picture."""
        return self.kind in (INTRA, _SI)


def slice_header(nal: bytes, stream: StreamSettings) -> SliceHeader | None:
    """Read the numbers of a header (clause 7.3.3).

    Args:
        nal: The NAL unit.
        stream: The sequence parameter set in force.

    Returns:
        The header, or None if no slice begins like this.
    """
    bits, idr, reference = Bits(nal[1:_BYTES]), nal[0] & 31 == IDR, bool(nal[0] & 0x60)
    try:
        first, slice_type, set_number = bits.ue(), bits.ue(), bits.ue()
        bits.at += 2 * stream.colour_planes
        frame_num = bits.u(stream.frame_num_bits)
        is_frame = stream.progressive or not bits.u(1)
        # A field has one more bit, which tells the top from the bottom one.
        bits.at += not is_frame
        bits.skip(idr)
        poc_lsb = bits.u(stream.poc_bits) if stream.poc_bits else None
    except ValueError:
        return None
    if slice_type >= _TYPES or set_number >= _SETS:
        return None
    return SliceHeader(first, slice_type % 5, idr, reference, frame_num, poc_lsb)


class Numbering:
    """Follows the numbers of pictures in decoding order (clauses 7.4.3 and 8.2.1.1).

    Args:
        settings: The parameter set in force.
        sequence: Number of the current sequence; order counts are comparable only within one.
    """

    def __init__(self, settings: StreamSettings, sequence: int = 0):
        self._settings = settings
        # These two belong to the last reference picture.
        self._frame_num: int | None = None
        self._order = 0
        self._since_break = 0
        self.sequence = sequence

    @property
    def after_break(self) -> bool:
        """Whether pictures may still release references from before a cut or splice."""
        return self._since_break <= MAX_REFERENCES

    def follow(self, header: SliceHeader, is_key: bool) -> tuple[bool, int | None]:
        """Check the numbers of the next picture.

        A stream that was cut or spliced may restart its numbering at a key frame that is not IDR.

        Returns:
            Whether `frame_num` continues as it must, and the order count in its sequence or None.
        """
        span = 1 << self._settings.frame_num_bits
        goes_on = self._frame_num is not None and (
            header.frame_num == (self._frame_num + 1) % span or self._settings.gaps_allowed
        )
        if header.idr:
            self.sequence += 1
            self._since_break = MAX_REFERENCES + 1
            self._order, goes_on = 0, header.frame_num == 0
        elif self._frame_num is None or (is_key and not goes_on):
            self.sequence += 1
            self._since_break = 0
            goes_on = True
        order = None
        if header.poc_lsb is not None:
            # The order is the number nearest to the last one that has these low bits.
            span = 1 << self._settings.poc_bits
            order = self._order + (header.poc_lsb - self._order + span // 2) % span - span // 2
        elif self._settings.poc_type == 2 and header.reference:
            # Pictures are shown in decoding order, and `frame_num` reveals missing ones.
            order = self._order + 2
        if header.reference:
            self._since_break += 1
            self._frame_num, self._order = header.frame_num, order or 0
        elif self._frame_num is None:
            self._frame_num = header.frame_num - 1
        return goes_on, order
