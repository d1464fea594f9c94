"""Make the timeline of one video: place clips, predict them in shards, merge, write."""

import logging
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from epic100.base.errors import EpicError
from epic100.base.gpu import gpus_to_use, look_for_gpus
from epic100.model.model_file import TrainedModel, digest, load_model
from epic100.prediction.predict import predictions_of
from epic100.prediction.views import one_view_pipeline
from epic100.segments.official_lists import ClassNames
from epic100.settings import PredictSettings, TimelineSettings
from epic100.timeline.content import build_timeline
from epic100.timeline.files import beside, write_timeline
from epic100.timeline.placing import clip_frames, place_clips
from epic100.timeline.rows import forget_rows, rows_of_clips
from epic100.timeline.scanned import ScannedVideo

log = logging.getLogger(__name__)


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
        self.pipeline = one_view_pipeline(self.trained.config)
        self.names = names or ClassNames(self.trained.names)
        for task, classes in (("verb", self.trained.num_verbs), ("noun", self.trained.num_nouns)):
            last = max(self.names.by_task.get(task, {}), default=-1)
            if last >= classes:
                raise EpicError(
                    f"--class-lists: the list of {task}s names class {last}, but {path} has "
                    f"{classes} {task}s; expected the lists of its classes, verbs first"
                )
        if not self.names.by_task:
            log.warning(
                f"{path}: has no class names; classes are shown by their ids; `epic100 predict "
                "--class-lists` names them"
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
    out = beside(tsv, ".pt")
    (rows,) = rows_of_clips(
        [(video, placed)], out, model=model.path, key=model.digest,
        outputs=sum(model.trained.outputs.values()), predict=predict, gpus=gpus, label=video.name,
        modules=modules,
    )  # fmt: skip
    ids = [str(number) for number in range(count)]
    found = predictions_of("", ids, rows, model.trained, model.digest)
    timeline = build_timeline(
        video.name, video.index.fps, placed, found, model.names, settings,
        made_from(model, file, settings),
    )  # fmt: skip
    write_timeline(timeline, tsv)
    forget_rows(out)
    log.info(f"{tsv}: {len(timeline.segments)} actions, {len(timeline.damaged)} damaged stretches")


def made_from(
    model: ModelInUse, file: str | os.PathLike, settings: TimelineSettings
) -> dict[str, Any]:
    """What a timeline depends on: the model's digest, the video file's state, the settings."""
    state = Path(file).stat()
    return {
        "model": model.digest,
        "names": sha256(repr(model.names.by_task).encode()).hexdigest()[:16],
        "bytes": state.st_size,
        "modified_ns": state.st_mtime_ns,
        "settings": settings.stored(),
    }
