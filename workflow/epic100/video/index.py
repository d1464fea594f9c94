"""The frame index of a video file: when each picture is shown, and where its coded bytes are.

Frame i of a file is the i-th picture of its packet list in presentation order, with edit lists
applied, whether or not it decodes. Time 0 is the time of the first picture. So a frame that fails
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

from epic100.base.checked import STRICT, Amount, Count, conforming
from epic100.base.disk import HashedFile
from epic100.base.errors import DiskError, EpicError
from epic100.base.guarded import FileError, call
from epic100.base.names import shown
from epic100.settings import ScanLimits
from epic100.video.facts import Hex, StreamFacts, facts_of
from epic100.video.ffmpeg import MAX_PIXELS, demuxed, new_extradata, opened
from epic100.video.nal import ParameterSets
from epic100.video.packet_table import COLUMNS, PACKET, RECORDED, TIMES, unpacked
from epic100.video.untimed import own_times, timed

# A file of indexes states this format, and a file of another one is not read. Raise the number when
# `to_arrays` changes.
FORMAT = "epic100 frame indexes 5"
# These are the limits for the index of one file, for which no packet is decoded.
LIMITS = ScanLimits(stall_seconds=20, memory_mib=1024)
# To index a file may take so many seconds of computing. They grow with the size of the file.
LIMIT_SECONDS = 600
# Progress is reported once in so many packets.
PROGRESS_EVERY = 1000
# This many bytes are read at once to compare packets with the file.
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
        sets: Extradata with parameter sets. Number 0 is that in the header of the file. Others are
            those of its sample entries, if parameter sets change in the file.
        file_size: Size of the file in bytes.
        direct: Whether the file can be read by the offsets of its packets: the bytes at each offset
            were equal to the demuxer's packet. If not (lacing, start codes, headers that change),
            the file must be read through its container.
        fps: Measured frames per second: the mean over all steps that are not gaps; 0 if unknown.
        late: Seconds on the clock of a player when it shows the first picture.
        md5: MD5 of the file, 32 digits in lower case. Files that are made from a video name the
            video by it.
    """

    packets: np.ndarray
    stream: StreamFacts
    sets: tuple[bytes, ...]
    file_size: Count
    direct: bool
    fps: Amount
    late: Amount = 0.0
    md5: Hex = ""

    __pydantic_config__ = STRICT

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of time."""
        return self.stream.time_base

    @cached_property
    def frames(self) -> int:
        """Number of pictures F."""
        return int(np.count_nonzero(self.packets["shown"]))

    @cached_property
    def keys(self) -> np.ndarray:
        """int64 [K]: the numbers of the key frames among the packets, those of hidden ones too."""
        return np.flatnonzero(self.packets["sets"] >= 0)

    @cached_property
    def key_pts(self) -> np.ndarray:
        """int64 [K]: the presentation times of the key frames (`keys`)."""
        return self.packets["pts"][self.keys]

    @cached_property
    def changes_sets(self) -> bool:
        """Whether parameter sets change in the file, so that each group needs a new decoder."""
        return bool(self.packets["sets"].max(initial=0) > 0)

    @cached_property
    def pts(self) -> np.ndarray:
        """int64 [F], ascending: the presentation time of each frame."""
        return self.pts_of(np.arange(self.frames))

    def pts_of(self, frames: Sequence[int] | np.ndarray) -> np.ndarray:
        """Look up the presentation times of some frames, int64."""
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
            this file that each picture of the part shows, int64. Where this file pauses, a frame
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
        # The last picture is shown for one step. A segment that starts later starts at `frames`,
        # one past the last frame.
        is_past_end = np.asarray(start_seconds) >= times[-1] + (1 / self.fps if self.fps else 0)
        start = np.where(is_past_end, self.frames, np.maximum(start, 0))
        return start, np.maximum(stop, start + 1)

    def to_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Turn the index into arrays: one for each column of `packets`, and one of JSON.

        Args:
            prefix: Start of the names of the arrays, such as `P01_01/`.

        Returns:
            The arrays by name, such as `P01_01/offset`; `P01_01/stream` is the JSON.
        """
        columns = {f"{prefix}{name}": self.packets[name] for name in COLUMNS}
        facts = vars(self.stream) | {
            "time_base": self.time_base.as_integer_ratio(),
            "sets": [extradata.hex() for extradata in self.sets],
            "file_size": self.file_size,
            "direct": self.direct,
            "fps": self.fps,
            "late": self.late,
            "md5": self.md5,
        }
        return columns | {f"{prefix}stream": np.array(json.dumps(facts))}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Any],
        prefix: str = "",
        packets: np.ndarray | None = None,
    ) -> "VideoIndex":
        """Make an index of the arrays that `to_arrays` returned.

        Args:
            arrays: The arrays by name, or lists in their place.
            prefix: Start of their names, such as `P01_01/`.
            packets: `PACKET` [P] of these arrays, if they are unpacked already.

        Raises:
            FileError: `to_arrays` cannot have written these arrays.
        """
        try:
            if packets is None:
                packets = unpacked(arrays, [prefix])
            facts: dict[str, Any] = json.loads(str(arrays[f"{prefix}stream"]))
            file_facts = {
                name: facts.pop(name) for name in ("file_size", "direct", "fps", "late", "md5")
            }
            sets = tuple(map(bytes.fromhex, facts.pop("sets")))
            facts |= {
                "time_base": Fraction(*facts["time_base"]),
                "colours": tuple(facts["colours"]),
            }
            index = conforming(cls(packets, StreamFacts(**facts), sets, **file_facts))
            # These two calls raise an error if FFmpeg does not know the name.
            av.Codec(index.stream.codec, "r")
            av.VideoFormat(index.stream.pix_fmt or "gray")
        except DiskError:
            raise
        # Missing values and values of other types raise many kinds of errors.
        except Exception as error:
            raise FileError(f"no frame index of this version: {error!r}") from error
        return index


