"""The frame index of a video file: when each frame is shown, and where its coded bytes are.

Frame i of a file is the i-th frame of its packet list in presentation order, with edit lists
applied, whether or not it decodes. Time 0 is the time of the first frame. So a frame that fails
to decode does not shift later frames, and a file of variable rate is indexed by its times.
"""

import json
import os
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
import numpy.typing as npt

from epic100.base.disk import HashedFile
from epic100.base.errors import EpicError, shown
from epic100.base.guarded import FileError, call
from epic100.settings.data import ScanLimits
from epic100.video.facts import StreamFacts, facts_of
from epic100.video.ffmpeg import COPY, ENCODE, begins_entry, demuxed, make_mp4, opened
from epic100.video.packet_table import COLUMNS, PACKET, RECORDED

# A file of indexes states this format, and a file of another one is not read. Raise the number when
# `to_arrays` changes.
FORMAT = "epic100 frame indexes 6"
# These are the limits for the index of one file, for which no packet is decoded.
LIMITS = ScanLimits(stall_seconds=20, memory_mib=1024)
# The maximum seconds of computing to index a file. They grow with the size of the file.
LIMIT_SECONDS = 600
# Progress is reported once in this number of packets.
PROGRESS_EVERY = 1000
# Number of bytes that are read at once to compare packets with the file.
_BUFFER_SIZE = 1 << 16
ANOTHER_FILE = "is not the file that was scanned; scan it again"


