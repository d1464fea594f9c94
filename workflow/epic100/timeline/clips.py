"""The clips of whole videos: their places, and the outputs of a model or an encoder for them."""

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epic100.base.errors import EpicError
from epic100.model.views import sampling_of
from epic100.prediction.predict import predict_rows
from epic100.prediction.shards import Job, Shards, run_key, video_stamp
from epic100.segments.segment_list import NO_LABEL, write_segments
from epic100.settings import PredictSettings
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index
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
    row = next((row for row in read_scan_table(table) if row.video_id == video_id), None)
    if row is None or not row.readable:
        state = "is not in it" if row is None else f"is {row.status}: {row.reason or 'no reason'}"
        raise EpicError(f"{table}: {video_id} {state}; expected a video that can be read")
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
class Placed:
    """The clips of a video, one for each step. Step i is the time [i * stride, (i + 1) * stride).

    Attributes:
        stride: Length of a step in seconds.
        duration: Length of the video in seconds, with the frames that are cut off at its end.
        start: int64 [N], first frame of each step's clip.
        stop: int64 [N], frame after the last one of each step's clip.
        sound: bool [N], whether the step is undamaged. Only such steps have a clip.
        damaged: Damaged stretches in seconds, in order.
    """

    stride: float
    duration: float
    start: np.ndarray
    stop: np.ndarray
    sound: np.ndarray
    damaged: list[tuple[float, float]]

    def seconds(self, step: int) -> float:
        """Return when a step begins, in seconds.

        The step after the last one begins where the video ends.
        """
        return min(step * self.stride, self.duration)


