"""Read the NAL units of H.264 and HEVC, their bits, and the parameter sets in force.

Clause numbers refer to Rec. ITU-T H.264 (08/2021) and ISO/IEC 14496-15 (2022).
"""

import contextlib
import io
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
# An avcC or hvcC record has this many bytes before the counts of its parameter sets.
_AVCC_HEAD, _HVCC_HEAD = 5, 22
# An Exp-Golomb code begins with at most this many zeros.
_MOST_ZEROS = 32
# An avcC record has room for this many SPS, and for this many PPS.
_MOST_SPS, _MOST_PPS = 31, 255


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
        if not zeros:  # Most codes are a single one.
            self.at += 1
            return 0
        # After n zeros, the code is a one and n more bits. These n + 1 bits are the number plus 1.
        stop = one_at + zeros + 1
        # If there is no one, `find` returns -1, and the number of zeros is negative.
        if not 0 < zeros <= _MOST_ZEROS or stop > len(self.digits):
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

    def skip_codes(self, count: int) -> None:
        """Skip a number of Exp-Golomb codes.

        Raises:
            ValueError: The bits end inside a code, or it is too long.
        """
        # A broken file may state billions of codes. Reading fails long before, where its bits end.
        for _ in range(count):
            self.ue()


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
        # Zeros may come before a start code. A unit itself never ends with one.
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
    """Read the type of a NAL unit of `h264` or `hevc` from its first byte, such as `SPS`."""
    # In H.264 it is the low 5 bits of the byte, in HEVC all bits but the first and the last one.
    return unit[0] & 31 if codec == "h264" else (unit[0] >> 1) & 63


def sized(unit: bytes, length_size: int) -> bytes:
    """Put the length of a unit before it, in `length_size` bytes."""
    return len(unit).to_bytes(length_size) + unit


@dataclass(frozen=True)
class SetRecord:
    """The parameter sets in the header of a file.

    A file has them in an avcC or hvcC record (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1), or as units
    with start codes.

    Attributes:
        codec: Name of the codec; only `h264` and `hevc` have parameter sets.
        head: Bytes of the record before its sets; b"" if they have start codes.
        sets: The parameter sets; those before the fault if the record is corrupted.
        is_whole: Whether all sets could be read.
    """

    codec: str
    head: bytes
    sets: list[bytes]
    is_whole: bool

    @classmethod
    def of(cls, codec: str, extradata: bytes) -> "SetRecord":
        """Read the parameter sets from the extradata of a stream."""
        if codec not in SETS:
            return cls(codec, head=b"", sets=[], is_whole=False)
        head_size = _HVCC_HEAD if codec == "hevc" else _AVCC_HEAD
        # A record begins with its version 1, and start codes begin with a 0.
        is_record = len(extradata) > head_size + 1 and extradata[0] == 1
        units = (
            _record_sets(codec, extradata[head_size:])
            if is_record
            else nal_units(extradata, length_size=0)
        )
        sets = []
        is_whole = True
        # `units` is a generator, so the bytes are read in this loop, and a record that breaks off
        # raises here. The sets before the fault stay.
        try:
            for unit in units:
                if kind_of(codec, unit) in SETS[codec]:
                    sets.append(unit)
        except (ValueError, IndexError):
            is_whole = False
        return cls(codec, extradata[:head_size] if is_record else b"", sets, is_whole)

    @property
    def length_size(self) -> int:
        """Bytes of the length before each NAL unit of the stream; 0 for start codes."""
        # The last two bits of the head are this number minus one.
        return (self.head[-1] & 3) + 1 if self.head else 0

    def of_kind(self, kind: int) -> list[bytes]:
        """List the parameter sets of one NAL unit type, such as `SPS`."""
        return [unit for unit in self.sets if kind_of(self.codec, unit) == kind]

    def packed(self) -> bytes:
        """Write an avcC record of `head` and the sets, as many of each type as it can count."""
        record = bytearray(self.head)
        # Before the count of the SPS, which has 5 bits, are three ones.
        for unit_type, limit, marker_bits in ((SPS, _MOST_SPS, 0xE0), (PPS, _MOST_PPS, 0)):
            units = self.of_kind(unit_type)[:limit]
            record.append(len(units) | marker_bits)
            record += b"".join(sized(unit, 2) for unit in units)
        return bytes(record)