class PacketRecorder:
    """Collects the packets of a stream in decoding order, and makes a frame index of them.

    Packets without a presentation time are not pictures.

    The file is read a second time, without the demuxer, and each packet is compared with the bytes
    at its offset. Only this proves that a reader may do the same. It takes little time, since the
    bytes are still in the system's cache.

    An edit list may show parts of a track in any order, and more than once. Each part begins with a
    key frame, which is hidden unless the part begins to be shown there. The clock of the list is
    coarse, so the last picture of a part and the first one of the next may get the same time. Then
    the second one is hidden, since pictures are told apart by their times.

    Attributes:
        part: Number of the part to which the last packet belongs.
        shown: Whether the picture of the last packet is shown.
    """

    def __init__(self, file: HashedFile, stream: "av.VideoStream"):
        """Start before the first packet.

        Args:
            file: The video file.
            stream: The video stream of the file, which FFmpeg has open.
        """
        context = stream.codec_context
        self._sets = ParameterSets(context.codec.canonical_name, context.extradata)
        self._stream = facts_of(file.name, stream, self._sets.length_size)
        # The array is flat: for each packet, it has the values of the columns `RECORDED`.
        self._rows = array("q")
        # The numbers of the rows of key frames that do not bring the parameter sets that changed
        # before them are in this list.
        self._bare_keys = list[int]()
        self._file, self._direct = file, True
        # These are the bytes that were read last, and their offset in the file.
        self._buffer, self._buffer_start = b"", 0
        self.part, self.shown = 0, False
        # The offset of the last packet tells whether the next one is further up in the file.
        self._last_offset = -1
        # A picture is hidden if it is not later than all shown ones before its part.
        self._latest_pts, self._pts_before_part = min(TIMES), min(TIMES)
        container: Any = stream.container
        # A player of a broadcast starts its clock where the stream begins, not at time 0.
        is_broadcast = "mpeg" in container.format.name
        self._clock_start = (container.start_time or 0) / av.time_base if is_broadcast else 0.0

    def add(self, packet: "av.Packet", data: bytes, entry: bytes) -> None:
        """Record a packet; set `part` and `shown`.

        Args:
            packet: The packet, as the demuxer returns it.
            data: Its bytes, at least one.
            entry: The extradata of a sample entry that begins here (`new_extradata`), or b"".

        Raises:
            DiskError: The file cannot be read.
        """
        if entry:
            self._sets.new_entry(entry)
            self._direct = False  # A packet that is read by its offset does not have the entry.
        brings_sets = self._sets.see(data) or bool(entry)
        if packet.pts is None:
            self._direct = False
            return
        offset = -1 if packet.pos is None else packet.pos
        # If one packet is not at its offset, the file is read through its container.
        if self._direct:
            self._direct = offset >= 0 and self._is_at(offset, data)
        # Nothing comes before the first packet, so decoding can begin there whatever it is.
        is_key = packet.is_keyframe or not self._rows
        dts = packet.pts if packet.dts is None else packet.dts
        crc, sets = (zlib.crc32(data), self._sets.entry) if is_key else (0, -1)
        if is_key and self._sets.change and not brings_sets and self._rows:
            # The array of rows is flat, so this quotient is the number of the row that comes next.
            self._bare_keys.append(len(self._rows) // len(RECORDED))
        # Hidden packets that end a part have later times than its shown pictures. So a hidden one
        # that is not later begins another part, and so does one that is further up in the file.
        is_before_shown = packet.is_discard and packet.pts <= self._latest_pts
        if packet.is_keyframe and (is_before_shown or 0 <= offset < self._last_offset):
            self.part += 1
            self._pts_before_part = self._latest_pts
        self._last_offset = offset
        # A picture at a time of the part before is hidden, since its time must be its own.
        self.shown = not packet.is_discard and packet.pts > self._pts_before_part
        if self.shown:
            self._latest_pts = max(self._latest_pts, packet.pts)
        self._rows.extend((offset, packet.pts, dts, len(data), crc, sets, self.shown))

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
            keys: For each packet, whether it refers to no other picture; None: the flags of the
                container are trusted.
        """
        rows = np.frombuffer(self._rows, np.int64).reshape(-1, len(RECORDED))
        packets = np.empty(len(rows), PACKET)
        for name, column in zip(RECORDED, rows.T, strict=True):
            packets[name] = column
        if keys is not None:
            # Decoding can begin at the first packet, whatever it is.
            is_no_key = ~np.asarray(keys, bool)
            is_no_key[:1] = False
            packets["crc"][is_no_key], packets["sets"][is_no_key] = 0, -1
        entries = self._sets.entries
        if self._sets.change:
            # Decoding cannot begin at a key frame without its parameter sets.
            packets["sets"][self._bare_keys] = -1
            # A number above 0 tells a reader that the sets change in this file, so that it begins
            # with a new decoder (`changes_sets`). So all numbers grow by one. The first entry now
            # has number 1, and stays number 0 as well, which is that in the header of the file.
            packets["sets"][packets["sets"] >= 0] += 1
            entries = [entries[0], *entries]
        shown = np.flatnonzero(packets["shown"])
        pts = packets["pts"][shown]
        in_order = np.argsort(pts, kind="stable")
        # Row i of this column names the packet of frame i, so it has no more than F entries.
        packets["frame"] = -1
        packets["frame"][: len(shown)] = shown[in_order]
        first_seconds = float(pts.min() * self._stream.time_base) if len(pts) else 0.0
        return VideoIndex(
            packets=packets,
            stream=self._stream,
            sets=tuple(entries),
            file_size=self._file.size,
            direct=self._direct,
            fps=measured_rate(pts[in_order], self._stream.time_base),
            late=max(0.0, first_seconds - self._clock_start),
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
        times = own_times(path, container, stream, MAX_PIXELS, progress)
        for number, packet in enumerate(timed(demuxed(container, stream, _refuse), times)):
            if packet.size:
                recorder.add(packet, bytes(packet), new_extradata(packet))
            if number % PROGRESS_EVERY == 0:
                progress(number)
        index = recorder.index()
    if not index.frames:
        raise FileError("no pictures in this file")
    return index.to_arrays()


def _refuse(why: str) -> NoReturn:
    """Raise FileError at the first error of the container: an index must have all packets."""
    raise FileError(f"reading it failed: {why}")


def measured_rate(pts: np.ndarray, time_base: Fraction) -> float:
    """Measure the frame rate of pictures: frames per second over all steps that are not gaps.

    Args:
        pts: int [F], ascending: the presentation times of the pictures.
        time_base: Seconds per unit of time.

    Returns:
        The rate; 0 if there are too few pictures, or if all have one time.
    """
    if len(pts) < 2:
        return 0.0
    steps = np.diff(pts)
    # A step over one and a half times the usual one is a gap, which would lower the rate.
    steps = steps[steps <= 1.5 * np.median(steps)]
    mean_seconds = Fraction(int(steps.sum()), len(steps)) * time_base
    return float(1 / mean_seconds) if mean_seconds else 0.0
