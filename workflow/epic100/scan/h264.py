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

from epic100.video.nal import IDR, SPS, Bits, code, escaped, kind_of

# Sizes of pictures are counted in macroblocks of this many pixels in each direction.
MACROBLOCK = 16
# These two are slice types modulo 5 (table 7-6).
INTRA, _SI = 2, 4
# A slice type, or the number of a picture parameter set, is invalid from these numbers on.
_TYPE_COUNT, _SET_COUNT = 10, 256
# All numbers that are read lie within this many bytes of a slice.
_HEADER_BYTES = 24
# A decoder keeps at most this many pictures (clause A.3.1).
MAX_REFERENCES = 16
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Level 6.2 is declared, so that a taller picture does not reduce the reorder depth (table A-1).
_TOP_LEVEL = 62
# This many bits come before the level, which has 8 bits.
_LEVEL_AT, _LEVEL_BITS = 24, 8


@dataclass(frozen=True)
class StreamSettings:
    """Fields of a sequence parameter set; sizes in macroblocks (16 px).

    Attributes:
        height: Height of a frame; of a field if `progressive` is false.
        frame_num_bits: Number of bits of `frame_num` in a slice header.
        poc_type: How the picture order count is coded, clause 8.2.1.
        poc_bits: Number of bits of the order count in a slice header; 0 if it has none.
        gaps_allowed: Whether `frame_num` may skip numbers without a loss.
        progressive: Whether all pictures are frames, and none is split into two fields.
        colour_planes: Whether each colour has slices of its own.
        height_at: Bits [start, stop) of the height within the set.
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
    # Fields that are read and not kept are only passed over: here it is the number of the set.
    bits.at = _LEVEL_AT + _LEVEL_BITS
    bits.ue()
    colour_planes, is_444, poc_bits = False, False, 0
    if profile in _HIGH_PROFILES:
        is_444 = bits.ue() == 3
        colour_planes = is_444 and bool(bits.u(1))
        bits.skip(2)  # These are the bit depths of luma and chroma.
        # The second of these two bits says that scaling lists follow.
        if bits.u(2) & 1:
            _skip_scaling_lists(bits, 12 if is_444 else 8)
    frame_num_bits, poc_type = bits.ue() + 4, bits.ue()
    if poc_type == 0:
        poc_bits = bits.ue() + 4
    elif poc_type == 1:
        # The order follows from a cycle of offsets: a flag, two offsets, and a counted list.
        bits.u(1)
        bits.skip(2)
        bits.skip(bits.ue())
    bits.ue()  # This is the number of reference pictures.
    gaps_allowed, width, height_start = bool(bits.u(1)), bits.ue() + 1, bits.at
    height, height_stop = bits.ue() + 1, bits.at
    progressive = bool(bits.u(1))
    if poc_type > 2 or frame_num_bits > 16 or poc_bits > 16:
        raise ValueError("broken sequence parameter set")
    return StreamSettings(
        width,
        height,
        frame_num_bits,
        poc_type,
        poc_bits,
        gaps_allowed,
        progressive,
        colour_planes,
        (height_start, height_stop),
    )


def is_arithmetic(pps: bytes) -> bool:
    """Whether a picture parameter set says that its pictures are coded with CABAC.

    Raises:
        ValueError: The set is too short.
    """
    bits = Bits(pps, at=8)  # The NAL header has 8 bits.
    bits.skip(2)  # These are the numbers of this set and of its sequence parameter set.
    return bool(bits.u(1))


def taller(sps: bytes, rows: int) -> bytes:
    """Rewrite a sequence parameter set for a picture that has more rows at the bottom.

    Args:
        sps: The set.
        rows: How many rows of macroblocks are added; an even number if pictures are interlaced.

    Raises:
        ValueError: `parse_sps` cannot read the set.
    """
    settings, bits = parse_sps(sps), Bits(sps).text
    height_start, height_stop = settings.height_at
    # The set stores the height minus one. If a frame has two fields, it counts pairs of rows.
    height = settings.height - 1 + (rows if settings.progressive else rows // 2)
    head = f"{bits[:_LEVEL_AT]}{_TOP_LEVEL:08b}{bits[_LEVEL_AT + _LEVEL_BITS : height_start]}"
    # The zeros at the end only fill the last byte, and `escaped` adds as many as are needed now.
    return escaped(head + code(height) + bits[height_stop:].rstrip("0"))


def _skip_scaling_lists(bits: Bits, count: int) -> None:
    """Read over the scaling lists of a sequence parameter set (clause 7.3.2.1.1.1)."""
    for number in range(count):
        if bits.u(1):  # This list is in the set.
            last_scale = next_scale = 8
            # The first six lists are for 4x4 transforms, the others for 8x8.
            for _ in range(16 if number < 6 else 64):
                # A next scale of 0 says that the list has no more codes.
                if next_scale:
                    next_scale = (last_scale + bits.se()) % 256
                last_scale = next_scale or last_scale


class SliceHeader(NamedTuple):
    """The numbers in the header of a slice.

    Attributes:
        first: Its first macroblock; 0 if it begins a picture.
        kind: Slice type modulo 5.
        idr: Whether its picture is IDR: decoding can begin there, and numbers start anew.
        reference: Whether other pictures may depend on its picture.
        frame_num: Number of the picture, which counts reference pictures.
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
        """Whether the slice is decoded without any other picture."""
        return self.kind in (INTRA, _SI)


