"""Which picture is where in a video file: the table behind exact frame numbers.

Frame i of a file is the i-th picture of its packet list in presentation order, with edit lists
applied, whether or not it decodes. Time 0 is the time of the first picture. So a frame that fails
to decode does not shift later frames, and a file of variable rate is indexed by its times.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt

from epic100.base.errors import EpicError
from epic100.video.ffmpeg import picture_stream
from epic100.video.packet_recorder import record_packets
from epic100.video.packet_table import PacketTable
from epic100.video.watched_file import WatchedFile


class FrameIndex(Protocol):
    """What a reader needs of an index: see `VideoIndex` for the attributes."""

    @property
    def frames(self) -> int:
        """Number of pictures."""

    @property
    def fps(self) -> float:
        """Measured frames per second."""

    @property
    def key_pts(self) -> np.ndarray:
        """int64 [K]: presentation times of the packets where decoding may begin."""

    @property
    def key_dts(self) -> np.ndarray:
        """int64 [K]: decode times of the same packets."""

    @property
    def table(self) -> PacketTable:
        """Where all packets are in the file."""

    def pts_of(self, frames: Sequence[int] | np.ndarray) -> np.ndarray:
        """Presentation times of pictures, int64."""


@dataclass(frozen=True)
class VideoIndex:
    """Pictures and key frames of one file; all times in units of `time_base` seconds.

    Attributes:
        pts: int64 [F], ascending: presentation times of the pictures.
        key_pts: int64 [K]: presentation times of the packets where decoding may begin.
        key_dts: int64 [K]: decode times of the same packets.
        time_base: Seconds per unit of time.
        table: Where all packets are in the file.
    """

    pts: np.ndarray
    key_pts: np.ndarray
    key_dts: np.ndarray
    time_base: Fraction
    table: PacketTable

    @property
    def frames(self) -> int:
        """Number of pictures."""
        return len(self.pts)

    def pts_of(self, frames: Sequence[int] | np.ndarray) -> np.ndarray:
        """Presentation times of pictures, int64."""
        return self.pts[np.asarray(frames)]

    @property
    def times(self) -> np.ndarray:
        """Seconds [F] since the first picture."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def fps(self) -> float:
        """Measured frames per second: the mean over all steps that are not gaps."""
        return _rate(self.pts, self.time_base)

    @property
    def is_constant(self) -> bool:
        """Whether picture i is shown at i / fps, to within half a frame."""
        return self.is_constant_at(slice(None))

    def is_constant_at(self, frames: np.ndarray | slice) -> bool:
        """Whether picture i is shown at i / fps, to within half a frame, for some pictures.

        Args:
            frames: Which pictures are checked: bool [F] or a slice.
        """
        if self.frames < 2:
            return True
        if not self.fps:
            return False
        drift = np.abs(self.times - np.arange(self.frames) / self.fps)[frames]
        return bool((drift < 0.5 / self.fps).all())

    def frames_between(
        self, start_seconds: npt.ArrayLike, stop_seconds: npt.ArrayLike
    ) -> tuple[np.ndarray, np.ndarray]:
        """The pictures shown during [start, stop) seconds.

        Same rule as `annotations.frames_between`, but based on the measured times.

        Args:
            start_seconds: Start times, in seconds since the first picture.
            stop_seconds: Stop times, in seconds since the first picture.

        Returns:
            Start and stop frames, half-open, at least one frame each.
        """
        times = self.times
        start = np.searchsorted(times, np.asarray(start_seconds) + 1e-6, side="right") - 1
        stop = np.searchsorted(times, np.asarray(stop_seconds) - 1e-6, side="left")
        # The last picture is shown for one step. A segment that starts later starts at frame F.
        over = np.asarray(start_seconds) >= times[-1] + (1 / self.fps if self.fps else 0)
        start = np.where(over, self.frames, np.maximum(start, 0))
        return start, np.maximum(stop, start + 1)

    def through_container(self) -> "VideoIndex":
        """The same index, but readers take packets from the file's container."""
        return replace(self, table=replace(self.table, direct=False))

    def to_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Arrays for `np.savez_compressed`: those of the table, from which all is computed."""
        return self.table.to_arrays(prefix)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> "VideoIndex":
        """Rebuild from the arrays of `to_arrays`."""
        return cls.from_table(PacketTable.from_arrays(arrays, prefix))

    @classmethod
    def from_table(cls, table: PacketTable) -> "VideoIndex":
        """The index of the packets of a table.

        A key frame that an edit list hides is not a picture, but decoding may have to begin there.
        """
        pts, key_pts, key_dts = table.frames.between(0, len(table.frames)), *table.key_times()
        return cls(pts, key_pts, key_dts, table.stream.time_base, table)


def build_index(path: str | os.PathLike) -> VideoIndex:
    """Read every packet of a file without decoding.

    `scan` stores the index of every file beside its table, so this runs only for unscanned files.

    Raises:
        EpicError: The file has no video.
        DiskError: The disk fails.
    """
    path = Path(path)
    try:
        with contextlib.closing(WatchedFile(path)) as file, av.open(file, "r") as container:
            stream = picture_stream(container)
            if stream is None or stream.time_base is None:
                raise EpicError(f"{path}: no video stream in this file")
            if stream.codec_context is None:
                raise EpicError(f"{path}: no decoder for its video stream")
            table = record_packets(file, container, stream)
    except (av.error.FFmpegError, OSError) as error:
        raise EpicError(f"{path}: cannot be opened as video: {error}") from error
    index = VideoIndex.from_table(table)
    if not index.frames:
        raise EpicError(f"{path}: no pictures in this file")
    return index


@dataclass(frozen=True)
class PackedIndex:
    """A `FrameIndex` in about 10 bytes a frame, for a process that holds those of a whole archive.

    Attributes:
        table: Where all packets are in the file.
        key_pts: As in `VideoIndex`.
        key_dts: As in `VideoIndex`.
        fps: Measured frames per second, computed once.
    """

    table: PacketTable
    key_pts: np.ndarray
    key_dts: np.ndarray
    fps: float

    @property
    def frames(self) -> int:
        """Number of pictures."""
        return len(self.table.frames)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without the parameter sets."""
        return self.table.nbytes + self.key_pts.nbytes + self.key_dts.nbytes

    def pts_of(self, frames: Sequence[int] | np.ndarray) -> np.ndarray:
        """Presentation times of pictures, int64."""
        return self.table.frames.at(frames)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> "PackedIndex":
        """Rebuild from the arrays of `VideoIndex.to_arrays`."""
        table = PacketTable.from_arrays(arrays, prefix)
        few = len(table.frames) if table.frames.step is None else 2  # one step is the rate
        times = table.frames.between(0, min(few, len(table.frames)))
        return cls(table, *table.key_times(), _rate(times, table.stream.time_base))


def _rate(pts: np.ndarray, time_base: Fraction) -> float:
    if len(pts) < 2:
        return 0.0
    steps = np.diff(pts)
    steps = steps[steps <= 1.5 * np.median(steps)]
    mean = Fraction(int(steps.sum()), len(steps)) * time_base
    return float(1 / mean) if mean else 0.0
