"""Read the NAL units of H.264 and HEVC in MP4, and read and change the parameter sets of H.264.

Clause numbers refer to Rec. ITU-T H.264 (08/2021) and ISO/IEC 14496-15 (2022). Sequence and picture
parameter sets, SPS and PPS, are their terms.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# NAL unit types of H.264 are in table 7-1.
SLICE, IDR, SPS, PPS = 1, 5, 7, 8
# The types of parameter sets; for HEVC they are in table 7-1 of Rec. ITU-T H.265.
_SETS = {"h264": (SPS, PPS), "hevc": (32, 33, 34)}
# This byte of an avcC or hvcC record ends with two bits: the bytes of a length, minus one.
_LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}
_ESCAPED = re.compile(rb"\x00\x00(?=[\x00-\x03])")
# The maximum number of zeros at the beginning of an Exp-Golomb code.
_MAX_ZEROS = 32


class Bits:
    """Reads the fields of a NAL unit bit by bit.

    The bits are text: where many fields are skipped, this is faster than an integer.

    Attributes:
        digits: All bits as a text of zeros and ones, most significant first, without emulation
            prevention.
        at: Position of the next bit to read.
    """

    __slots__ = ("at", "digits")

    def __init__(self, escaped: bytes, at: int = 0):
        """Turn bytes of a unit, with emulation prevention, into bits; skip the first `at`."""
        # An encoder puts a byte 3 after two zeros, so that no start code comes up by chance.
        data = escaped.replace(b"\0\0\3", b"\0\0")
        self.digits, self.at = f"{int.from_bytes(data):0{8 * len(data)}b}", at

    def u(self, count: int) -> int:
        """Read an unsigned number of `count` bits, u(n) in the standards; `count` is 1 or more.

        Raises:
            ValueError: There are fewer bits.
        """
        self.at += count
        if self.at > len(self.digits):
            raise ValueError("there are no more bits")
        return int(self.digits[self.at - count : self.at], 2)

    def ue(self) -> int:
        """Read an Exp-Golomb code, clause 9.1: `1` is 0, `010` is 1, `011` is 2, `00100` is 3.

        Raises:
            ValueError: The bits end inside a code, or it is too long.
        """
        one_at = self.digits.find("1", self.at)
        zeros = one_at - self.at
        # After n zeros, the code is a one and n more bits. These n + 1 bits are the number plus 1.
        stop = one_at + zeros + 1
        # If there is no one, `find` returns -1, and the number of zeros is negative.
        if not 0 <= zeros <= _MAX_ZEROS or stop > len(self.digits):
            raise ValueError("no Exp-Golomb code here")
        self.at = stop
        return int(self.digits[one_at:stop], 2) - 1

    def se(self) -> int:
        """Read a signed Exp-Golomb code, clause 9.1.1: the codes 0 to 4 are 0, 1, -1, 2, -2.

        Raises:
            ValueError: The bits end inside a code, or it is too long.
        """
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def escaped(bits: str) -> bytes:
    """Turn text of zeros and ones into the bytes of a NAL unit, with emulation prevention.

    See clause 7.4.1. Zeros fill the last byte.
    """
    bits += "0" * (-len(bits) % 8)  # For 13 bits, -13 % 8 is 3.
    return _ESCAPED.sub(b"\0\0\3", int(bits, 2).to_bytes(len(bits) // 8))


def length_size_of(codec: str, extradata: bytes) -> int:
    """Return how many bytes of length stand before each NAL unit; 0 if the codec has no units.

    Args:
        codec: Name of the codec.
        extradata: The avcC or hvcC record in the header of the file.
    """
    at = _LENGTH_SIZE_AT.get(codec, 0)
    is_record = 0 < at < len(extradata) and extradata[0] == 1
    return (extradata[at] & 3) + 1 if is_record else 0


def nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Split a packet into its NAL units, without the lengths between them.

    Args:
        data: The packet.
        length_size: Bytes of the length before each unit.

    Raises:
        ValueError: The units do not fill the packet exactly.
    """
    stop = 0
    while stop < len(data):
        # The length before the unit begins where the last unit ends.
        start = stop + length_size
        stop = start + int.from_bytes(data[stop:start])
        if stop > len(data) or stop == start:
            raise ValueError("not complete NAL units")
        yield data[start:stop]


