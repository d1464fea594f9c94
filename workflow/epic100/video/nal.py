"""Read the NAL units of H.264 and HEVC, their bits, and the parameter sets that are in force.

Clause numbers refer to Rec. ITU-T H.264 (08/2021) and ISO/IEC 14496-15 (2022).
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

# NAL unit types are in table 7-1, both of Rec. ITU-T H.264 and of Rec. ITU-T H.265.
SLICE, IDR, SPS, PPS = 1, 5, 7, 8
VPS_HEVC, SPS_HEVC, PPS_HEVC = 32, 33, 34
SETS = {"h264": (SPS, PPS), "hevc": (VPS_HEVC, SPS_HEVC, PPS_HEVC)}
_SLICES = {"h264": range(1, 6), "hevc": range(VPS_HEVC)}
_START = re.compile(rb"\x00\x00\x01")
_ESCAPED = re.compile(rb"\x00\x00(?=[\x00-\x03])")
# This many bytes of a record come before the counts of its parameter sets.
_AVCC_HEAD, _HVCC_HEAD = 5, 22
# An Exp-Golomb code begins with at most this many zeros.
_MOST_ZEROS = 32
# An avcC record has room for this many SPS, and for this many PPS.
_MOST_SPS, _MOST_PPS = 31, 255


class Bits:
    """Reads the fields of a NAL unit bit by bit.

    The bits are kept as text: where many fields are skipped, this is faster than an integer.

    Args:
        escaped: Bytes of the unit, with emulation prevention.
        at: Number of bits to skip at the start.

    Attributes:
        text: All bits as zeros and ones, most significant first, without emulation prevention.
        at: Number of bits that are read.
    """

    __slots__ = ("at", "text")

    def __init__(self, escaped: bytes, at: int = 0):
        # An encoder puts a byte 3 after two zeros, so that no start code comes up by chance.
        data = escaped.replace(b"\0\0\3", b"\0\0")
        self.text, self.at = f"{int.from_bytes(data):0{8 * len(data)}b}", at

    def u(self, count: int) -> int:
        """Read an unsigned number of `count` bits, at least one. Raises ValueError at the end."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.text):
            raise ValueError("there are no more bits")
        return int(self.text[start : self.at], 2)

    def ue(self) -> int:
        """Read an Exp-Golomb code, clause 9.1: `1` is 0, `010` is 1, `011` is 2, `00100` is 3.

        Raises:
            ValueError: The bits end inside a code, or it is too long.
        """
        at, text = self.at, self.text
        one_at = text.find("1", at)
        if one_at == at:  # Most codes are this single bit.
            self.at = at + 1
            return 0
        # After n zeros, the one and n more bits are the number plus one.
        self.at = stop = 2 * one_at - at + 1
        if one_at < 0 or stop - one_at > _MOST_ZEROS + 1 or stop > len(text):
            raise ValueError("no Exp-Golomb code here")
        return int(text[one_at:stop], 2) - 1

    def se(self) -> int:
        """Read a signed Exp-Golomb code, clause 9.1.1: 0, 1, -1, 2, -2 for `ue` 0 to 4.

        Raises:
            ValueError: The bits end inside a code, or it is too long.
        """
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)

    def skip(self, codes: int) -> None:
        """Read over a number of Exp-Golomb codes.

        Raises:
            ValueError: The bits end inside a code, or it is too long.
        """
        # A broken file may name billions of codes. Reading fails long before, where its bits end.
        while codes > 0:
            self.ue()
            codes -= 1


def code(value: int) -> str:
    """The Exp-Golomb code of a number, as text of zeros and ones: 3 gives `00100`."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def escaped(bits: str) -> bytes:
    """Turn text of zeros and ones into the bytes of a NAL unit.

    They get emulation prevention (clause 7.4.1). Zeros fill the last byte.
    """
    bits += "0" * (-len(bits) % 8)  # The remainder of a negative number says how many are missing.
    return _ESCAPED.sub(b"\0\0\3", int(bits, 2).to_bytes(len(bits) // 8))


def nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Split a packet into its NAL units, without the lengths or start codes between them.

    Args:
        data: The packet.
        length_size: Bytes of the length before each unit; 0: start codes (H.264, annex B).

    Raises:
        ValueError: Units with lengths do not fill the packet exactly.
    """
    if not length_size:
        start_codes = list(_START.finditer(data))
        stops = [start_code.start() for start_code in start_codes[1:]] + [len(data)]
        # Zeros before a start code are no part of a unit, and a unit never ends with one.
        units = (
            data[start_code.end() : stop].rstrip(b"\0")
            for start_code, stop in zip(start_codes, stops, strict=False)
        )
        yield from filter(None, units)
        return
    position, size = 0, len(data)
    while position < size:
        start = position + length_size
        position = start + int.from_bytes(data[position:start])
        if position > size or position == start:
            raise ValueError("not whole NAL units")
        yield data[start:position]


def kind_of(codec: str, unit: bytes) -> int:
    """The type of a NAL unit of `h264` or `hevc`, from its first byte."""
    # It is the low 5 bits of this byte in H.264, and all but the first and the last bit in HEVC.
    return unit[0] & 31 if codec == "h264" else (unit[0] >> 1) & 63


def sized(unit: bytes, length_size: int) -> bytes:
    """Put the length of a unit before it, in `length_size` bytes."""
    return len(unit).to_bytes(length_size) + unit


