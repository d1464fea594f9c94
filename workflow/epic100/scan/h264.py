"""Read H.264 parameter sets and slice headers, and declare pictures taller than they are.

A decoder reports a corrupted slice only if its syntax breaks. Most flipped bits do not break it:
the arithmetic decoder reads on, decodes garbage, and stops when the picture is full. So the picture
is declared taller than it is (`with_more_rows`), and the decoder must ignore errors in the rows
below. A correct slice ends with its own end mark at the true last macroblock. Garbage runs on into
the rows below until it hits an error or stops at the wrong place. The decoder reports both, at no
cost.

The numbers in a slice header reveal lost and misplaced pictures.

Clause numbers refer to Rec. ITU-T H.264 (08/2021). As there, a picture is a frame or a field.
"""

from dataclasses import dataclass
from typing import NamedTuple

from epic100.video.nal import IDR, SPS, Bits, code, escaped, unit_type

# These two slice types, modulo 5, refer to no other picture (table 7-6).
INTRA, _SI = 2, 4
# The numbers of slice types and of picture parameter sets; a larger number is invalid.
_TYPE_COUNT, _SET_COUNT = 10, 256
# All numbers that are read are in the first 24 bytes of a slice, so no more bytes are turned into
# bits.
_HEADER_BYTES = 24
# The maximum number of pictures that a decoder keeps (clause A.3.1).
MAX_REFERENCES = 16
# Sets of these profiles also have the fields of chroma format and scaling lists.
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Level 6.2 is declared, so that a taller picture does not reduce the reorder depth (table A-1).
_TOP_LEVEL = 62
# The level is in the 8 bits from this one on.
_LEVEL_AT, _LEVEL_BITS = 24, 8


@dataclass(frozen=True)
class StreamSettings:
    """Fields of a sequence parameter set (clause 7.4.2.1.1).

    Attributes:
        width: Width in macroblocks (16 px).
        height: Height in macroblocks of a frame, or of a field if `progressive` is false.
        frame_num_bits: Number of bits of `frame_num` in a slice header.
        poc_type: How the picture order count (POC) is coded: 0, 1 or 2 of clause 8.2.1.
        poc_bits: Number of bits of the order count in a slice header; 0 if it has none.
        gaps_allowed: Whether `frame_num` may skip numbers without a loss.
        progressive: Whether all pictures are frames, and none is split into two fields.
        height_at: First bit of the height within the set, and the bit after its last one.
    """

    width: int
    height: int
    frame_num_bits: int
    poc_type: int
    poc_bits: int
    gaps_allowed: bool
    progressive: bool
    height_at: tuple[int, int]


def parse_sps(sps: bytes) -> StreamSettings:
    """Read a sequence parameter set with its NAL header (clause 7.3.2.1.1).

    Raises:
        ValueError: It is not a sequence parameter set, or is broken.
    """
    bits = Bits(sps)
    if bits.u(8) & 31 != SPS:
        raise ValueError("not a sequence parameter set")
    profile = bits.u(8)
    bits.at = _LEVEL_AT + _LEVEL_BITS
    bits.ue()  # The number of the set is not needed.
    if profile in _HIGH_PROFILES:
        is_444 = bits.ue() == 3  # This field is chroma_format_idc.
        if is_444 and bits.u(1):
            raise ValueError("each colour has its own slices")
        bits.ue(), bits.ue()  # These are bit_depth_luma_minus8 and bit_depth_chroma_minus8.
        # The first of these two bits, qpprime_y_zero_transform_bypass_flag, is not needed. The
        # second, seq_scaling_matrix_present_flag, says that scaling lists follow.
        if bits.u(2) & 1:
            _skip_scaling_lists(bits, count=12 if is_444 else 8)
    frame_num_bits = bits.ue() + 4
    poc_type = bits.ue()
    poc_bits = 0
    if poc_type == 0:
        poc_bits = bits.ue() + 4
    bits.ue()  # The number of reference pictures is not needed.
    gaps_allowed = bool(bits.u(1))
    # Both lengths are in macroblocks. The place of the height is stored for `with_more_rows`.
    width = bits.ue() + 1
    height_start = bits.at
    height = bits.ue() + 1
    height_stop = bits.at
    progressive = bool(bits.u(1))
    if poc_type not in (0, 2) or frame_num_bits > 16 or poc_bits > 16:
        raise ValueError("broken sequence parameter set")
    return StreamSettings(
        width=width,
        height=height,
        frame_num_bits=frame_num_bits,
        poc_type=poc_type,
        poc_bits=poc_bits,
        gaps_allowed=gaps_allowed,
        progressive=progressive,
        height_at=(height_start, height_stop),
    )


def is_arithmetic(pps: bytes) -> bool:
    """Whether a picture parameter set says that its pictures are coded with CABAC.

    Raises:
        ValueError: The set is too short.
    """
    bits = Bits(pps, at=8)  # The NAL header has 8 bits.
    bits.ue(), bits.ue()  # The numbers of this set and of its sequence parameter set.
    return bool(bits.u(1))


