"""Tracks which parameter sets of H.264 and HEVC are in force as packets are read.

A slice refers to its picture parameter set by number only. The content behind that number is what
the stream, or the file's sample entry, gave last. A decoder keeps it across seeks. So a decoder
that begins at a key frame must be given the sets that a decode from the start has there.
Clause numbers refer to Rec. ITU-T H.264 (08/2021) and ISO/IEC 14496-15 (2022).
"""

import re
from collections.abc import Iterator

SPS, PPS = 7, 8  # H.264, table 7-1
VPS_HEVC, SPS_HEVC, PPS_HEVC = 32, 33, 34  # Rec. ITU-T H.265, table 7-1
_START = re.compile(rb"\x00\x00\x01")
_AVCC_HEAD, _HVCC_HEAD = 6, 22  # bytes before the first set, or before the number of arrays

Key = tuple[int, int]  # (NAL unit type, id of the set)


class ParameterSets:
    """Follows the parameter sets of a stream, packet by packet, in decoding order.

    Attributes:
        collections: Extradata for a decoder, in the format of the file; number 0 is the file's own.
            For codecs other than H.264 and HEVC only the container's extradata is known.
        length_size: Bytes of the length before each NAL unit; 0 if there is none.
    """

    def __init__(self, codec: str, extradata: bytes | None):
        self.collections = [extradata or b""]
        self._codec = codec if codec in ("h264", "hevc") else ""
        self._sets: dict[Key, bytes] = {}
        self._numbers: dict[tuple[tuple[Key, bytes], ...], int] = {}
        self._now: int | None = 0
        self.length_size = 0
        self._head = b""
        self._restart(self.collections[0])
        self._numbers[self._state()] = 0

    def new_entry(self, extradata: bytes) -> None:
        """Switch to another sample entry of the file."""
        if not self._codec:
            if extradata not in self.collections:
                self.collections.append(extradata)
            self._now = self.collections.index(extradata)
            return
        self._restart(extradata)
        self._now = None

    def see(self, packet: bytes | memoryview) -> None:
        """Record the sets that a packet contains."""
        if not self._codec:
            return
        # Sets after the first slice belong to another picture.
        for unit in self._units(packet):
            kind = self._kind(unit[0])
            if self._is_set(kind):
                self._keep(kind, bytes(unit))
            elif self._is_slice(kind):
                return

    def number(self) -> int:
        """Number of the collection that is in force now."""
        if self._now is None:
            state = self._state()
            if state not in self._numbers:
                self._numbers[state] = len(self.collections)
                self.collections.append(self._extradata())
            self._now = self._numbers[state]
        return self._now

    def _restart(self, extradata: bytes) -> None:
        self._sets = {}
        self.length_size, self._head = 0, b""
        if self._codec == "h264" and len(extradata) > _AVCC_HEAD and extradata[0] == 1:
            self.length_size, self._head = (extradata[4] & 3) + 1, extradata[:_AVCC_HEAD]
            units = _avcc_units(extradata)
        elif self._codec == "hevc" and len(extradata) > _HVCC_HEAD and extradata[0] == 1:
            self.length_size, self._head = (extradata[21] & 3) + 1, extradata[:_HVCC_HEAD]
            units = _hvcc_units(extradata)
        else:
            units = _open_units(extradata)
        if self._codec:
            for unit in units:
                if self._is_set(self._kind(unit[0])):
                    self._keep(self._kind(unit[0]), bytes(unit))

    def _state(self) -> tuple[tuple[Key, bytes], ...]:
        return tuple(sorted(self._sets.items()))

    def _keep(self, kind: int, unit: bytes) -> None:
        try:
            key = kind, _set_id(self._codec, kind, unit)
        except ValueError:
            return  # corrupted: no decoder accepts it either
        if self._sets.get(key) != unit:
            self._sets[key] = unit
            self._now = None

    def _kind(self, first: int) -> int:
        return first & 31 if self._codec == "h264" else (first >> 1) & 63

    def _is_set(self, kind: int) -> bool:
        if self._codec == "h264":
            return kind in (SPS, PPS)
        return VPS_HEVC <= kind <= PPS_HEVC

    def _is_slice(self, kind: int) -> bool:
        return 1 <= kind <= 5 if self._codec == "h264" else kind < VPS_HEVC

    def _units(self, packet: bytes | memoryview) -> Iterator[bytes | memoryview]:
        if not self.length_size:
            yield from _open_units(bytes(packet))
            return
        position, size = 0, len(packet)
        while position + self.length_size < size:
            start = position + self.length_size
            position = start + int.from_bytes(packet[position:start], "big")
            if position > size or position == start:
                return
            yield packet[start:position]

    def _extradata(self) -> bytes:
        by_kind: dict[int, list[bytes]] = {}
        for (kind, _), unit in sorted(self._sets.items()):
            by_kind.setdefault(kind, []).append(unit)
        if not self._head:
            return b"".join(b"\0\0\0\1" + unit for units in by_kind.values() for unit in units)
        if self._codec == "h264":
            sps, pps = by_kind.get(SPS, []), by_kind.get(PPS, [])
            profile = sps[0][1:4] if sps else self._head[1:4]
            head = self._head[:1] + profile + self._head[4:5]
            return b"".join([head, bytes([0xE0 | len(sps)]), *map(_sized, sps),
                             bytes([len(pps)]), *map(_sized, pps)])  # fmt: skip
        arrays = [
            bytes([kind]) + len(units).to_bytes(2, "big") + b"".join(map(_sized, units))
            for kind, units in by_kind.items()
        ]
        return self._head + bytes([len(arrays)]) + b"".join(arrays)