def unit_type(unit: bytes, codec: str = "h264") -> int:
    """Read the type of a NAL unit of `h264` or `hevc` from its first byte, e.g. `SPS`."""
    # In H.264 it is the low 5 bits of the byte, in HEVC all bits but the first and the last one.
    return unit[0] & 31 if codec == "h264" else (unit[0] >> 1) & 63


def sets_in(codec: str, units: list[bytes]) -> list[bytes]:
    """List the parameter sets among the NAL units of a packet."""
    return [unit for unit in units if unit_type(unit, codec) in _SETS[codec]]


def sized(unit: bytes, length_size: int) -> bytes:
    """Put the length of a unit before it, in `length_size` bytes."""
    return len(unit).to_bytes(length_size) + unit


@dataclass(frozen=True)
class SetRecord:
    """The parameter sets in the header of an MP4, an avcC record (ISO/IEC 14496-15, 5.3.3.1).

    Attributes:
        head: Bytes of the record before its sets.
        sps: The sequence parameter sets.
        pps: The picture parameter sets.
    """

    head: bytes
    sps: list[bytes]
    pps: list[bytes]

    @classmethod
    def of(cls, extradata: bytes) -> "SetRecord":
        """Read the record from the extradata of a stream.

        Raises:
            ValueError: It is of another form, lacks a set, or breaks off.
        """
        if not length_size_of("h264", extradata):
            raise ValueError("no avcC record")
        groups, at = list[list[bytes]](), _LENGTH_SIZE_AT["h264"] + 1
        # The SPS come first, then the PPS. A byte before each group has its count: for the SPS in 5
        # bits, after three ones. Before each set are two bytes with its length.
        for count_bits in (0b11111, 0b11111111):
            count = int.from_bytes(extradata[at : at + 1]) & count_bits
            at += 1
            units = list[bytes]()
            for _ in range(count):
                start = at + 2
                at = start + int.from_bytes(extradata[at:start])
                units.append(extradata[start:at])
            groups.append(units)
        sps, pps = groups
        if at > len(extradata) or not sps or not pps or not all(sps + pps):
            raise ValueError("the record breaks off")
        return cls(extradata[: _LENGTH_SIZE_AT["h264"] + 1], sps, pps)

    def packed(self) -> bytes:
        """Return the bytes of the record, as `of` reads them."""
        record = bytearray(self.head)
        # The count of the SPS has 5 bits, after three ones; that of the PPS has 8.
        for units, marker_bits in ((self.sps, 0xE0), (self.pps, 0)):
            record.append(len(units) | marker_bits)
            record += b"".join(sized(unit, 2) for unit in units)
        return bytes(record)


# Sets of these profiles also have the fields of chroma format and scaling lists.
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Level 6.2 is declared, so that a taller frame does not reduce the reorder depth (table A-1).
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
        progressive: Whether no frame is split into two fields.
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
    bits.ue()  # The number of reference frames is not needed.
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
    """Whether a picture parameter set says that its frames are coded with CABAC.

    Raises:
        ValueError: The set is too short.
    """
    bits = Bits(pps, at=8)  # The NAL header has 8 bits.
    bits.ue(), bits.ue()  # The numbers of this set and of its sequence parameter set.
    return bool(bits.u(1))


def with_more_rows(sps: bytes, rows: int) -> bytes:
    """Rewrite a sequence parameter set, so that a decoder expects more rows below each frame.

    Args:
        sps: The set.
        rows: Number of rows of macroblocks to add; an even number if frames are interlaced.

    Returns:
        The set with the larger height, and with level 6.2: with its own level, the larger height
        would reduce the number of frames that a decoder can reorder (table A-1).

    Raises:
        ValueError: `parse_sps` cannot read the set.
    """
    settings = parse_sps(sps)
    bits = Bits(sps).digits
    height_start, height_stop = settings.height_at
    # If a frame has two fields, the height counts pairs of rows.
    added = rows if settings.progressive else rows // 2
    # The set has the height minus one as an Exp-Golomb code (`Bits.ue`). The code of n - 1 is n in
    # binary, after one zero fewer than n has digits: for a height of 5 it is `00101`.
    binary = f"{settings.height + added:b}"
    code = "0" * (len(binary) - 1) + binary
    head = f"{bits[:_LEVEL_AT]}{_TOP_LEVEL:08b}{bits[_LEVEL_AT + _LEVEL_BITS : height_start]}"
    # The zeros at the end fill the last byte. They are removed, since `escaped` adds new ones.
    return escaped(head + code + bits[height_stop:].rstrip("0"))


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