def with_more_rows(sps: bytes, rows: int) -> bytes:
    """Rewrite a sequence parameter set, so that a decoder expects more rows below each picture.

    Args:
        sps: The set.
        rows: Number of rows of macroblocks to add; an even number if pictures are interlaced.

    Returns:
        The set with the larger height, and with level 6.2: with its own level, the larger height
        would reduce the number of pictures that a decoder can reorder (table A-1).

    Raises:
        ValueError: `parse_sps` cannot read the set.
    """
    settings = parse_sps(sps)
    bits = Bits(sps).digits
    height_start, height_stop = settings.height_at
    # The set has the height minus one. If a frame has two fields, it counts pairs of rows.
    height = settings.height - 1 + (rows if settings.progressive else rows // 2)
    head = f"{bits[:_LEVEL_AT]}{_TOP_LEVEL:08b}{bits[_LEVEL_AT + _LEVEL_BITS : height_start]}"
    # The zeros at the end fill the last byte. They are removed, since `escaped` adds new ones.
    return escaped(head + code(height) + bits[height_stop:].rstrip("0"))


def _skip_scaling_lists(bits: Bits, count: int) -> None:
    """Skip the scaling lists of a sequence parameter set (clause 7.3.2.1.1.1)."""
    for number in range(count):
        # Each list begins with a flag that says whether its codes follow.
        if bits.u(1):
            last_scale = next_scale = 8
            # The first six lists are for 4x4 transforms, the others for 8x8.
            for _ in range(16 if number < 6 else 64):
                # The list ends early, without more codes, where the next scale is 0.
                if next_scale:
                    next_scale = (last_scale + bits.se()) % 256
                last_scale = next_scale or last_scale


class SliceHeader(NamedTuple):
    """Fields of a slice header (clause 7.4.3).

    Attributes:
        first_macroblock: Number of the first macroblock; 0 if the slice begins a picture.
        slice_type: Slice type modulo 5.
        idr: Whether the picture is IDR: decoding can begin there, and numbers start anew.
        reference: Whether other pictures may depend on the picture.
        frame_num: Number of the picture, which counts reference pictures.
        poc_lsb: Low bits of the picture order count; None if the stream does not code it.
    """

    first_macroblock: int
    slice_type: int
    idr: bool
    reference: bool
    frame_num: int
    poc_lsb: int | None

    @property
    def intra(self) -> bool:
        """Whether the slice is decoded without any other picture."""
        return self.slice_type in (INTRA, _SI)


def slice_header(nal: bytes, stream: StreamSettings) -> SliceHeader | None:
    """Read the numbers in the header of a slice (clause 7.3.3).

    Args:
        nal: The NAL unit of the slice.
        stream: The sequence parameter set in force.

    Returns:
        The header, or None if no valid slice begins like this.
    """
    idr = unit_type(nal) == IDR
    reference = bool(nal[0] & 0x60)  # These two bits are nal_ref_idc.
    bits = Bits(nal[1:_HEADER_BYTES])
    try:
        first_macroblock, slice_type, set_number = bits.ue(), bits.ue(), bits.ue()
        frame_num = bits.u(stream.frame_num_bits)
        # A flag says whether an interlaced picture is a field. A field has one more bit, which
        # tells the top field from the bottom one.
        is_field = not stream.progressive and bool(bits.u(1))
        bits.at += 1 if is_field else 0
        if idr:
            bits.ue()  # The number of an IDR picture among IDR pictures.
        poc_lsb = bits.u(stream.poc_bits) if stream.poc_bits else None
    except ValueError:
        return None
    if slice_type >= _TYPE_COUNT or set_number >= _SET_COUNT:
        return None
    return SliceHeader(
        first_macroblock=first_macroblock,
        slice_type=slice_type % 5,
        idr=idr,
        reference=reference,
        frame_num=frame_num,
        poc_lsb=poc_lsb,
    )


class Numbering:
    """Checks in decoding order that pictures are numbered without a jump.

    See clauses 7.4.3 (`frame_num`) and 8.2.1.1 (picture order count).

    Attributes:
        sequence: Number of the current coded video sequence. Order counts are comparable only
            within one.
        since_break: Number of reference pictures since the stream was cut or spliced; more than
            `MAX_REFERENCES` after an IDR picture.
    """

    def __init__(self, settings: StreamSettings, sequence: int = 0):
        """Start before the first picture; `sequence` is the number of the sequence before it."""
        self._settings = settings
        self.sequence = sequence
        # These are the `frame_num` and the order count of the last reference picture.
        self._frame_num: int | None = None
        self._order = 0
        self.since_break = 0

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
        is_consecutive = self._frame_num is not None and (
            header.frame_num == (self._frame_num + 1) % frame_num_span
            or self._settings.gaps_allowed
        )
        if header.idr:
            # After IDR no picture can refer back, so there is no break to be lenient about.
            self.sequence += 1
            self.since_break = MAX_REFERENCES + 1
            self._order = 0
            is_consecutive = header.frame_num == 0
        # The stream begins here, or was cut or spliced before this key frame.
        elif self._frame_num is None or (is_key and not is_consecutive):
            self.sequence += 1
            self.since_break = 0
            is_consecutive = True
        order = self._order_count(header)
        if header.reference:
            self.since_break += 1
            self._frame_num = header.frame_num
            self._order = order or 0
        # A picture that is no reference has the number after that of the last reference picture.
        elif self._frame_num is None:
            self._frame_num = header.frame_num - 1
        return is_consecutive, order

    def _order_count(self, header: SliceHeader) -> int | None:
        """Compute the picture order count of the next picture; None if it is not known."""
        if header.poc_lsb is not None:
            # The order count is the number with these low bits that is nearest to the last one.
            span = 1 << self._settings.poc_bits
            difference = (header.poc_lsb - self._order + span // 2) % span - span // 2
            return self._order + difference
        if self._settings.poc_type == 2 and header.reference:
            # Pictures of this type are shown in decoding order, and `frame_num` reveals missing
            # ones. Each frame adds two to the count, one for each of its fields.
            return self._order + 2
        return None
