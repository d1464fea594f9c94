"""Choose the frames of a segment as published models choose them in their tests.

Each rule comes from the code of a model. It counts frames at the model's rate and gives their
times; the frames of the file at these times are taken. So a file of any rate shows what the model
was tested on, and the times differ by half a frame of the file at most.

The official frames have 60 frames a second for EPIC-55 videos and 50 for the extension
(`annotation_rate`). The first of them, `frame_0000000001.jpg`, shows the time 0.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from epic100.base.errors import EpicError
from epic100.video.sheet import annotation_rate


@TRANSFORMS.register_module()
class PublishedFrames(BaseTransform):
    """Pipeline step that chooses the frames of a segment by the rule of a published model.

    It replaces `SampleFrames` in a test pipeline. The rule starts from the annotation's seconds,
    or, if the list has none, from the times of the segment's first and last frame. A frame outside
    the segment is replaced by the first or the last one.

    Args:
        rule: A key of `RULES`: the name of the published code whose choice of frames is repeated.
        clip_len: Frames of a clip.
        frame_interval: Frames of the rule's clock from one frame of the clip to the next, for
            `slowfast`.
        num_clips: Clips of a segment, for `slowfast`. The other rules have one.
        target_fps: Frames per second of the rule's clock, for `avion` and `slowfast`.

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
        """Store the arguments of the rule, which the class describes; reject an unknown rule."""
        if rule not in RULES:
            raise EpicError(
                f"PublishedFrames: rule is {rule!r}; expected one of {', '.join(RULES)}"
            )
        self.rule, self.clip_len, self.num_clips = rule, clip_len, num_clips
        self.frame_interval, self.target_fps = frame_interval, target_fps

    def transform(self, results: dict) -> dict:
        """Add `frame_inds`: the chosen frames of the file, one clip after the other."""
        fps, first, length = results["avg_fps"], results["start_index"], results["total_frames"]
        # After a gap in the file, a frame is shown later than its number says: `shift` in frames.
        shift = results.get("clock_shift", 0)
        start = results.get("start_seconds", (first + shift) / fps)
        stop = results.get("stop_seconds", (first + shift + length) / fps)
        # LaViLa counts the frames of the file, and the other rules count official frames.
        is_lavila = self.rule == "lavila"
        rule_fps = fps if is_lavila else annotation_rate(Path(results["filename"]).stem)
        times = RULES[self.rule](start, stop, rule_fps, self)
        numbers = np.rint(times * fps).astype(np.int64) - shift
        frames = numbers.clip(first, first + length - 1)
        results |= {
            "frame_inds": frames.ravel(),
            "clip_len": self.clip_len,
            "num_clips": self.num_clips,
            "frame_interval": self.frame_interval,
        }
        return results


def avion(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """Choose the middle frame of each of `clip_len` equal parts, as AVION does.

    The frames are counted at `target_fps`.

    Args:
        start: Start of the segment in seconds.
        stop: End of the segment in seconds.
        clock: Frames per second of the official frames. It is not used here.
        step: The pipeline step, with the number of frames.

    Returns:
        Times of the frames in seconds, float64 [frames].

    Source: `get_frame_ids` and `video_loader` of avion/data/clip_dataset.py at 31b00b6.
    """
    rate = step.target_fps
    part_ends = np.linspace(round(start * rate), round(stop * rate), step.clip_len + 1)
    return ((part_ends[:-1] + part_ends[1:]) / 2).astype(np.int64) / rate


def lavila(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """Choose the middle frame of each of `clip_len` equal parts, rounded as LaViLa does.

    The frames are the file's own.

    Args:
        start: Start of the segment in seconds.
        stop: End of the segment in seconds.
        clock: Frames per second of the file.
        step: The pipeline step, with the number of frames.

    Returns:
        Times of the frames in seconds, float64 [frames].

    Source: `get_frame_ids` of lavila/data/datasets.py at 8002b5a.
    """
    first, last = round(start * clock), int(np.ceil(stop * clock))
    offsets = (last - first - 1) / step.clip_len * np.arange(step.clip_len + 1)
    part_ends = np.rint(offsets).astype(np.int64) + first
    return (part_ends[:-1] + np.minimum(part_ends[1:], last)) // 2 / clock


def slowfast(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """Choose clips of evenly spaced frames, spread over the segment, as SlowFast does.

    No clip ends with the segment, unless the segment is shorter than a clip.

    Args:
        start: Start of the segment in seconds.
        stop: End of the segment in seconds.
        clock: Frames per second of the official frames.
        step: The pipeline step, with the numbers of frames and clips.

    Returns:
        Times of the frames in seconds, float64 [clips, frames].

    Source: `pack_frames_to_video_clip` of slowfast/datasets/frame_loader.py and
    `get_start_end_idx` of slowfast/datasets/decoder.py, at bf50519.
    """
    first = round(start * clock)
    length = round(stop * clock) - first
    # A clip covers this number of official frames. They are not the frames of the file, whose rate
    # may differ.
    span = step.clip_len * step.frame_interval * clock / step.target_fps
    begins = [max(length - span, 0) * clip / step.num_clips for clip in range(step.num_clips)]
    # SlowFast adds 1 to both ends of a clip, although it then limits positions as counted from 0.
    # The positions are float32 of torch, as in SlowFast's code. With float64, some of them would be
    # a little below an integer, and `long` would round them down.
    positions = [torch.linspace(begin + 1, begin + span, step.clip_len) for begin in begins]
    numbers = first + torch.stack(positions).clamp(0, length - 1).long().numpy()
    # The official frames are numbered from 1, and their times count from 0.
    return (numbers - 1) / clock


def middle_of_parts(start: float, stop: float, clock: float, step: PublishedFrames) -> np.ndarray:
    """Choose the middle official frame of each of `clip_len` equal parts, as the C1 baselines do.

    Args:
        start: Start of the segment in seconds.
        stop: End of the segment in seconds.
        clock: Frames per second of the official frames.
        step: The pipeline step, with the number of frames.

    Returns:
        Times of the frames in seconds, float64 [frames].

    Source: `_get_test_indices` of src/datasets/tsn_dataset.py and `iter_data` of
    src/utils/gulp_adapter.py at e8e1a79. The CSV has `start_frame` = max(1, floor(start * clock)),
    in all rows of val.
    """
    first, last = max(1, int(start * clock)), max(1, int(stop * clock))
    part_length = (last - first + 1) / step.clip_len
    numbers = first + (part_length * (np.arange(step.clip_len) + 0.5)).astype(np.int64)
    # The official frames are numbered from 1, and their times count from 0.
    return (numbers - 1) / clock


RULES: dict[str, Callable[[float, float, float, PublishedFrames], np.ndarray]] = {
    "avion": avion,
    "lavila": lavila,
    "slowfast": slowfast,
    "c1": middle_of_parts,  # C1 is the challenge, whose baselines use this rule.
}