@dataclass(frozen=True)
class SetRecord:
    """The parameter sets that the head of a file has for its decoder.

    A file has them in an avcC or hvcC record (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1), or as units
    with start codes.

    Attributes:
        codec: `h264` or `hevc`; others have no sets.
        head: Bytes of the record before its sets; empty with start codes.
        sets: The sets, as far as the record is complete.
        is_whole: Whether it is complete.
    """

    codec: str
    head: bytes
    sets: list[bytes]
    is_whole: bool

    @classmethod
    def of(cls, codec: str, extradata: bytes) -> "SetRecord":
        """Read the parameter sets in the extradata that a container gives for a decoder."""
        head_size = _HVCC_HEAD if codec == "hevc" else _AVCC_HEAD
        # A record begins with its version 1, and start codes begin with a 0.
        is_record = codec in SETS and len(extradata) > head_size + 1 and extradata[0] == 1
        units = _record_sets(codec, extradata, head_size) if is_record else nal_units(extradata, 0)
        sets, is_whole = [], codec in SETS
        try:
            for unit in units:
                if codec in SETS and kind_of(codec, unit) in SETS[codec]:
                    sets.append(unit)
        except (ValueError, IndexError):  # The record breaks off.
            is_whole = False
        return cls(codec, extradata[: head_size if is_record else 0], sets, is_whole)

    @property
    def length_size(self) -> int:
        """Bytes of the length before each NAL unit of the stream; 0 with start codes."""
        # The last two bits of the head are this number less one.
        return (self.head[-1] & 3) + 1 if self.head else 0

    def of_kind(self, kind: int) -> list[bytes]:
        """The parameter sets of one NAL unit type, such as all `SPS`."""
        return [unit for unit in self.sets if kind_of(self.codec, unit) == kind]

    def packed(self) -> bytes:
        """Write an avcC record of `head` and the sets, as many of each type as fit into it."""
        record = bytearray(self.head)
        # Three ones come before the count of the SPS.
        for unit_type, limit, marker_bits in ((SPS, _MOST_SPS, 0xE0), (PPS, _MOST_PPS, 0)):
            units = self.of_kind(unit_type)[:limit]
            record.append(len(units) | marker_bits)
            record += b"".join(sized(unit, 2) for unit in units)
        return bytes(record)


def _record_sets(codec: str, data: bytes, at: int) -> Iterator[bytes]:
    """Read the parameter sets of an avcC or hvcC record, in groups of one type.

    Args:
        codec: `h264` or `hevc`.
        data: The record.
        at: The byte where the sets begin.

    Raises:
        ValueError: The record breaks off. IndexError means the same.
    """
    # A hvcC record states its number of groups. An avcC record has two: SPS, then PPS.
    group_count, at = (data[at], at + 1) if codec == "hevc" else (2, at)
    for group in range(group_count):
        # A group of hvcC begins with its type in 1 byte and its count in 2 bytes.
        if codec == "hevc":
            count, at = int.from_bytes(data[at + 1 : at + 3]), at + 3
        # A group of avcC begins with its count. That of the SPS has 5 bits, after three ones.
        else:
            count, at = data[at] & (255 if group else 31), at + 1
        # Before each set are two bytes with its length.
        for _ in range(count):
            start, at = at + 2, at + 2 + int.from_bytes(data[at : at + 2])
            if not start < at <= len(data):
                raise ValueError("the record breaks off")
            yield data[start:at]


class ParameterSets:
    """Notes whether the parameter sets of a stream change, packet by packet, in decoding order.

    A slice refers to its picture parameter set by number only. The content behind that number is
    what the stream gave last, which a decoder keeps across seeks. So where sets change, decoding
    begins with a new decoder, at a key frame that brings its sets or a sample entry of the file.

    Args:
        codec: Name of the codec; only `h264` and `hevc` have sets.
        extradata: The decoder settings in the head of the file.

    Attributes:
        entries: The decoder settings (extradata) of each sample entry of the file; number 0 is
            those in its head.
        entry: Number of the sample entry that is in force now.
        change: Whether any set so far was another one than those of its sample entry.
        length_size: Bytes of the length before each NAL unit; 0 if there is none.
    """

    def __init__(self, codec: str, extradata: bytes | None):
        self._codec, self.entries, self.change = codec, list[bytes](), False
        self.new_entry(extradata or b"")
        self.length_size = self._record.length_size

    def new_entry(self, extradata: bytes) -> None:
        """Switch to another sample entry of the file, which is noted if it is new."""
        if extradata not in self.entries:
            self.entries.append(extradata)
        self.entry = self.entries.index(extradata)
        self._record = SetRecord.of(self._codec, extradata)

    def see(self, packet: bytes) -> bool:
        """Note the parameter sets of a packet; sets `change` if one is new.

        Returns:
            Whether the packet brings all sets that a new decoder needs: of a sequence and of
            pictures. A codec without sets needs none.
        """
        codec, length_size = self._codec, self._record.length_size
        if codec not in SETS:
            return True
        first_byte = packet[length_size : length_size + 1]
        if length_size and first_byte and kind_of(codec, first_byte) in _SLICES[codec]:
            return False  # Most packets begin with a slice, so no sets come before it.
        brought = set[int]()
        with contextlib.suppress(ValueError):  # The scan reports units that are not whole.
            for unit in nal_units(packet, length_size):
                unit_type = kind_of(codec, unit)
                if unit_type in _SLICES[codec]:
                    break  # Sets after the first slice belong to another picture.
                if unit_type in SETS[codec]:
                    brought.add(unit_type)
                    self.change |= unit not in self._record.sets
        # The VPS that HEVC also has does not count.
        *_, sps, pps = SETS[codec]
        return brought.issuperset((sps, pps))