def _sized(unit: bytes) -> bytes:
    return len(unit).to_bytes(2, "big") + unit


def _avcc_units(data: bytes) -> Iterator[bytes]:
    """The sets of an avcC record (ISO/IEC 14496-15, 5.3.3.1), as far as it is complete."""
    position, count = _AVCC_HEAD, data[_AVCC_HEAD - 1] & 31
    for last in (False, True):
        for _ in range(count):
            start = position + 2
            position = start + int.from_bytes(data[start - 2 : start], "big")
            if position > len(data) or position == start:
                return
            yield data[start:position]
        if last or position >= len(data):
            return
        count, position = data[position], position + 1


def _hvcc_units(data: bytes) -> Iterator[bytes]:
    """The sets of an hvcC record (ISO/IEC 14496-15, 8.3.3.1), as far as it is complete."""
    position = _HVCC_HEAD + 1
    for _ in range(data[_HVCC_HEAD]):
        count = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            start = position + 2
            position = start + int.from_bytes(data[start - 2 : start], "big")
            if position > len(data) or position == start:
                return
            yield data[start:position]


def _open_units(data: bytes) -> Iterator[bytes]:
    """NAL units between start codes (H.264, annex B)."""
    places = [match.end() for match in _START.finditer(data)]
    stops = [place - 3 for place in places[1:]] + [len(data)]
    for start, stop in zip(places, stops, strict=False):
        unit = data[start:stop].rstrip(b"\0")
        if unit:
            yield unit


def _set_id(codec: str, kind: int, unit: bytes) -> int:
    """Id of a set (H.264, 7.3.2.1.1 and 7.3.2.2; H.265, 7.3.2.1 to 7.3.2.3)."""
    data = unit[:64].replace(b"\0\0\3", b"\0\0")
    bits = "".join(f"{byte:08b}" for byte in data)
    if codec == "h264":
        return _exp_golomb(bits, 32 if kind == SPS else 8)
    if kind == VPS_HEVC:
        return int(bits[16:20], 2)
    if kind == PPS_HEVC:
        return _exp_golomb(bits, 16)
    layers = int(bits[20:23], 2)  # profile_tier_level: 96 bits, plus some per sub-layer
    at = 24 + 96
    if layers:
        flags = [bits[at + 2 * i : at + 2 * i + 2] for i in range(layers)]
        at += 16
        at += sum(88 * (flag[:1] == "1") + 8 * (flag[1:] == "1") for flag in flags)
    return _exp_golomb(bits, at)


def _exp_golomb(bits: str, at: int) -> int:
    one = bits.find("1", at)
    if one < 0 or one - at > 16 or 2 * one - at + 1 > len(bits):
        raise ValueError("no id here")
    return int(bits[one : 2 * one - at + 1], 2) - 1