def _record_sets(codec: str, sets: bytes) -> Iterator[bytes]:
    """Read the parameter sets of an avcC or hvcC record, which has them in groups of one type.

    Args:
        codec: `h264` or `hevc`.
        sets: The bytes of the record after its head.

    Raises:
        ValueError: The record breaks off. IndexError means the same.
    """
    reader = io.BytesIO(sets)
    # A hvcC record states its number of groups. An avcC record has two: SPS, then PPS.
    group_count = reader.read(1)[0] if codec == "hevc" else 2
    for group in range(group_count):
        if codec == "hevc":
            # A group begins with its type in 1 byte and its count in 2 bytes.
            count = int.from_bytes(reader.read(3)[1:])
        else:
            # A group begins with its count. That of the SPS has 5 bits, after three ones.
            count = reader.read(1)[0] & (255 if group else 31)
        for _ in range(count):
            size = int.from_bytes(reader.read(2))
            unit = reader.read(size)
            if not 0 < size == len(unit):
                raise ValueError("the record breaks off")
            yield unit


class ParameterSets:
    """Finds out packet by packet, in decoding order, whether the parameter sets of a stream change.

    A slice refers to its picture parameter set by number only. The content behind that number is
    what the stream gave last, which a decoder keeps across seeks. So where sets change, decoding
    begins with a new decoder, at a key frame that brings its sets or a sample entry of the file.

    Attributes:
        entries: The extradata of each sample entry of the file; number 0 is that in its header.
        entry: Number of the sample entry that is in force now.
        change: Whether a packet so far had a set that its sample entry does not have.
        length_size: Bytes of the length before each NAL unit; 0 if there is none.
    """

    def __init__(self, codec: str, extradata: bytes | None):
        """Start before the first packet.

        Args:
            codec: Name of the codec; only `h264` and `hevc` have parameter sets.
            extradata: The extradata in the header of the file.
        """
        self._codec = codec
        self.entries: list[bytes] = []
        self.change = False
        self.new_entry(extradata or b"")
        self.length_size = self._record.length_size

    def new_entry(self, extradata: bytes) -> None:
        """Switch to another sample entry of the file; add it to `entries` if it is new."""
        if extradata not in self.entries:
            self.entries.append(extradata)
        self.entry = self.entries.index(extradata)
        self._record = SetRecord.of(self._codec, extradata)

    def see(self, packet: bytes) -> bool:
        """Read the parameter sets of a packet, and set `change` if one is new.

        Returns:
            Whether the packet has all sets that a new decoder needs: an SPS and a PPS. A codec
            without sets needs none.
        """
        codec = self._codec
        if codec not in SETS:
            return True
        length_size = self._record.length_size
        first_byte = packet[length_size : length_size + 1]
        if length_size and first_byte and kind_of(codec, first_byte) in _SLICES[codec]:
            return False  # Most packets begin with a slice, so no sets come before it.
        types = set[int]()
        # The units before a corrupted one are enough here, and the scan reports the damage.
        with contextlib.suppress(ValueError):
            for unit in nal_units(packet, length_size):
                unit_type = kind_of(codec, unit)
                if unit_type in _SLICES[codec]:
                    break  # Sets after the first slice belong to another picture.
                if unit_type in SETS[codec]:
                    types.add(unit_type)
                    self.change |= unit not in self._record.sets
        # The VPS that HEVC also has does not count.
        *_, sps, pps = SETS[codec]
        return types.issuperset((sps, pps))
