"""Read H.264 streams directly: NAL units, slice headers, and a taller picture size.

A decoder reports a corrupted slice only if its syntax breaks. Most flipped bits do not break it:
the arithmetic decoder reads on, decodes garbage, and stops when the picture is full. So the picture
is declared taller than it is (`taller`), and the decoder must ignore errors in the rows below. A
correct slice ends with its own end mark at the true last macroblock. Garbage runs on into the rows
below until it hits an error or stops at the wrong place. Both are flagged, at no cost.
Clause numbers refer to Rec. ITU-T H.264 (08/2021).
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

SLICE, IDR, SPS, PPS = 1, 5, 7, 8  # NAL unit types, table 7-1
_INTRA = (2, 4)  # slice types I and SI, table 7-6
HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Level 6.2, so that the taller picture does not reduce the reorder depth (table A-1).
_TOP_LEVEL = 62
_ESCAPED = re.compile(rb"\x00\x00(?=[\x00-\x03])")


class Bits:
    """Reads bits, most significant first. Reads zeros past the end.

    Args:
        value: The bits as one integer.
        left: How many of its last bits are read.
    """

    def __init__(self, value: int, left: int):
        self.value, self.left = value << 64, left + 64

    def u(self, count: int) -> int:
        """Read an unsigned number of `count` bits."""
        self.left -= count
        return (self.value >> self.left) & ((1 << count) - 1)

    def ue(self) -> int:
        """Read an Exp-Golomb code, clause 9.1. Raises ValueError for a code of over 32 bits."""
        zeros = self.left - (self.value & ((1 << self.left) - 1)).bit_length()
        if zeros > 32 or self.left < 2 * zeros + 1:
            raise ValueError("no Exp-Golomb code here")
        self.left -= zeros
        return self.u(zeros + 1) - 1

    def se(self) -> int:
        """Read a signed Exp-Golomb code, clause 9.1.1."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


@dataclass(frozen=True)
class StreamSettings:
    """Fields of a sequence parameter set that slice headers need; sizes in macroblocks (16 px)."""

    width: int
    height: int
    frame_num_bits: int
    poc_type: int
    poc_bits: int
    gaps_allowed: bool
    progressive: bool
    colour_planes: bool
    has_chroma: bool
    codes_order: bool  # with poc_type 1: slices give differences of order counts
    height_at: tuple[int, int]  # bits [start, stop) of the height in the unescaped bytes


def parse_sps(sps: bytes) -> StreamSettings:
    """Read a sequence parameter set (clause 7.3.2.1.1), including its NAL header.

    Raises:
        ValueError: It is not a sequence parameter set, or is broken.
    """
    data = sps.replace(b"\0\0\3", b"\0\0")
    bits = Bits(int.from_bytes(data, "big"), 8 * len(data))
    whole = bits.left
    if bits.u(8) & 31 != SPS:
        raise ValueError("not a sequence parameter set")
    profile = bits.u(8)
    bits.u(16)
    bits.ue()
    planes, chroma, codes_order = False, 1, False
    if profile in HIGH_PROFILES:
        chroma = bits.ue()
        planes = chroma == 3 and bool(bits.u(1))
        bits.ue(), bits.ue(), bits.u(1)
        if bits.u(1):
            for number in range(12 if chroma == 3 else 8):
                if bits.u(1):
                    skip_scaling_list(bits, 16 if number < 6 else 64)
    frame_num_bits = bits.ue() + 4
    poc_type, poc_bits = bits.ue(), 0
    if poc_type == 0:
        poc_bits = bits.ue() + 4
    elif poc_type == 1:
        codes_order = not bits.u(1)
        bits.se(), bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    bits.ue()
    gaps = bool(bits.u(1))
    width = bits.ue() + 1
    start = whole - bits.left
    height = bits.ue() + 1
    stop = whole - bits.left
    if poc_type > 2 or frame_num_bits > 16 or poc_bits > 16 or bits.left < 64:
        raise ValueError("broken sequence parameter set")
    progressive, has_chroma = bool(bits.u(1)), chroma > 0 and not planes
    return StreamSettings(width, height, frame_num_bits, poc_type, poc_bits, gaps, progressive,
                          planes, has_chroma, codes_order, (start, stop))  # fmt: skip