def slice_header(nal: bytes, stream: StreamSettings) -> SliceHeader | None:
    """Read the numbers in the header of a slice (clause 7.3.3).

    Args:
        nal: The NAL unit of the slice.
        stream: The sequence parameter set in force.

    Returns:
        The header, or None if no valid slice begins like this.
    """
    # The two bits under the mask 0x60 are nal_ref_idc.
    bits, idr = Bits(nal[1:_HEADER_BYTES]), kind_of("h264", nal) == IDR
    reference = bool(nal[0] & 0x60)
    try:
        first, slice_type, set_number = bits.ue(), bits.ue(), bits.ue()
        # Two bits name the colour plane of the slice.
        bits.at += 2 if stream.colour_planes else 0
        frame_num = bits.u(stream.frame_num_bits)
        is_frame = stream.progressive or not bits.u(1)
        # A field has one more bit, which tells the top from the bottom one.
        bits.at += 0 if is_frame else 1
        bits.skip(1 if idr else 0)  # An IDR picture has a number of its own.
        poc_lsb = bits.u(stream.poc_bits) if stream.poc_bits else None
    except ValueError:
        return None
    if slice_type >= _TYPE_COUNT or set_number >= _SET_COUNT:
        return None
    return SliceHeader(first, slice_type % 5, idr, reference, frame_num, poc_lsb)


class Numbering:
    """Checks that pictures are numbered without a jump, in decoding order.

    See clauses 7.4.3 (`frame_num`) and 8.2.1.1 (picture order count).

    Args:
        settings: The sequence parameter set in force.
        sequence: Number of the current sequence; order counts are comparable only within one.
    """

    def __init__(self, settings: StreamSettings, sequence: int = 0):
        self._settings = settings
        # These two belong to the last reference picture.
        self._frame_num: int | None = None
        self._order = 0
        # It counts the reference pictures since the stream was cut or spliced.
        self._since_break = 0
        self.sequence = sequence

    @property
    def after_break(self) -> bool:
        """Whether pictures may still release references from before a cut or splice."""
        return self._since_break <= MAX_REFERENCES

    def follow(self, header: SliceHeader, is_key: bool) -> tuple[bool, int | None]:
        """Check the numbers of the next picture.

        A stream that was cut or spliced may restart its numbering at a key frame that is not IDR.

        Args:
            header: The header of the picture's first slice.
            is_key: Whether decoding may begin at the picture.

        Returns:
            Whether `frame_num` continues as it must, and the order count within the sequence, or
            None if it is not known.
        """
        frame_num_span = 1 << self._settings.frame_num_bits
        goes_on = self._frame_num is not None and (
            header.frame_num == (self._frame_num + 1) % frame_num_span
            or self._settings.gaps_allowed
        )
        if header.idr:
            # After IDR no picture can refer back, so there is no break to be lenient about.
            self.sequence += 1
            self._since_break = MAX_REFERENCES + 1
            self._order, goes_on = 0, header.frame_num == 0
        # The stream begins here, or was cut or spliced before this key frame.
        elif self._frame_num is None or (is_key and not goes_on):
            self.sequence += 1
            self._since_break = 0
            goes_on = True
        order = None
        if header.poc_lsb is not None:
            # The order count is the number with these low bits that is nearest to the last one.
            poc_span = 1 << self._settings.poc_bits
            order = (
                self._order
                + (header.poc_lsb - self._order + poc_span // 2) % poc_span
                - poc_span // 2
            )
        elif self._settings.poc_type == 2 and header.reference:
            # Pictures are shown in decoding order, and `frame_num` reveals missing ones.
            order = self._order + 2
        if header.reference:
            self._since_break += 1
            self._frame_num, self._order = header.frame_num, order or 0
        # A picture that is no reference has the number after that of the last reference picture.
        elif self._frame_num is None:
            self._frame_num = header.frame_num - 1
        return goes_on, order
