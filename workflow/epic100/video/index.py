"""The frame index of a video file: when each frame is shown, and where its coded bytes are.

Frame i of a file is the i-th frame of its packet list in presentation order, with edit lists
applied, whether or not it decodes. Time 0 is the time of the first frame. So a frame that fails
to decode does not shift later frames, and a file of variable rate is indexed by its times.

The indexes of a participant's videos are in one `.npz` file. A process reads it once. Processes
that it forks later share the memory, since nobody writes to it.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epic100.base.atomic import atomic_path
from epic100.base.checked import opened_arrays
from epic100.base.errors import BrokenFile, EpicError

# The columns of the table of packets. In this order, only one byte of a row is lost to alignment.
_FIELDS = [
    # The coded bytes begin at this byte of the file.
    ("offset", "<i8"),
    # The time of presentation is in units of the stream's time base.
    ("pts", "<i8"),
    # The number of coded bytes of the packet.
    ("size", "<i4"),
    # For a key frame it is the CRC-32 of its bytes, else 0.
    ("crc", "<u4"),
    # The value is 1 if decoding can begin at the packet, else 0.
    ("key", "<i1"),
    # The value is 0 if an edit list hides the frame, else 1.
    ("shown", "<i1"),
    # Row i has the number of the packet with frame i; rows after the last frame have -1.
    ("frame", "<i4"),
]
PACKET = np.dtype(_FIELDS, align=True)  # NumPy fills aligned columns twice as fast.
# A file of indexes states this format, and a file of another one is not read. Raise the number when
# `to_arrays` changes.
FORMAT = "epic100 frame indexes 6"
ANOTHER_FILE = "is not the file that was scanned; scan it again"


class FrameError(EpicError):
    """A requested frame cannot be read."""


# These attributes of PyAV's codec context describe the colours.
COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")


@dataclass(frozen=True)
class StreamFacts:
    """The parameters of a video stream that a decoder needs, and how its frames are shown.

    Attributes:
        codec: Name of FFmpeg's decoder, e.g. `h264`.
        width: Width in pixels.
        height: Height in pixels.
        pix_fmt: FFmpeg's pixel format, e.g. `yuv420p`; "" if it is unknown.
        time_base: Seconds per unit of time.
        colours: The values of `COLOURS` that the container states.
        turns: Number of quarter turns clockwise before a frame is shown.
    """

    codec: str
    width: int
    height: int
    pix_fmt: str
    time_base: Fraction
    colours: tuple[int, ...]
    turns: int = 0

    @classmethod
    def of(cls, decoder: Any, time_base: Fraction, turns: int = 0) -> "StreamFacts":
        """Collect the parameters from PyAV's codec context; the other arguments are attributes."""
        return cls(
            codec=decoder.name,
            width=decoder.width,
            height=decoder.height,
            pix_fmt=decoder.pix_fmt or "",
            time_base=time_base,
            colours=tuple(int(getattr(decoder, name)) for name in COLOURS),
            turns=turns,
        )


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
        columns = {f"{prefix}{name}": self.packets[name] for name in PACKET.fields or ()}
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
        for name in PACKET.fields or ():
            packets[name] = arrays[f"{prefix}{name}"]
        facts: dict[str, Any] = json.loads(str(arrays[f"{prefix}stream"]))
        file_facts = {name: facts.pop(name) for name in ("file_size", "fps", "late", "md5")}
        extradata = bytes.fromhex(facts.pop("extradata"))
        facts["time_base"] = Fraction(*facts["time_base"])
        facts["colours"] = tuple(facts["colours"])
        return cls(packets, StreamFacts(**facts), extradata, **file_facts)


def index_path(index_dir: str | os.PathLike, participant_id: str) -> Path:
    """Return the file of a participant's frame indexes in a folder: `P01.index.npz`."""
    return Path(index_dir) / f"{participant_id}.index.npz"


def write_indexes(indexes: Mapping[str, VideoIndex], path: str | os.PathLike) -> None:
    """Write the frame indexes of several videos, by video_id, to one `.npz`, atomically."""
    arrays = dict[str, np.ndarray]()
    for video_id, index in indexes.items():
        arrays |= index.to_arrays(f"{video_id}/")
    _write_arrays(path, arrays)


def store_result(path: Path, facts: Mapping[str, Any], index: VideoIndex) -> None:
    """Write the result of the work on one video, for a later call.

    Args:
        path: The `.npz` file.
        facts: Values besides the index, which can be written as JSON.
        index: A frame index.

    Raises:
        DiskError: The disk fails.
    """
    _write_arrays(path, index.to_arrays() | {"facts": np.array(json.dumps(facts))})


def _write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays and `FORMAT` to a `.npz`, atomically."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, format=np.array(FORMAT), **arrays)


def read_stored_result(path: Path) -> tuple[dict[str, Any], VideoIndex | None]:
    """Read what `store_result` wrote.

    Returns:
        The values and the frame index; `{}` and None if there is no such file, or if it is
        incomplete or of another version.

    Raises:
        DiskError: The disk fails.
    """
    if path.is_file():
        # A result that cannot be read counts as none, so the work is done again.
        with (
            suppress(BrokenFile),
            opened_arrays(path, FORMAT, "what a job gave", "it is done again") as arrays,
        ):
            return json.loads(str(arrays["facts"])), VideoIndex.from_arrays(arrays)
    return {}, None


def load_index(path: str | os.PathLike, video_id: str) -> VideoIndex:
    """Read the frame index of one video from a participant's file.

    Raises:
        EpicError: The file is not a frame index of this version, is incomplete, or has none for
            this video.
    """
    indexes = load_indexes(Path(path))
    if video_id not in indexes:
        raise EpicError(
            f"{path}: no frame index of {video_id}; one that cannot be read has none; of any "
            f"other, make it again with `snakemake -R {path}`"
        )
    return indexes[video_id]


@functools.cache
def load_indexes(path: Path) -> Mapping[str, VideoIndex]:
    """Read the frame indexes of all videos from a participant's file.

    A process reads the file once. Later calls return the same indexes, even if the file has
    changed.

    Returns:
        The index of each video, by video_id. Nobody may change them, since all callers share them.

    Raises:
        EpicError: The file is not a frame index of this version, or is incomplete.
        OSError: There is no file, or the disk fails; the next call tries again.
    """
    path.stat()  # A file that is missing is no spoilt one.
    with opened_arrays(
        path, FORMAT, "a complete frame index", "scan its participant again"
    ) as arrays:
        prefixes = [name.removesuffix("stream") for name in arrays if name.endswith("/stream")]
        return {
            prefix.removesuffix("/"): VideoIndex.from_arrays(arrays, prefix) for prefix in prefixes
        }


def find_index(folder: str | os.PathLike, path: str | os.PathLike) -> VideoIndex | None:
    """Read the frame index of a video `{root}/{participant}/{video_id}.*`; None if there is none.

    Args:
        folder: The folder in which the rules scan and proxy write indexes.
        path: The path of the video in a list of segments.

    Raises:
        EpicError: The file is not a frame index of this version, or is incomplete.
        OSError: The disk fails.
    """
    video = Path(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        return load_indexes(index_path(folder, video.parent.name)).get(video.stem)
    return None
