"""Which picture stands where in a video file: the table behind exact frame numbers.

Frame i of a file is the i-th picture of its packet list in order of presentation, edit lists
applied, whether or not it decodes; time 0 is the first picture's time. So a frame that fails to
decode shifts nothing behind it, and a file of variable rate is indexed through its times.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from epic100.base.errors import EpicError
from epic100.video.ffmpeg import picture_stream
from epic100.video.packet_recorder import record_packets
from epic100.video.packet_table import PacketTable
from epic100.video.watched_file import WatchedFile

VERSION = 2  # of an index on disk: 1 has no table of packets


@dataclass(frozen=True)
class VideoIndex:
    """Pictures and key frames of one file, in units of `time_base` seconds.

    `pts` int64 [F], ascending: presentation times of the pictures. `key_pts`, `key_dts` int64
    [K]: presentation and decode times of the packets at which decoding may begin. `table`: where
    all packets lie in the file, or None in an index of version 1.
    """

    pts: np.ndarray
    key_pts: np.ndarray
    key_dts: np.ndarray
    time_base: Fraction
    table: PacketTable | None = None

    @property
    def frames(self) -> int:
        """Number of pictures."""
        return len(self.pts)

    @property
    def times(self) -> np.ndarray:
        """Seconds [F] from the first picture's time."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def fps(self) -> float:
        """Frames a second as measured: the mean over all steps that are not gaps."""
        if self.frames < 2:
            return 0.0
        steps = np.diff(self.pts)
        steps = steps[steps <= 1.5 * np.median(steps)]
        mean = Fraction(int(steps.sum()), len(steps)) * self.time_base
        return float(1 / mean) if mean else 0.0

    @property
    def is_constant(self) -> bool:
        """Whether picture i is shown at i / fps, to within half a frame."""
        return self.is_constant_at(slice(None))

    def is_constant_at(self, frames: np.ndarray | slice) -> bool:
        """Likewise, for the pictures that `frames` (bool [F] or a slice) picks alone."""
        if self.frames < 2:
            return True
        if not self.fps:
            return False
        drift = np.abs(self.times - np.arange(self.frames) / self.fps)[frames]
        return bool((drift < 0.5 / self.fps).all())

    def frames_between(
        self, start_seconds: npt.ArrayLike, stop_seconds: npt.ArrayLike
    ) -> tuple[np.ndarray, np.ndarray]:
        """Half-open [start, stop) of the pictures shown during [start, stop) seconds.

        The same rule as `annotations.frames_between`, read off the table of times.
        """
        times = self.times
        start = np.searchsorted(times, np.asarray(start_seconds) + 1e-6, side="right") - 1
        stop = np.searchsorted(times, np.asarray(stop_seconds) - 1e-6, side="left")
        # The last picture is shown for one step; what starts after that starts at frame F.
        over = np.asarray(start_seconds) >= times[-1] + (1 / self.fps if self.fps else 0)
        start = np.where(over, self.frames, np.maximum(start, 0))
        return start, np.maximum(stop, start + 1)

    def to_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Arrays for `np.savez_compressed`; steps, not times, so that they pack to a few KB."""
        more = {} if self.table is None else self.table.to_arrays(prefix)
        return more | {
            f"{prefix}version": np.array(1 if self.table is None else VERSION),
            f"{prefix}steps": np.diff(self.pts, prepend=0),
            f"{prefix}key_pts": self.key_pts,
            f"{prefix}key_dts": self.key_dts,
            f"{prefix}time_base": np.array(
                [self.time_base.numerator, self.time_base.denominator], dtype=np.int64
            ),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> "VideoIndex":
        """Read back what `to_arrays` gave."""
        numerator, denominator = arrays[f"{prefix}time_base"]
        return cls(
            pts=np.cumsum(arrays[f"{prefix}steps"]),
            key_pts=arrays[f"{prefix}key_pts"],
            key_dts=arrays[f"{prefix}key_dts"],
            time_base=Fraction(int(numerator), int(denominator)),
            table=PacketTable.from_arrays(arrays, prefix),
        )

    @classmethod
    def from_table(cls, table: PacketTable) -> "VideoIndex":
        """The index of the packets of a table.

        A key frame that an edit list hides is no picture, but decoding may have to begin there.
        """
        packets = table.stretch(0, len(table))
        return cls(
            pts=np.sort(packets.pts[packets.shown], kind="stable"),
            key_pts=packets.pts[table.key_packet],
            key_dts=packets.dts[table.key_packet],
            time_base=table.stream.time_base,
            table=table,
        )


def build_index(path: str | os.PathLike) -> VideoIndex:
    """Read every packet of a file, decode none.

    Raises EpicError where there is no video in it, DiskError where the disk fails.

    `scan` keeps the index of every file beside its table, so this runs for unscanned files only.
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
