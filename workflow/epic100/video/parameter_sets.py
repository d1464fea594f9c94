"""Tracks which parameter sets of H.264 and HEVC are in force as packets are read.

A slice refers to its picture parameter set by number only. The content behind that number is what
the stream, or the file's sample entry, gave last. A decoder keeps it across seeks. So a decoder
that begins at a key frame must be given the sets that a decode from the start has there.
"""

import contextlib
from dataclasses import replace

from epic100.video.nal import (
    SETS,
    SPS,
    SPS_HEVC,
    VPS_HEVC,
    Bits,
    SetRecord,
    kind_of,
    nal_units,
)

_SLICES = {"h264": range(1, 6), "hevc": range(VPS_HEVC)}
_ID_BYTES = 64  # of a set; its id is in these


class ParameterSets:
    """Follows the parameter sets of a stream, packet by packet, in decoding order.

    Attributes:
        collections: Extradata for a decoder, in the format of the file; number 0 is the file's own.
            For codecs other than H.264 and HEVC only the container's extradata is known.
        length_size: Bytes of the length before each NAL unit; 0 if there is none.
    """

    def __init__(self, codec: str, extradata: bytes | None):
        self.collections = [extradata or b""]
        self._codec = codec
        self.new_entry(self.collections[0])
        self.length_size = self._record.length_size
        self._numbers: dict[object, int] = {self._state(): 0}

    def new_entry(self, extradata: bytes) -> None:
        """Switch to another sample entry of the file."""
        self._extradata, self._record = extradata, SetRecord.of(self._codec, extradata)
        self._sets: dict[tuple[int, int], bytes] = {}  # by NAL unit type and id
        for unit in self._record.sets:
            self._keep(unit)

    def see(self, packet: bytes | memoryview) -> None:
        """Record the sets that a packet contains."""
        if self._codec not in SETS:
            return
        with contextlib.suppress(ValueError):  # the scan reports units that are not whole
            for unit in nal_units(packet, self._record.length_size):
                kind = kind_of(self._codec, unit)
                if kind in SETS[self._codec]:
                    self._keep(bytes(unit))
                elif kind in _SLICES[self._codec]:
                    return  # sets after the first slice belong to another picture

    def number(self) -> int:
        """Number of the collection that is in force now."""
        state = self._state()
        if state not in self._numbers:
            self._numbers[state] = len(self.collections)
            sets = [unit for _, unit in sorted(self._sets.items())]
            record = replace(self._record, sets=sets)
            self.collections.append(record.packed() if sets else self._extradata)
        return self._numbers[state]

    def _state(self) -> object:
        return tuple(sorted(self._sets.items())) or self._extradata

    def _keep(self, unit: bytes) -> None:
        with contextlib.suppress(ValueError):  # corrupted: no decoder accepts it either
            self._sets[kind_of(self._codec, unit), _set_id(self._codec, unit)] = unit


def _set_id(codec: str, unit: bytes) -> int:
    """Id of a set (H.264, 7.3.2.1.1 and 7.3.2.2; H.265, 7.3.2.1 to 7.3.2.3)."""
    bits, kind = Bits(unit[:_ID_BYTES], at=16), kind_of(codec, unit)
    if codec == "h264":
        bits.at = 32 if kind == SPS else 8
    elif kind == VPS_HEVC:
        return bits.u(4)
    elif kind == SPS_HEVC:  # behind profile_tier_level: 96 bits, and more for each sub-layer
        layers = bits.u(7) & 7
        bits.at += 1 + 96
        flags = [bits.u(2) for _ in range(layers)]
        bits.at += (16 - 2 * layers) * (layers > 0)
        bits.at += sum(88 * (flag >> 1) + 8 * (flag & 1) for flag in flags)
    return bits.ue()
