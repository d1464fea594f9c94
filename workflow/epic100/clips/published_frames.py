"""The pictures of a segment that a published model saw in its test.

Each rule is one of the model's own code. It counts pictures on a clock of its own, whose times are
then looked up in the file. So a file of any rate shows what the model was tested on, and the times
differ by half a picture of the file at most.

The clock of the official frames has 60 pictures a second for EPIC-55 videos and 50 for the
extension (`annotation_rate`); the file `frame_0000000001.jpg` shows the time 0.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from epic100.base.errors import EpicError
from epic100.segments.annotations import annotation_rate


@TRANSFORMS.register_module()
class PublishedFrames(BaseTransform):
    """Choose the frames of a segment by the rule of a published model.

    It takes the place of `SampleFrames` in a test pipeline. The seconds of the annotation decide,
    or, in a list without them, those of the segment's frames. What lies outside the segment becomes
    its first or last frame.

    Args:
        rule: A key of `RULES`.
        clip_len: Frames of a clip.
        frame_interval: Pictures from frame to frame, for `slowfast`.
        num_clips: Clips of a segment, for `slowfast`. The others have one.
        target_fps: Pictures a second that the rule counts in, for `avion` and `slowfast`.

    Raises:
        EpicError: The rule is unknown.
    """

    def __init__(
        self,
        rule: str,
        clip_len: int,
        frame_interval: int = 1,
        num_clips: int = 1,
        target_fps: float = 60.0,
    ):
        if rule not in RULES:
            raise EpicError(
                f"PublishedFrames: rule is {rule!r}; expected one of {', '.join(RULES)}"
            )
        self.rule, self.clip_len, self.num_clips = rule, clip_len, num_clips
        self.frame_interval, self.target_fps = frame_interval, target_fps

    def transform(self, results: dict) -> dict:
        """Add `frame_inds`, frames of the file, clip after clip."""
        fps, first, length = (results[key] for key in ("avg_fps", "start_index", "total_frames"))
        start = results.get("start_seconds", first / fps)
        stop = results.get("stop_seconds", (first + length) / fps)
        clock = fps if self.rule == "lavila" else annotation_rate(Path(results["filename"]).stem)
        times = RULES[self.rule](start, stop, clock, self)
        frames = np.rint(times * fps).astype(np.int64).clip(first, first + length - 1)
        results["frame_inds"] = frames.ravel()
        results["clip_len"], results["num_clips"] = self.clip_len, self.num_clips
        results["frame_interval"] = self.frame_interval
        return results


def avion(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """The middle of each part of a segment, in pictures of a file of `target_fps`.

    Args:
        start: Seconds.
        stop: Seconds.
        clock: Pictures a second of the official frames, or of the file for `lavila`.
        step: Number of frames and clips.

    Returns:
        Times in seconds, [frames] or [clips, frames].

    Source: `get_frame_ids` and `video_loader` of avion/data/clip_dataset.py at 31b00b6.
    """
    rate = step.target_fps
    ends = np.linspace(round(start * rate), round(stop * rate), step.clip_len + 1)
    return ((ends[:-1] + ends[1:]) / 2).astype(np.int64) / rate


def lavila(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """The middle of each part of a segment, in pictures of the file, rounded as LaViLa does.

    Arguments and result are those of `avion`. Source: `get_frame_ids` of lavila/data/datasets.py at
    8002b5a.
    """
    first, last = round(start * clock), int(np.ceil(stop * clock))
    offsets = (last - first - 1) / step.clip_len * np.arange(step.clip_len + 1)
    ends = np.rint(offsets).astype(np.int64) + first
    return (ends[:-1] + np.minimum(ends[1:], last)) // 2 / clock


def slowfast(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """`num_clips` dense clips, spread over the segment; none of them ends with it.

    Arguments and result are those of `avion`. Source: `pack_frames_to_video_clip` of
    slowfast/datasets/frame_loader.py and `get_start_end_idx` of decoder.py beside it, at bf50519.
    """
    first = round(start * clock)
    length = round(stop * clock) - first
    span = step.clip_len * step.frame_interval * clock / step.target_fps
    begins = [max(length - span, 0) * clip / step.num_clips for clip in range(step.num_clips)]
    # They are rounded as torch rounds float32. Otherwise some whole numbers would become the one
    # below.
    positions = [torch.linspace(begin + 1, begin + span, step.clip_len) for begin in begins]
    return (first + torch.stack(positions).clamp(0, length - 1).long().numpy() - 1) / clock


def c1(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """The middle of each part, of the frames that the official CSV names.

    Arguments and result are those of `avion`. Source: `_get_test_indices` of
    src/datasets/tsn_dataset.py and `iter_data` of src/utils/gulp_adapter.py at e8e1a79. The CSV has
    `start_frame` = max(1, floor(start * clock)), in all rows of val.
    """
    first, last = (max(1, int(seconds * clock)) for seconds in (start, stop))
    part_length = (last - first + 1) / step.clip_len
    return (first + (part_length * (np.arange(step.clip_len) + 0.5)).astype(np.int64) - 1) / clock


RULES: dict[str, Callable[[float, float, float, PublishedFrames], np.ndarray]] = {
    "avion": avion,
    "lavila": lavila,
    "slowfast": slowfast,
    "c1": c1,
}
