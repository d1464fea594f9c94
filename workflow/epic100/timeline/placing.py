"""Where the clips of a whole video are: one per stride, none over damage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epic100.base.errors import EpicError
from epic100.prediction.views import sampling_of
from epic100.video.index import VideoIndex

SPREAD_SECONDS = 2.0  # of a model whose frames cover a segment: EPIC's median is 1.85 s

Ranges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Placed:
    """The steps of a video. Step i is the time [i * stride, (i + 1) * stride).

    Attributes:
        stride: Seconds.
        duration: Seconds that the video lasts, or promises to last.
        start: int64 [N], first frame of each step's clip.
        stop: int64 [N], frame after its last one.
        sound: bool [N], whether the step touches no damage. Only such steps have a clip.
        damaged: Damaged stretches in seconds, in order.
    """

    stride: float
    duration: float
    start: np.ndarray
    stop: np.ndarray
    sound: np.ndarray
    damaged: list[tuple[float, float]]

    def seconds(self, step: int) -> float:
        """When a step begins; the last one ends with the video."""
        return min(step * self.stride, self.duration)


def place_clips(index: VideoIndex, damaged: Ranges, stride: float, frames: int) -> Placed:
    """Place a clip around the middle of each step.

    A clip at the edge of the video or of a damaged stretch is moved until it lies in sound frames
    only. If a sound stretch is shorter than a clip, the whole stretch is the clip.

    Args:
        index: Where the pictures are in time. The rate may vary.
        damaged: Half-open ranges of frames, in order, as in `ScanRow`. They may go beyond the last
            picture, if the file promises more.
        stride: Seconds from step to step.
        frames: Frames of a clip.

    Raises:
        EpicError: The video has fewer than two pictures.
    """
    if not index.fps:
        raise EpicError(f"{index.frames} picture in it; expected a video, with two or more")
    bad = [(max(start, 0), stop) for start, stop in damaged]
    end = max([index.frames, *(stop for _, stop in bad)])
    duration = frame_time(index, end)
    steps = max(1, int(np.ceil(duration / stride - 1e-9)))
    begins = np.arange(steps) * stride
    ends = np.minimum(begins + stride, duration)
    first, last = index.frames_between(begins, ends)
    middle = np.clip(index.frames_between((begins + ends) / 2, ends)[0], 0, index.frames - 1)
    sound = first < index.frames
    low, high = np.zeros(steps, np.int64), np.full(steps, index.frames)
    for start, stop in bad:
        sound &= (last <= start) | (first >= stop)
        low = np.where(first >= stop, np.maximum(low, stop), low)
        high = np.where(last <= start, np.minimum(high, start), high)
    start = np.maximum(np.minimum(middle - frames // 2, high - frames), low)
    return Placed(
        stride, duration, start, np.minimum(start + frames, high), sound,
        [(frame_time(index, start), frame_time(index, stop)) for start, stop in bad],
    )  # fmt: skip


def frame_time(index: VideoIndex, frame: int) -> float:
    """When a frame begins, in seconds; frames beyond the last one follow at the mean rate."""
    if frame < index.frames:
        return float(index.times[frame])
    return float(index.times[-1] + (frame - index.frames + 1) / index.fps)


def clip_frames(pipeline: Sequence[Mapping[str, Any]], fps: float, window: float | None) -> int:
    """How many frames of the file a clip spans.

    Args:
        pipeline: The model's test pipeline.
        fps: Frames per second of the file.
        window: Seconds. None: what a dense clip spans (frames x interval, at the model's rate if
            it has one), or 2 s for models whose frames cover a segment.
    """
    for step in pipeline if window is None else ():
        if step["type"] == "SampleFrames" and sampling_of(pipeline) == "dense":
            rate = step.get("target_fps")
            span = step["clip_len"] * step.get("frame_interval", 1)
            return max(1, round(span * (fps / rate if rate else 1)))
    return max(1, round((SPREAD_SECONDS if window is None else window) * fps))
