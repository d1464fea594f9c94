"""Where the packets of a video are in its file: enough to read a clip without a demuxer.

A table takes about 10 bytes per packet, so the tables of a whole archive fit in memory. It is
stored in the frame index (`epic100.video.index_file`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from epic100.video.deltas import Deltas, smallest

COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")  # of a codec context


@dataclass(frozen=True)
class StreamFacts:
    """What a decoder must know about a stream.

    Attributes:
        codec: Name of FFmpeg's decoder.
        width: Width in pixels.
        height: Height in pixels.
        pix_fmt: FFmpeg's pixel format.
        time_base: Seconds per unit of time.
        length_size: Bytes of the length before each NAL unit; 0 for start codes or no NAL units.
        colours: The values of `COLOURS` that the container states.
    """

    codec: str
    width: int
    height: int
    pix_fmt: str
    time_base: Fraction
    length_size: int
    colours: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """The packets of one key frame and of all up to the next, in decoding order.

    Attributes:
        offset: int64 [P], in bytes.
        size: int64 [P], in bytes.
        pts: int64 [P], in units of the stream's time base.
        dts: int64 [P], in the same units.
        shown: bool [P]: not hidden by an edit list.
    """

    offset: np.ndarray
    size: np.ndarray
    pts: np.ndarray
    dts: np.ndarray
    shown: np.ndarray


@dataclass(frozen=True)
class PacketTable:
    """All packets of a picture stream, in decoding order.

    P packets, F pictures and K key frames; pictures and key frames are those of the frame index.

    Attributes:
        stream: What a decoder must know.
        offset: [P] where the coded bytes begin in the file.
        size: [P] number of coded bytes.
        dts: [P] decode times.
        ahead: [P] pts minus dts.
        hidden: Numbers of the packets that an edit list hides.
        frames: [F] pts in presentation order.
        key_packet: [K] packet numbers.
        key_crc: [K] CRC-32 of the packets' bytes.
        key_sets: [K] index into `sets`: the parameter sets in force before the key frame.
        sets: Extradata for a decoder, in the format of the file; number 0 is the file's own.
        file_size: In bytes.
        direct: Whether the file can be read by the places of its packets: the bytes at each offset
            were equal to the demuxer's packet. If not (lacing, start codes, a head that changes),
            the file must be read through its container.
    """

    stream: StreamFacts
    offset: Deltas
    size: np.ndarray
    dts: Deltas
    ahead: np.ndarray
    hidden: np.ndarray
    frames: Deltas
    key_packet: np.ndarray
    key_crc: np.ndarray
    key_sets: np.ndarray
    sets: list[bytes]
    file_size: int
    direct: bool

    @classmethod
    def pack(cls, stream: StreamFacts, packets: np.ndarray, *, keys: np.ndarray, crcs: np.ndarray,
             key_sets: np.ndarray, sets: list[bytes], file_size: int, direct: bool
    ) -> "PacketTable":  # fmt: skip
        """Build a table.

        Args:
            packets: int64 [P, 5]: offset, size, pts, dts, shown.
            keys: int64 [K]: packet numbers of the key frames.
        """
        offset, size, pts, dts, shown = packets.T
        return cls(
            stream=stream,
            offset=Deltas.of(offset),
            size=smallest(size),
            dts=Deltas.of(dts),
            ahead=smallest(pts - dts),
            hidden=np.flatnonzero(shown == 0).astype(np.int32),
            frames=Deltas.of(np.sort(pts[shown != 0], kind="stable")),
            key_packet=keys.astype(np.int32),
            key_crc=crcs,
            key_sets=smallest(key_sets),
            sets=sets,
            file_size=file_size,
            direct=direct,
        )

    def __len__(self) -> int:
        """Number of packets."""
        return len(self.size)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without the parameter sets."""
        arrays = (self.size, self.ahead, self.hidden, self.key_packet, self.key_crc, self.key_sets)
        sequences = (self.offset, self.dts, self.frames)
        return sum(each.nbytes for each in (*arrays, *sequences))

    def key_times(self) -> tuple[np.ndarray, np.ndarray]:
        """Presentation and decode times of the key frames, int64 [K] each."""
        dts = self.dts.between(0, len(self))[self.key_packet]
        return dts + self.ahead[self.key_packet], dts

    def group(self, key: int) -> Group:
        """The packets from key frame number `key` up to the next key frame."""
        start = int(self.key_packet[key])
        more = key + 1 < len(self.key_packet)
        return self.stretch(start, int(self.key_packet[key + 1]) if more else len(self))

    def stretch(self, start: int, stop: int) -> Group:
        """The packets with the numbers [start, stop)."""
        dts = self.dts.between(start, stop)
        shown = np.ones(stop - start, bool)
        if len(self.hidden):
            shown = ~np.isin(np.arange(start, stop), self.hidden)
        return Group(
            self.offset.between(start, stop),
            self.size[start:stop].astype(np.int64),
            dts + self.ahead[start:stop],
            dts,
            shown,
        )

    def to_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Arrays for `np.savez_compressed`."""
        facts = vars(self.stream) | {
            "time_base": str(self.stream.time_base),
            "file_size": self.file_size,
            "direct": self.direct,
        }
        return {
            **self.offset.to_arrays(f"{prefix}packet_offset"),
            **self.dts.to_arrays(f"{prefix}packet_dts"),
            **self.frames.to_arrays(f"{prefix}frame_pts"),
            f"{prefix}packet_size": self.size,
            f"{prefix}packet_ahead": self.ahead,
            f"{prefix}packet_hidden": self.hidden,
            f"{prefix}key_packet": self.key_packet,
            f"{prefix}key_crc": self.key_crc,
            f"{prefix}key_sets": self.key_sets,
            f"{prefix}sets": np.frombuffer(b"".join(self.sets), np.uint8),
            f"{prefix}sets_stop": np.cumsum([len(each) for each in self.sets]),
            f"{prefix}stream": np.array(json.dumps(facts)),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> "PacketTable":
        """Rebuild from the arrays of `to_arrays`."""
        facts = json.loads(str(arrays[f"{prefix}stream"]))
        facts["time_base"] = Fraction(facts["time_base"])
        facts["colours"] = tuple(facts["colours"])
        file_size, direct = facts.pop("file_size"), facts.pop("direct")
        data, stops = arrays[f"{prefix}sets"].tobytes(), arrays[f"{prefix}sets_stop"].tolist()
        starts = [0, *stops]
        return cls(
            stream=StreamFacts(**facts),
            offset=Deltas.from_arrays(arrays, f"{prefix}packet_offset"),
            size=arrays[f"{prefix}packet_size"],
            dts=Deltas.from_arrays(arrays, f"{prefix}packet_dts"),
            ahead=arrays[f"{prefix}packet_ahead"],
            hidden=arrays[f"{prefix}packet_hidden"],
            frames=Deltas.from_arrays(arrays, f"{prefix}frame_pts"),
            key_packet=arrays[f"{prefix}key_packet"],
            key_crc=arrays[f"{prefix}key_crc"],
            key_sets=arrays[f"{prefix}key_sets"],
            sets=[data[a:b] for a, b in zip(starts, stops, strict=False)],
            file_size=file_size,
            direct=direct,
        )