def place_clips(index: VideoIndex, damaged: Ranges, stride: float, frames: int) -> Placed:
    """Place a clip around the middle of each step.

    A clip at the edge of the video or of a damaged stretch is moved until it lies in undamaged
    frames alone. If an undamaged stretch is shorter than a clip, the whole stretch is the clip.

    Args:
        index: The times of all frames. The rate may vary.
        damaged: Half-open ranges of frames, in order, as in `ScanRow`. They go beyond the last
            frame if the end of the file is cut off.
        stride: Seconds from step to step.
        frames: Frames of a clip.

    Raises:
        EpicError: The video has fewer than two pictures.
    """
    if not index.fps:
        raise EpicError(f"{index.frames} picture in it; expected a video, with two or more")
    damaged = [(max(start, 0), stop) for start, stop in damaged]
    # The frames that are cut off at the end of a file are damaged, and count for its duration.
    duration = index.time_of(max([index.frames, *(stop for _, stop in damaged)]))
    # A rounding error of the division must not add an empty step.
    steps = max(1, int(np.ceil(duration / stride - 1e-9)))
    step_begins = np.arange(steps) * stride
    step_ends = np.minimum(step_begins + stride, duration)
    step_start, step_stop = index.frames_between(step_begins, step_ends)
    middle, _ = index.frames_between((step_begins + step_ends) / 2, step_ends)
    middle = np.clip(middle, 0, index.frames - 1)
    # A step after the last frame is cut off.
    sound = step_start < index.frames
    # The clip of each step may use the frames from `low` up to, but not with, `high`.
    low, high = np.zeros(steps, np.int64), np.full(steps, index.frames)
    for start, stop in damaged:
        sound &= (step_stop <= start) | (step_start >= stop)
        low = np.where(step_start >= stop, np.maximum(low, stop), low)
        high = np.where(step_stop <= start, np.minimum(high, start), high)
    if index.is_steady:
        clip_start = np.maximum(np.minimum(middle - frames // 2, high - frames), low)
        clip_stop = clip_start + frames
    else:
        # At a variable rate a clip lasts as long as its frames would at the mean rate, so it is
        # placed by times. `high` may be the frame after the last one, which needs a time, too.
        times = np.append(index.times, index.time_of(index.frames))
        begins = times[middle] - frames // 2 / index.fps
        begins = np.maximum(np.minimum(begins, times[high] - frames / index.fps), times[low])
        clip_start = np.maximum(index.at_steps(begins), low)
        clip_stop = index.at_steps(begins + (frames - 1) / index.fps) + 1
    return Placed(
        stride=stride,
        duration=duration,
        start=clip_start,
        stop=np.minimum(clip_stop, high),
        sound=sound,
        damaged=[(index.time_of(start), index.time_of(stop)) for start, stop in damaged],
    )


def clip_frames(pipeline: Sequence[Mapping[str, Any]], fps: float, window: float | None) -> int:
    """Return how many frames of the video file a clip spans.

    Args:
        pipeline: The model's test pipeline.
        fps: Frames per second of the file.
        window: Length of a clip in seconds. None: the span of a dense clip (frames x interval, at
            the model's rate if it has one), or 2 s for models whose frames cover a segment.
    """
    sampling = sampling_of(pipeline)
    if window is None and sampling.kind == "dense":
        return sampling.span(fps)
    return max(1, round((SPREAD_SECONDS if window is None else window) * fps))


# A shard has at most this many clips. A process that is killed loses only its unfinished shard.
CLIPS_PER_SHARD = 64


def rows_of_clips(
    videos: Sequence[tuple[ScannedVideo, Placed]],
    out: str | os.PathLike,
    *,
    model: str | os.PathLike,
    key: str,
    encoder: str = "",
    outputs: int = 0,
    predict: PredictSettings,
    requested_gpus: int,
    label: str,
    modules: Mapping[str, Any] | None = None,
) -> list[torch.Tensor]:
    """Compute the model's outputs for the clip of every undamaged step of some videos.

    Finished clips are kept beside `out` in `.shards` until `forget_rows`, so an interrupted run is
    resumed and ends in the same rows.

    Args:
        videos: The videos and their clips. All videos share `root` and `index_dir`.
        out: A path that the names of the shards are derived from.
        model: The model file; "" for an encoder of the user's.
        key: A text for the model or encoder, such as the model's digest. Shards of another key are
            not used.
        encoder: As in `Job`: "" for scores, else features.
        outputs: Number of columns if there is no clip at all.
        predict: The `predict:` section. A clip always has one view.
        requested_gpus: Number of GPUs that the rule requests.
        label: What is predicted, for the progress display.
        modules: The config's `modules` section.

    Returns:
        For each video its rows, float32 [undamaged steps, columns].

    Raises:
        EpicError: A frame that the scan passed does not decode.
    """
    clip_lists = [_clip_list(video, placed) for video, placed in videos]
    clip_counts = [len(clip_list) for clip_list in clip_lists]
    shards: dict[str, tuple[str, list[int]]] = {}
    # The clips of all videos are one list, in which each video's begin behind those before it. The
    # last sum is the number of all clips, where no video begins.
    first_lines = np.cumsum([0, *clip_counts]).tolist()[:-1]
    for (video, _), clip_list, first_line in zip(videos, clip_lists, first_lines, strict=True):
        shards |= _shards(video, clip_list, first_line)
    first_video, _ = videos[0]
    # The list has a folder of its own, since another attempt at the same time may have other clips
    # left to compute.
    with tempfile.TemporaryDirectory() as folder:
        all_clips = Path(folder) / "clips.txt"
        write_segments(pd.concat(clip_lists, ignore_index=True), all_clips)
        job = Job(
            model=str(model),
            segments=str(all_clips),
            out=str(out),
            run=run_key(key, clips=1, crops=1),
            video_root=str(first_video.root),
            index_dir=str(first_video.index_dir),
            settings=predict.model_copy(update={"clips": 1, "crops": 1}),
            videos=shards,
            modules=modules,
            encoder=encoder,
        )
        # A long video has several shards, so the log counts parts of videos, and not videos.
        rows = predict_rows(job, requested_gpus, outputs, label, noun_for_keys="parts")
    return list(rows.split(clip_counts))


def forget_rows(out: str | os.PathLike) -> None:
    """Remove the shards that `rows_of_clips` keeps, once their rows are stored."""
    folder = Shards(out, "").folder
    # A file whose name begins with a dot is being written by another attempt.
    for shard in folder.glob("*/[!.]*"):
        shard.unlink(missing_ok=True)
    for directory in (*folder.glob("*"), folder):
        # A folder that still holds a file of another attempt stays.
        with contextlib.suppress(OSError):
            directory.rmdir()


def _clip_list(video: ScannedVideo, placed: Placed) -> pd.DataFrame:
    """List the clips of undamaged steps as segments without labels, for the dataset to read."""
    steps = placed.sound.nonzero()[0].tolist()
    return pd.DataFrame(
        {
            "path": video.path,
            "start": placed.start[placed.sound],
            "stop": placed.stop[placed.sound],
            "verb": NO_LABEL,
            "noun": NO_LABEL,
            "narration_id": [
                f"{Path(video.path).stem}_at_{placed.seconds(step):.2f}_s" for step in steps
            ],
        }
    )


def _shards(
    video: ScannedVideo, clip_list: pd.DataFrame, first_line: int
) -> dict[str, tuple[str, list[int]]]:
    """Divide the clips of a video among shards.

    Returns:
        By name of the shard, such as `P01_01.0000064` with the number of its first clip: its stamp,
        a digest by which a shard of other clips is recognized; and its line numbers in the list of
        all videos' clips, where this video's begin at `first_line`.
    """
    shards = {}
    for first in range(0, len(clip_list), CLIPS_PER_SHARD):
        clips = clip_list.iloc[first : first + CLIPS_PER_SHARD]
        stamp = video_stamp(video.file, clips["start"].tolist(), clips["stop"].tolist())
        lines = range(first_line + first, first_line + first + len(clips))
        shards[f"{Path(video.path).stem}.{first:07d}"] = (stamp, list(lines))
    return shards