class FrameError(EpicError):
    """A requested frame cannot be read."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The frame index of one video file: a table of its packets, and the parameters of its stream.

    Times called `pts` or `dts` are in units of `time_base` seconds.

    Attributes:
        packets: `PACKET` [P]: the packets in decoding order.
        stream: The parameters of the stream that a decoder needs.
        extradata: The parameter sets in the header of the file.
        file_size: Size of the file in bytes.
        fps: Measured frames per second: the mean over all steps that are not gaps; 0 if unknown.
        late: Seconds on the clock of a player when it shows the first frame.
        md5: MD5 of the file, 32 digits in lower case. Files that are made from a video name the
            video by it.
    """

    packets: np.ndarray
    stream: StreamFacts
    extradata: bytes
    file_size: int
    fps: float
    late: float = 0.0
    md5: str = ""

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of time."""
        return self.stream.time_base

    @cached_property
    def frames(self) -> int:
        """Number of frames F."""
        return int(np.count_nonzero(self.packets["shown"]))

    @cached_property
    def keys(self) -> np.ndarray:
        """int64 [K]: the numbers of the key frames among the packets, hidden ones too."""
        return np.flatnonzero(self.packets["key"])

    @cached_property
    def key_pts(self) -> np.ndarray:
        """int64 [K]: the presentation times of the key frames (`keys`)."""
        return self.packets["pts"][self.keys]

    @cached_property
    def pts(self) -> np.ndarray:
        """int64 [F], ascending: the presentation time of each frame."""
        return self.pts_of(np.arange(self.frames))

    def pts_of(self, frames: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the presentation times of some frames, int64."""
        return self.packets["pts"][self.packets["frame"][np.asarray(frames)]]

    def group(self, key: int) -> np.ndarray:
        """List the packets from key frame number `key` up to the next key frame, `PACKET`."""
        has_next = key + 1 < len(self.keys)
        return self.packets[self.keys[key] : self.keys[key + 1] if has_next else None]

    def part(self, start: int, stop: int) -> "VideoIndex":
        """Make an index of the frames [start, stop), of use for their times alone.

        Its packets are in presentation order and lack others, so it cannot be used to decode.
        """
        # The column `frame` has the row of each frame's packet.
        packets = self.packets[self.packets["frame"][start:stop]]
        packets["frame"] = np.arange(len(packets))
        return replace(self, packets=packets)

    @property
    def times(self) -> np.ndarray:
        """float64 [F]: when each frame is shown, in seconds since the first one."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    def is_constant(self, frames: np.ndarray | slice = slice(None)) -> bool:
        """Whether frame i is shown at i / fps seconds, to within half a frame.

        Args:
            frames: Which frames are checked: bool [F] or a slice.
        """
        if self.frames < 2:
            return True
        if not self.fps:
            return False
        drift = np.abs(self.times - np.arange(self.frames) / self.fps)[frames]
        return bool((drift < 0.5 / self.fps).all())

    @cached_property
    def is_steady(self) -> bool:
        """Whether every frame i of the file is shown at i / fps seconds (`is_constant`)."""
        return self.is_constant()

    def at_steps(self, seconds: npt.ArrayLike) -> np.ndarray:
        """Find the frames that a video of the constant rate `fps` would show at some times, int64.

        Args:
            seconds: The times, in seconds since the first frame.
        """
        # A frame that begins up to half a step after a time is still the frame for this time.
        half_step = 0.5 / self.fps if self.fps else 0.0
        frames = np.searchsorted(self.times, np.asarray(seconds) + half_step, side="right") - 1
        return frames.clip(0, self.frames - 1)

    def steady_part(self, start: int, stop: int) -> tuple[int, np.ndarray]:
        """Convert the frames [start, stop) to a video of the constant rate `fps`.

        Samplers count frames, so that at a variable rate a clip would span more or less time.

        Returns:
            The number that the first frame has in a video of the constant rate; and the frame of
            this file that each frame of the part shows, int64. Where this file pauses, a frame
            comes more than once.
        """
        start_seconds, stop_seconds = self.time_of(start), self.time_of(stop)
        steps = np.arange(max(1, round((stop_seconds - start_seconds) * self.fps)))
        frames = self.at_steps(start_seconds + steps / self.fps).clip(start, stop - 1)
        return round(start_seconds * self.fps), frames

    def time_of(self, frame: int) -> float:
        """Return the second at which a frame begins; after the last one, frames follow at `fps`."""
        if frame < self.frames:
            return float(self.times[frame])
        return float(self.times[-1] + (frame - self.frames + 1) / self.fps)

    def frames_between(
        self, start_seconds: npt.ArrayLike, stop_seconds: npt.ArrayLike
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the frames that are shown during [start, stop) seconds, for several segments.

        This is the rule of `annotations.frames_between`, but with the measured times.

        Args:
            start_seconds: Start times of the segments, in seconds since the first frame.
            stop_seconds: Stop times of the segments, in seconds since the first frame.

        Returns:
            Start and stop frames, half-open, at least one frame each.
        """
        # The times are rounded, so a millionth of a second is tolerated.
        times = self.times
        start = np.searchsorted(times, np.asarray(start_seconds) + 1e-6, side="right") - 1
        stop = np.searchsorted(times, np.asarray(stop_seconds) - 1e-6, side="left")
        # The last frame is shown for one step. A segment that starts later starts at `frames`,
        # one past the last frame.
        is_past_end = np.asarray(start_seconds) >= times[-1] + (1 / self.fps if self.fps else 0)
        start = np.where(is_past_end, self.frames, np.maximum(start, 0))
        return start, np.maximum(stop, start + 1)

    def to_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Turn the index into arrays: one for each column of `packets`, and one of JSON.

        Args:
            prefix: Start of the names of the arrays, e.g. `P01_01/`.

        Returns:
            The arrays by name, e.g. `P01_01/offset`; `P01_01/stream` is the JSON.
        """
        columns = {f"{prefix}{name}": self.packets[name] for name in COLUMNS}
        facts = vars(self.stream) | {
            "time_base": self.time_base.as_integer_ratio(),
            "extradata": self.extradata.hex(),
            "file_size": self.file_size,
            "fps": self.fps,
            "late": self.late,
            "md5": self.md5,
        }
        return columns | {f"{prefix}stream": np.array(json.dumps(facts))}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], prefix: str = "") -> "VideoIndex":
        """Make an index of the arrays that `to_arrays` returned.

        Args:
            arrays: The arrays by name, or lists in their place.
            prefix: Start of their names, e.g. `P01_01/`.
        """
        packets = np.empty(len(arrays[f"{prefix}key"]), PACKET)
        for name in COLUMNS:
            packets[name] = arrays[f"{prefix}{name}"]
        facts: dict[str, Any] = json.loads(str(arrays[f"{prefix}stream"]))
        file_facts = {name: facts.pop(name) for name in ("file_size", "fps", "late", "md5")}
        extradata = bytes.fromhex(facts.pop("extradata"))
        facts["time_base"] = Fraction(*facts["time_base"])
        facts["colours"] = tuple(facts["colours"])
        return cls(packets, StreamFacts(**facts), extradata, **file_facts)


class PacketRecorder:
    """Collects the packets of a stream in decoding order, and makes a frame index of them.

    The file is read a second time, without the demuxer, and each packet is compared with the bytes
    at its offset. Only this proves that a reader may do the same. It takes little time, since the
    bytes are still in the system's cache.

    Attributes:
        shown: Whether the frame of the last packet is shown.
    """

    def __init__(self, file: HashedFile, stream: "av.VideoStream"):
        """Start before the first packet.

        Args:
            file: The video file.
            stream: The video stream of the file, which FFmpeg has open.
        """
        self._extradata = bytes(stream.codec_context.extradata or b"")
        self._stream = facts_of(file.name, stream)
        # The array is flat: for each packet, it has the values of the columns `RECORDED`.
        self._rows = array("q")
        self._file = file
        # These are the bytes that were read last, and their offset in the file.
        self._buffer, self._buffer_start = b"", 0
        self.shown = False
        self._last_offset, self._latest_pts = -1, -(2**62)

    def add(self, packet: "av.Packet", data: bytes) -> None:
        """Record a packet; set `shown`.

        Args:
            packet: The packet, as the demuxer returns it.
            data: Its bytes, at least one.

        Raises:
            FileError: The packet is not at its place, or is not coded as the ones before.
            DiskError: The file cannot be read.
        """
        offset = -1 if packet.pos is None else packet.pos
        if packet.pts is None or offset < 0 or not self._is_at(offset, data):
            raise FileError(f"its packets are not complete at their places; {make_mp4(COPY)}")
        # If an edit list shows several parts of the track, each part begins with a key frame that
        # is further up in the file, or hidden and not later than the frames before it.
        is_earlier = packet.is_discard and packet.pts <= self._latest_pts
        is_part = packet.is_keyframe and (offset < self._last_offset or is_earlier)
        if is_part or begins_entry(packet):
            raise FileError(f"it joins several films or parts; {make_mp4(ENCODE)}")
        self._last_offset, self.shown = offset, not packet.is_discard
        if self.shown:
            self._latest_pts = max(self._latest_pts, packet.pts)
        # Nothing comes before the first packet, so decoding can begin there whatever it is.
        is_key = packet.is_keyframe or not self._rows
        crc = zlib.crc32(data) if is_key else 0
        self._rows.extend((offset, packet.pts, len(data), crc, is_key, self.shown))

    def _is_at(self, offset: int, data: bytes) -> bool:
        """Whether the bytes of a packet are in the file at an offset."""
        if not 0 <= offset - self._buffer_start <= len(self._buffer) - len(data):
            self._buffer = self._file.read_at(offset, max(len(data), _BUFFER_SIZE))
            self._buffer_start = offset
        return self._buffer.startswith(data, offset - self._buffer_start)

    def index(self, keys: Sequence[bool] | None = None) -> VideoIndex:
        """Make the frame index of all packets so far.

        The rest of the file is read for the MD5.

        Args:
            keys: For each packet, whether it refers to no other frame; None: the flags of the
                container are trusted.
        """
        rows = np.frombuffer(self._rows, np.int64).reshape(-1, len(RECORDED))
        packets = np.empty(len(rows), PACKET)
        for name, column in zip(RECORDED, rows.T, strict=True):
            packets[name] = column
        if keys is not None:
            # Decoding can begin at the first packet, whatever it is.
            packets["key"][1:] = keys[1:]
        shown = np.flatnonzero(packets["shown"])
        pts = packets["pts"][shown]
        in_order = np.argsort(pts, kind="stable")
        # Row i of this column names the packet of frame i, so it has no more than F entries.
        packets["frame"] = -1
        packets["frame"][: len(shown)] = shown[in_order]
        return VideoIndex(
            packets=packets,
            stream=self._stream,
            extradata=self._extradata,
            file_size=self._file.size,
            fps=measured_rate(pts[in_order], self._stream.time_base),
            late=max(0.0, float(pts.min() * self._stream.time_base)) if len(pts) else 0.0,
            md5=self._file.md5(),
        )


def build_index(path: str | os.PathLike) -> VideoIndex:
    """Make the index of a file without a scan, in a process with limits on memory and time.

    Raises:
        FrameError: The file has no video that can be read, or needs more than `LIMITS` allow.
        ProcessError: The disk or the machine fails, not the file.
    """
    path = Path(path)
    try:
        return VideoIndex.from_arrays(
            call(index_packets, path, limits=LIMITS, seconds=LIMIT_SECONDS)
        )
    except FileError as error:
        raise FrameError(f"{shown(path)}: {error}") from error


def index_packets(path: Path, progress: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Read all packets of a file without decoding them, and return the arrays of its index.

    Args:
        path: The video file.
        progress: Called with the number of packets that were read.

    Raises:
        FileError: The file has no video that can be read, or cannot be read to its end.
        DiskError: The disk fails.
    """
    with opened(path) as (file, container, stream):
        recorder = PacketRecorder(file, stream)
        for number, packet in enumerate(demuxed(container, stream, _reject)):
            if packet.size:
                recorder.add(packet, bytes(packet))
            if number % PROGRESS_EVERY == 0:
                progress(number)
        index = recorder.index()
    if not index.frames:
        raise FileError("no frames in this file")
    return index.to_arrays()


def _reject(why: str) -> NoReturn:
    """Raise FileError at the first error of the container: an index must have all packets."""
    raise FileError(f"reading it failed: {why}")


def measured_rate(pts: np.ndarray, time_base: Fraction) -> float:
    """Measure the frame rate of pictures: frames per second over all steps that are not gaps.

    Args:
        pts: int [F], ascending: the presentation times of the frames.
        time_base: Seconds per unit of time.

    Returns:
        The rate; 0 if there are too few frames, or if all have one time.
    """
    if len(pts) < 2:
        return 0.0
    steps = np.diff(pts)
    # A step over one and a half times the usual one is a gap, which would lower the rate.
    steps = steps[steps <= 1.5 * np.median(steps)]
    mean_seconds = Fraction(int(steps.sum()), len(steps)) * time_base
    return float(1 / mean_seconds) if mean_seconds else 0.0