def taller(sps: bytes, rows: int) -> bytes:
    """The same parameter set for a picture with `rows` more rows of macroblocks at the bottom."""
    settings = parse_sps(sps)
    start, stop = settings.height_at
    data = bytearray(sps.replace(b"\0\0\3", b"\0\0"))
    data[3] = _TOP_LEVEL
    length = 8 * len(data)
    value = int.from_bytes(data, "big")
    head, tail = value >> (length - start), value & ((1 << (length - stop)) - 1)
    # ue(v) of the height minus one; in pairs of rows if a frame has two fields.
    code = settings.height + (rows if settings.progressive else rows // 2)
    size = 2 * code.bit_length() - 1
    value = ((head << size | code) << (length - stop)) | tail
    length += size - (stop - start)
    raw = (value << -length % 8).to_bytes((length + 7) // 8, "big").rstrip(b"\0")
    return _ESCAPED.sub(b"\0\0\3", raw)


def taller_extradata(extradata: bytes, rows: int) -> bytes:
    """Apply `taller` to every parameter set of an avcC record (ISO 14496-15, 5.3.3.1).

    Raises:
        ValueError: `extradata` is not such a record.
    """
    out = bytearray(extradata[:6])
    for sps, after in extradata_sps(extradata):
        new = taller(sps, rows)
        out += len(new).to_bytes(2, "big") + new
        position = after
    return bytes(out) + extradata[position:]


def read_extradata(extradata: bytes | None) -> tuple[StreamSettings, int]:
    """Read an avcC record.

    Returns:
        Stream settings, and the number of bytes of a NAL unit length.

    Raises:
        ValueError: It is not an avcC record, or its parameter sets differ.
    """
    extradata = extradata or b""
    (sps, _), *others = extradata_sps(extradata)
    settings = parse_sps(sps)
    if any(parse_sps(other) != settings for other, _ in others):
        raise ValueError("several settings in one stream")
    return settings, (extradata[4] & 3) + 1


def extradata_sps(extradata: bytes) -> list[tuple[bytes, int]]:
    """(set, byte where it ends) for each sequence parameter set of an avcC record.

    Raises:
        ValueError: It is not an avcC record, or is broken.
    """
    if len(extradata) < 8 or extradata[0] != 1 or not extradata[5] & 31:
        raise ValueError("not an avcC record")
    found, position = [], 6
    for _ in range(extradata[5] & 31):
        length = int.from_bytes(extradata[position : position + 2], "big")
        position += 2 + length
        if not length or position > len(extradata):
            raise ValueError("broken avcC record")
        found.append((extradata[position - length : position], position))
    return found


def extradata_pps(extradata: bytes) -> list[bytes]:
    """The picture parameter sets of an avcC record. Raises ValueError."""
    position = extradata_sps(extradata)[-1][1]
    found, count, position = [], extradata[position], position + 1
    for _ in range(count):
        length = int.from_bytes(extradata[position : position + 2], "big")
        position += 2 + length
        if not length or position > len(extradata):
            raise ValueError("broken avcC record")
        found.append(extradata[position - length : position])
    return found


def is_arithmetic(extradata: bytes) -> bool:
    """Whether slices are coded with CABAC (clause 7.4.2.2), by the first picture parameter set."""
    *_, (_, stop) = extradata_sps(extradata)
    start = stop + 3  # after their number and the length of the first
    bits = Bits(int.from_bytes(extradata[start + 1 : start + 9].ljust(8, b"\0"), "big"), 64)
    bits.ue(), bits.ue()
    return bool(bits.u(1))


def nal_units(packet: bytes | memoryview, length_size: int) -> list[tuple[int, int]] | None:
    """(start, stop) of the NAL units of a packet, or None if they do not fill it exactly."""
    units, position, size = [], 0, len(packet)
    while position < size:
        start = position + length_size
        position = start + int.from_bytes(packet[position:start], "big")
        if position > size or position == start:
            return None
        units.append((start, position))
    return units


def has_forbidden_bytes(nal: bytes) -> bool:
    """Whether a NAL unit contains 000000, 000001 or 000002 before its end, which 7.4.1 forbids.

    A block of zeros decodes to endless skipped macroblocks without an error. This check finds it.
    """
    at = nal.find(b"\0\0")
    while 0 <= at < len(nal) - 2:
        if nal[at + 2] < 3:
            return nal[at:].strip(b"\0") != b""  # zeros after the end are harmless
        at = nal.find(b"\0\0", at + 2)
    return False


class SliceHeader(NamedTuple):
    """Numbers of a picture in decoding order and in presentation order.

    Attributes:
        poc_lsb: Low bits of the picture order count; None if the stream does not code it.
    """

    idr: bool
    intra: bool
    reference: bool
    frame_num: int
    poc_lsb: int | None


HEADER_BYTES = 20  # of a NAL unit; enough for the fields that are read


def slice_header(nal: bytes, settings: StreamSettings) -> SliceHeader:
    """Read the start of a slice (7.3.3). Runs for every packet, so it avoids the slower `Bits`.

    Args:
        nal: The first HEADER_BYTES of the NAL unit.
        settings: The parameter set in force.

    Raises:
        ValueError: The first slice of a picture cannot begin like this.
    """
    data = nal[1:].replace(b"\0\0\3", b"\0\0")
    value, left = int.from_bytes(data, "big"), 8 * len(data) - 1
    if not value >> left:  # the code of first_mb_in_slice 0 is a single 1
        raise ValueError("no first slice of a picture")
    value ^= 1 << left
    left -= 2 * (left - value.bit_length()) + 1
    kind = (value >> left) - 1 if left > 0 else 99
    value &= (1 << max(left, 0)) - 1
    left -= 2 * (left - value.bit_length()) + 1
    if left <= 0 or kind > 9 or value >> left > 256:
        raise ValueError("no slice type or parameter set")
    value &= (1 << left) - 1
    value, left = value << 64, left + 64  # zeros after the end
    idr = nal[0] & 31 == IDR
    if settings.colour_planes:
        left -= 2
    left -= settings.frame_num_bits
    frame_num = (value >> left) & ((1 << settings.frame_num_bits) - 1)
    if not settings.progressive:
        left -= 1
        left -= (value >> left) & 1  # a field has one more bit: top or bottom
    if idr:
        bits = Bits(value & ((1 << left) - 1), left)
        bits.ue()
        left = bits.left - 64
    poc_lsb = None
    if settings.poc_type == 0:
        left -= settings.poc_bits
        poc_lsb = (value >> left) & ((1 << settings.poc_bits) - 1)
    return SliceHeader(idr, kind % 5 in _INTRA, bool(nal[0] & 0x60), frame_num, poc_lsb)


def skip_scaling_list(bits: Bits, count: int) -> None:
    """Read over a scaling list of `count` numbers (clause 7.3.2.1.1.1)."""
    last = following = 8
    for _ in range(count):
        if following:
            following = (last + bits.se()) % 256
        last = following or last
