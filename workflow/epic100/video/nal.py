"""Read the NAL units of H.264 and HEVC in MP4, their bits, and the parameter sets of H.264.

Clause numbers refer to Rec. ITU-T H.264 (08/2021) and ISO/IEC 14496-15 (2022).
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


def code(value: int) -> str:
    """Write a number as Exp-Golomb code, as text of zeros and ones: 3 gives `00100`."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


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
    position, size = 0, len(data)
    while position < size:
        start = position + length_size
        position = start + int.from_bytes(data[position:start])
        if position > size or position == start:
            raise ValueError("not complete NAL units")
        yield data[start:position]


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
        # A group begins with its count. That of the SPS has 5 bits, after three ones.
        for mask in (31, 255):
            count = int.from_bytes(extradata[at : at + 1]) & mask
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
        """Write the record again."""
        record = bytearray(self.head)
        # Before the count of the SPS, which has 5 bits, are three ones.
        for units, marker_bits in ((self.sps, 0xE0), (self.pps, 0)):
            record.append(len(units) | marker_bits)
            record += b"".join(sized(unit, 2) for unit in units)
        return bytes(record)
