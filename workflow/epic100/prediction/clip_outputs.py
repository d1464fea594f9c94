"""The clips of complete videos: their places, and the outputs of a model or an encoder for them."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from epic100.base.errors import EpicError
from epic100.data.segment_list import NO_LABEL, write_segments
from epic100.model.views import sampling_of
from epic100.prediction.encoder import Source
from epic100.prediction.predict import predict_rows
from epic100.prediction.shards import PredictionJob, work_items
from epic100.settings.prediction import PredictSettings
from epic100.video.index import VideoIndex, load_index
from epic100.video.scan_table import ScanRow, read_scan_table
from epic100.video.sheet import find_files


@dataclass(frozen=True)
class ScannedVideo:
    """A scanned video: its file, its frame index and its row of the scan table.

    Attributes:
        name: The video's name in the outputs.
        root: Folder of the videos.
        path: The video's path as in segment lists, without spaces.
        index_dir: Folder of the frame indexes, for the loader processes.
        index: The video's frame index.
        row: The video's row of the scan table.
        source: The user's file, if that at `path` is a temporary copy of it.
    """

    name: str
    root: Path
    path: str
    index_dir: Path
    index: VideoIndex
    row: ScanRow
    source: Path | None = None

    @cached_property
    def file(self) -> Path:
        """The path of the user's video file on the disk."""
        return self.source or find_files([self.path], self.root)[self.path]


def scanned_video(
    video_id: str,
    participant_id: str,
    root: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
) -> ScannedVideo:
    """Read the scan row and the frame index of a video of the sheet.

    Args:
        video_id: The id of the video, such as `P01_01`.
        participant_id: The id of the participant who filmed it.
        root: Folder of the videos, or of their small copies (rule proxy).
        table: The scan table of the participant.
        index: The file with the frame indexes of the participant's videos below `root`.

    Raises:
        EpicError: The video is missing or unreadable.
    """
    rows = {row.video_id: row for row in read_scan_table(table)}
    expected = "expected a video that can be read"
    if video_id not in rows:
        raise EpicError(f"{table}: {video_id} is not in it; {expected}")
    row = rows[video_id]
    if not row.readable:
        raise EpicError(
            f"{table}: {video_id} is {row.status}: {row.reason or 'no reason'}; {expected}"
        )
    return ScannedVideo(
        name=video_id,
        root=Path(root),
        path=f"{participant_id}/{video_id}.MP4",
        index_dir=Path(index).parent,
        index=load_index(index, video_id),
        row=row,
    )


# A clip lasts this long for a model whose frames cover a segment. The median segment of EPIC lasts
# 1.85 s.
SPREAD_SECONDS = 2.0

# Half-open ranges of frames.
Ranges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class ClipPlan:
    """The clips of a video, one for each step. Step i is the time [i * stride, (i + 1) * stride).

    Attributes:
        stride: Length of a step in seconds.
        duration: Length of the video in seconds, with the frames that are cut off at its end.
        start: int64 [N], first frame of each step's clip.
        stop: int64 [N], frame after the last one of each step's clip.
        undamaged: bool [N], whether the step is undamaged. Only such steps have a clip.
        damaged: Damaged stretches in seconds, in order.
    """

    stride: float
    duration: float
    start: np.ndarray
    stop: np.ndarray
    undamaged: np.ndarray
    damaged: list[tuple[float, float]]

    def seconds(self, step: int) -> float:
        """Return when a step begins, in seconds.

        The step after the last one begins where the video ends.
        """
        return min(step * self.stride, self.duration)


class FrameRanges(NamedTuple):
    """One half-open range of frames for each step of a video.

    Attributes:
        start: int64 [N], first frame of each range.
        stop: int64 [N], frame after the last one of each range.
    """

    start: np.ndarray
    stop: np.ndarray


def place_clips(index: VideoIndex, damaged: Ranges, stride: float, frames: int) -> ClipPlan:
    """Place a clip around the middle of each step.

    A clip at the edge of the video or of a damaged stretch is moved until it lies in undamaged
    frames alone. If an undamaged stretch is shorter than a clip, the complete stretch is the clip.

    Args:
        index: The times of all frames. The rate may vary.
        damaged: Half-open ranges of frames, in order, as in `ScanRow`. They go beyond the last
            frame if the end of the file is cut off.
        stride: Seconds from step to step.
        frames: Frames of a clip.

    Raises:
        EpicError: The video has fewer than two frames.
    """
    if not index.fps:
        raise EpicError(f"{index.frames} frame in it; expected a video, with two or more")
    # The frames that are cut off at the end of a file are damaged, and count for its duration.
    last_damaged_stop = max((stop for _, stop in damaged), default=0)
    duration = index.time_of(max(index.frames, last_damaged_stop))

    # When each step begins and ends, in seconds. A rounding error of the division must not add an
    # empty step.
    steps = max(1, int(np.ceil(duration / stride - 1e-9)))
    begins = np.arange(steps) * stride
    ends = np.minimum(begins + stride, duration)

    # The frames that are shown in each step, and the one in its middle.
    shown = FrameRanges(*index.frames_between(begins, ends))
    middle = index.frames_between((begins + ends) / 2, ends)[0].clip(0, index.frames - 1)

    # A step after the last frame is cut off.
    undamaged = shown.start < index.frames
    for start, stop in damaged:
        undamaged &= (shown.stop <= start) | (shown.start >= stop)
    allowed = _undamaged_around(shown, damaged, index.frames)
    if index.is_steady:
        clips = _placed_by_number(middle, allowed, frames)
    else:
        clips = _placed_by_time(index, middle, allowed, frames)
    return ClipPlan(
        stride=stride,
        duration=duration,
        start=clips.start,
        stop=np.minimum(clips.stop, allowed.stop),
        undamaged=undamaged,
        damaged=[(index.time_of(max(start, 0)), index.time_of(stop)) for start, stop in damaged],
    )


