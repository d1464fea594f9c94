"""The clips of whole videos: where they are, and what a model or an encoder gives for them."""

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
    """A video with all that its clips need.

    Attributes:
        name: Its name in the outputs.
        root: Folder of the videos.
        path: Its path as in lists, without spaces.
        index_dir: Folder of the frame indexes, for the loader processes.
        index: Its frame index.
        row: Its row of the scan.
    """

    name: str
    root: Path
    path: str
    index_dir: Path
    index: VideoIndex
    row: ScanRow

    @cached_property
    def file(self) -> Path:
        """The video file."""
        return find_files([self.path], self.root)[self.path]


def scanned_video(
    video_id: str,
    participant_id: str,
    root: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
) -> ScannedVideo:
    """Describe a video of the sheet by the results of the rules scan and proxy.

    Args:
        video_id: The video.
        participant_id: Its participant.
        root: Folder of the videos, or of their small copies.
        table: The scan table of the participant.
        index: The frame indexes of the participant's files below `root`.

    Raises:
        EpicError: The video is missing or unreadable.
    """
    row = next((row for row in read_scan_table(table) if row.video_id == video_id), None)
    if row is None or not row.readable:
        state = "is not in it" if row is None else f"is {row.status}: {row.reason or 'no reason'}"
        raise EpicError(f"{table}: {video_id} {state}; expected a video that can be read")
    path, frame_index = f"{participant_id}/{video_id}.MP4", load_index(index, video_id)
    return ScannedVideo(video_id, Path(root), path, Path(index).parent, frame_index, row)


# A clip lasts this long for a model whose frames cover a segment. The median segment of EPIC lasts
# 1.85 s.
SPREAD_SECONDS = 2.0

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
    duration = index.time_of(end)
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
    if index.is_steady:
        start = np.maximum(np.minimum(middle - frames // 2, high - frames), low)
        last = start + frames
    else:
        times = np.append(index.times, index.time_of(index.frames))
        begins = times[middle] - frames // 2 / index.fps
        begins = np.maximum(np.minimum(begins, times[high] - frames / index.fps), times[low])
        start = np.maximum(index.at_steps(begins), low)
        last = index.at_steps(begins + (frames - 1) / index.fps) + 1
    return Placed(
        stride,
        duration,
        start,
        np.minimum(last, high),
        sound,
        [(index.time_of(start), index.time_of(stop)) for start, stop in bad],
    )


def clip_frames(pipeline: Sequence[Mapping[str, Any]], fps: float, window: float | None) -> int:
    """How many frames of the file a clip spans.

    Args:
        pipeline: The model's test pipeline.
        fps: Frames per second of the file.
        window: Seconds. None: what a dense clip spans (frames x interval, at the model's rate if
            it has one), or 2 s for models whose frames cover a segment.
    """
    sampling = sampling_of(pipeline)
    if window is None and sampling.kind == "dense":
        return sampling.span(fps)
    return max(1, round((SPREAD_SECONDS if window is None else window) * fps))


# A shard has at most this many clips. A process that is killed loses only its unfinished shard.
PART = 64


def rows_of_clips(
    videos: Sequence[tuple[ScannedVideo, Placed]],
    out: str | os.PathLike,
    *,
    model: str | os.PathLike,
    key: str,
    encoder: str = "",
    outputs: int = 0,
    predict: PredictSettings,
    asked: int,
    label: str,
    modules: Mapping[str, Any] | None = None,
) -> list[torch.Tensor]:
    """Compute a row for every sound step of some videos of one folder.

    Finished clips are kept beside `out` in `.shards` until `forget_rows`, so an interrupted run
    goes on where it was and ends in the same rows.

    Args:
        videos: The videos and their clips. They share `root` and `index_dir`.
        out: A path that the names of the shards are derived from.
        model: The model file; "" for an encoder of the user's.
        key: What all rows depend on, such as the model's digest.
        encoder: As in `Job`: "" for scores, else features.
        outputs: Columns; 0: as many as there are.
        predict: The `predict:` section. A clip always has one view.
        asked: Number of GPUs that the rule requests.
        label: What is predicted, for the progress display.
        modules: The config's `modules` section.

    Returns:
        For each video float32 [sound steps, columns].

    Raises:
        EpicError: A frame that the scan passed does not decode.
    """
    lists = [_clip_list(video, placed) for video, placed in videos]
    counts = [len(listed) for listed in lists]
    parts: dict[str, tuple[str, list[int]]] = {}
    begins = np.cumsum([0, *counts]).tolist()
    for (video, _), listed, begin in zip(videos, lists, begins, strict=False):
        parts |= _parts(video, listed, begin)
    root, index_dir = videos[0][0].root, videos[0][0].index_dir
    # The list has a folder of its own: another attempt may have other clips left to compute.
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips.txt"
        write_segments(pd.concat(lists, ignore_index=True), clips)
        job = Job(
            str(model),
            str(clips),
            str(out),
            run_key(key, 1, 1),
            str(root),
            str(index_dir),
            predict.model_copy(update={"clips": 1, "crops": 1}),
            parts,
            modules,
            encoder,
        )
        rows = predict_rows(job, asked, outputs, label, parts="parts")
    return list(rows.split(counts))


def forget_rows(out: str | os.PathLike) -> None:
    """Remove what `rows_of_clips` keeps, once its rows are stored.

    What another attempt is just writing there is left to it.
    """
    folder = Shards(out, "").folder
    for shard in folder.glob("*/[!.]*"):
        shard.unlink(missing_ok=True)
    for directory in (*folder.glob("*"), folder):
        with contextlib.suppress(OSError):
            directory.rmdir()


def _clip_list(video: ScannedVideo, placed: Placed) -> pd.DataFrame:
    """The clips as a segment list, which the dataset reads."""
    steps = placed.sound.nonzero()[0].tolist()
    video_stem = Path(video.path).stem
    return pd.DataFrame(
        {
            "path": video.path,
            "start": placed.start[placed.sound],
            "stop": placed.stop[placed.sound],
            "verb": NO_LABEL,
            "noun": NO_LABEL,
            "narration_id": [f"{video_stem}_at_{placed.seconds(step):.2f}_s" for step in steps],
        }
    )


def _parts(
    video: ScannedVideo, listed: pd.DataFrame, begin: int
) -> dict[str, tuple[str, list[int]]]:
    """The clips in parts of `PART`, each with its shard's stamp and its lines from `begin` on."""
    parts = {}
    for first in range(0, len(listed), PART):
        part = listed.iloc[first : first + PART]
        stamp = video_stamp(video.file, part["start"].tolist(), part["stop"].tolist())
        lines = list(range(begin + first, begin + first + len(part)))
        parts[f"{Path(video.path).stem}.{first:07d}"] = (stamp, lines)
    return parts
