"""Make the timeline of one video: place clips, predict them in shards, merge, write."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from epic100.base.errors import EpicError
from epic100.base.gpu import gpus_to_use, look_for_gpus
from epic100.model.config_text import parse_config
from epic100.model.foreign_config import test_pipeline_of
from epic100.model.model_file import TrainedModel, digest, load_model
from epic100.prediction.job import Job
from epic100.prediction.predict import PredictSettings, predict_rows, predictions_of
from epic100.prediction.shards import run_key, video_stamp
from epic100.prediction.views import chosen_views
from epic100.segments.class_names import ClassNames
from epic100.segments.segment_list import NO_LABEL, write_segments
from epic100.timeline.content import build_timeline
from epic100.timeline.files import beside, write_timeline
from epic100.timeline.placing import Placed, place_clips
from epic100.timeline.settings import TimelineSettings, clip_frames
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index
from epic100.video.scan_table import ScanRow, read_scan_table

log = logging.getLogger(__name__)

PART = 64  # clips of a shard: a killed run loses at most these


@dataclass(frozen=True)
class ScannedVideo:
    """A video with all that its clips need.

    Attributes:
        name: Its name in the outputs.
        root: Folder of the videos.
        path: Its path below `root`, without spaces.
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
    found = load_index(index, video_id)
    if found is None:
        raise EpicError(f"{index}: has no index of {video_id}; run the rule that makes it again")
    path = f"{participant_id}/{video_id}.MP4"
    return ScannedVideo(video_id, Path(root), path, Path(index).parent, found, row)


class ModelInUse:
    """A model file, read once for all videos of a call.

    Args:
        path: The model file.
        names: Class names to use in place of the model's.

    Raises:
        EpicError: It is not a model, or its config cannot be read.
    """

    def __init__(self, path: str | os.PathLike, names: ClassNames | None = None):
        self.path = Path(path)
        self.trained: TrainedModel = load_model(path)
        self.digest = digest(path)
        config = parse_config(self.trained.config, str(path), "train it again with this workflow")
        self.pipeline = test_pipeline_of(config)
        chosen_views(self.pipeline, 1, 1)
        self.names = names or ClassNames(self.trained.names)
        if not self.names.by_task:
            log.warning(
                f"{path}: has no class names, since an older version or `epic100 migrate` wrote "
                "it; classes are shown by their ids; `epic100 predict --class-lists` names them"
            )


def make_timeline(
    video: ScannedVideo,
    model: ModelInUse,
    tsv: str | os.PathLike,
    *,
    settings: TimelineSettings,
    predict: PredictSettings,
    modules: Mapping[str, Any] | None = None,
    asked: int = 0,
) -> None:
    """Predict a whole video and write its timeline.

    Finished clips are kept in `{video}.shards` beside the outputs until all are done, so an
    interrupted run goes on where it was and ends in the same files.

    Args:
        video: The video.
        model: The model.
        tsv: The table to write; `files.SUFFIXES` lists the files beside it.
        settings: The `timeline:` section.
        predict: The `predict:` section. A clip always has one view.
        modules: The config's `modules` section.
        asked: Number of GPUs that the rule requests from Slurm.

    Raises:
        EpicError: The video has fewer than two pictures, or a frame that the scan passed does not
            decode; torch cannot use a GPU that was granted or requested.
    """
    gpus = gpus_to_use("predict", predict.device, predict.gpus, look_for_gpus(asked))
    file = video.root / video.path
    frames = clip_frames(model.pipeline, video.index.fps, settings.window)
    try:
        placed = place_clips(video.index, video.row.damaged, settings.stride, frames)
    except EpicError as error:
        raise EpicError(f"{video.name}: {error}") from error
    count = int(placed.sound.sum())
    log.info(
        f"{video.name}: {placed.duration:.1f} s, {count} clips of {frames} frames every "
        f"{settings.stride:g} s; {len(placed.sound) - count} steps are damaged and skipped"
    )
    folder = beside(tsv, ".shards")
    clips = folder.with_suffix(".clips")
    write_segments(_clip_list(video, placed), clips)
    job = Job(
        str(model.path), str(clips), str(beside(tsv, ".pt")), run_key(model.digest, 1, 1),
        str(video.root), str(video.index_dir), 1, 1, predict.batch_size, predict.workers or 0,
        device="cpu", threads=torch.get_num_threads(), videos=_parts(video, placed, file),
        modules=dict(modules or {}),
    )  # fmt: skip
    outputs = sum(model.trained.outputs.values())
    rows = predict_rows(job, predict, gpus, outputs, video.name, parts="parts")
    ids = [str(number) for number in range(count)]
    found = predictions_of("", ids, rows, model.trained, model.digest)
    timeline = build_timeline(
        video.name, video.index.fps, placed, found, model.names, settings,
        made_from(model, file, settings),
    )  # fmt: skip
    write_timeline(timeline, tsv)
    shutil.rmtree(folder, ignore_errors=True)
    clips.unlink(missing_ok=True)
    log.info(f"{tsv}: {len(timeline.segments)} actions, {len(timeline.damaged)} damaged stretches")


def made_from(
    model: ModelInUse, file: str | os.PathLike, settings: TimelineSettings
) -> dict[str, Any]:
    """What a timeline depends on: the model's digest, the video file's state, the settings."""
    state = Path(file).stat()
    return {
        "model": model.digest,
        "names": bool(model.names.by_task),
        "bytes": state.st_size,
        "modified_ns": state.st_mtime_ns,
        "settings": asdict(settings),
    }


def _clip_list(video: ScannedVideo, placed: Placed) -> pd.DataFrame:
    """The clips as a segment list, which the dataset reads."""
    steps = placed.sound.nonzero()[0].tolist()
    safe = Path(video.path).stem
    return pd.DataFrame(
        {
            "path": video.path,
            "start": placed.start[placed.sound],
            "stop": placed.stop[placed.sound],
            "verb": NO_LABEL,
            "noun": NO_LABEL,
            "narration_id": [f"{safe}_at_{placed.seconds(step):.2f}_s" for step in steps],
        }
    )


def _parts(video: ScannedVideo, placed: Placed, file: Path) -> dict[str, tuple[str, list[int]]]:
    """The clips in parts of `PART`, each with the stamp of its shard."""
    starts, stops = (values[placed.sound].tolist() for values in (placed.start, placed.stop))
    parts = {}
    for first in range(0, len(starts), PART):
        lines = list(range(first, min(first + PART, len(starts))))
        stamp = video_stamp(file, [starts[i] for i in lines], [stops[i] for i in lines])
        parts[f"{Path(video.path).stem}.{first:07d}"] = (stamp, lines)
    return parts