def _undamaged_around(shown: FrameRanges, damaged: Ranges, frames: int) -> FrameRanges:
    """Find the undamaged stretch around each step, in which its clip must lie.

    Args:
        shown: The frames that are shown in each step. The result for a damaged step has no meaning.
        damaged: The damaged ranges of frames.
        frames: Number of frames of the video.
    """
    first, end = np.zeros_like(shown.start), np.full_like(shown.stop, frames)
    for start, stop in damaged:
        # Damage before a step moves the first frame of its stretch; damage after it moves the end.
        first = np.where(shown.start >= stop, np.maximum(first, stop), first)
        end = np.where(shown.stop <= start, np.minimum(end, start), end)
    return FrameRanges(first, end)


def _placed_by_number(middle: np.ndarray, allowed: FrameRanges, frames: int) -> FrameRanges:
    """Place the clips of a video of a steady rate, where a clip is a number of frames.

    Args:
        middle: int64 [N], the frame in the middle of each step.
        allowed: The frames in which the clip of each step must lie.
        frames: Frames of a clip.

    Returns:
        The clips. One stops beyond `allowed.stop` if fewer frames are allowed.
    """
    latest_start = allowed.stop - frames
    start = np.minimum(middle - frames // 2, latest_start)
    start = np.maximum(start, allowed.start)
    return FrameRanges(start, start + frames)


def _placed_by_time(
    index: VideoIndex, middle: np.ndarray, allowed: FrameRanges, frames: int
) -> FrameRanges:
    """Place the clips of a video of a variable rate, as `_placed_by_number` does.

    A clip lasts as long as its frames would at the mean rate. `index` has the times of all frames.
    """
    # `allowed.stop` may be the frame after the last one, which needs a time, too.
    times = np.append(index.times, index.time_of(index.frames))
    latest_begin = times[allowed.stop] - frames / index.fps
    begins = np.minimum(times[middle] - frames // 2 / index.fps, latest_begin)
    begins = np.maximum(begins, times[allowed.start])
    start = np.maximum(index.at_steps(begins), allowed.start)
    stop = index.at_steps(begins + (frames - 1) / index.fps) + 1
    return FrameRanges(start, stop)


def clip_frames(pipeline: Sequence[Mapping[str, Any]], fps: float, window: float | None) -> int:
    """Return how many frames of the video file a clip spans.

    Args:
        pipeline: The model's test pipeline.
        fps: Frames per second of the file.
        window: Length of a clip in seconds. None: the span of a dense clip (frames x interval, at
            the model's rate if it has one), or 2 s for models whose frames cover a segment.
    """
    sampling = sampling_of(pipeline)
    if window is None:
        if sampling.sampling_type == "dense":
            return sampling.span(fps)
        window = SPREAD_SECONDS
    return max(1, round(window * fps))


class VideoClips(NamedTuple):
    """A video, and where its clips are."""

    video: ScannedVideo
    plan: ClipPlan


def rows_of_clips(
    videos: Sequence[VideoClips],
    source: Source,
    out: str | os.PathLike,
    *,
    predict: PredictSettings,
    requested_gpus: int,
    label: str,
    modules: Mapping[str, Any] | None = None,
    gives_features: bool = False,
) -> list[torch.Tensor]:
    """Compute a row of scores or features for the clip of every undamaged step of some videos.

    Shards of the rows stay, so that an interrupted run resumes; `remove_shards(out)` removes them.

    Args:
        videos: The videos and their clips. All have the same folders of videos and indexes.
        source: The model or the encoder.
        out: A path that names the folder of shards.
        predict: The `predict:` section. A clip always has one view.
        requested_gpus: Number of GPUs that the rule requests.
        label: What is predicted, for the progress display.
        modules: The config's `modules` section.
        gives_features: Whether a row has features. Else it has scores, as log-probabilities.

    Returns:
        For each video its rows, float32 [undamaged steps, columns].

    Raises:
        EpicError: A frame that the scan passed does not decode.
    """
    # A list of segments for each video, without labels, for the data set to read.
    lists = []
    for video, plan in videos:
        name = Path(video.path).stem
        steps = np.flatnonzero(plan.undamaged).tolist()
        clips = pd.DataFrame(
            {
                "path": video.path,
                "start": plan.start[plan.undamaged],
                "stop": plan.stop[plan.undamaged],
                "verb": NO_LABEL,
                "noun": NO_LABEL,
                "narration_id": [f"{name}_at_{plan.seconds(step):.2f}_s" for step in steps],
            }
        )
        lists.append(clips)
    table = pd.concat(lists, ignore_index=True)
    # All videos have these folders.
    first = videos[0].video
    # The list is in a temporary folder of this process, since another attempt at the same time may
    # have other clips.
    with tempfile.TemporaryDirectory() as folder:
        segments = os.path.join(folder, "clips.txt")
        write_segments(table, segments)
        job = PredictionJob(
            source,
            segments=segments,
            out=os.fspath(out),
            video_root=os.fspath(first.root),
            index_dir=os.fspath(first.index_dir),
            settings=predict.model_copy(update={"clips": 1, "crops": 1}),
            items=work_items(table, {video.path: video.file for video, _ in videos}),
            modules=modules,
            gives_features=gives_features,
        )
        rows = predict_rows(job, requested_gpus, label)
    return list(rows.split([len(clips) for clips in lists]))
