"""The model that predicts videos, and a background score: whether nothing happens in a clip.

The background score is learned from the gaps between the segments of train. It needs no labels
other than the segments, and no separate pass over a video: it is a logistic regression on the
scores that the model gives for a clip anyway. Its threshold is chosen on val, so it is a separate
file: the model must not depend on val.
"""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from epic100.base.atomic import write_text
from epic100.base.checked import STRICT, conforming
from epic100.base.disk import read_json
from epic100.base.errors import EpicError
from epic100.data.official_lists import ClassNames
from epic100.data.segment_list import read_segments
from epic100.model.model_file import TrainedModel, load_model
from epic100.model.views import chosen_views
from epic100.prediction.clip_outputs import (
    ClipPlan,
    ScannedVideo,
    VideoClips,
    clip_frames,
    rows_of_clips,
    scanned_video,
)
from epic100.prediction.encoder import source_of_model
from epic100.prediction.shards import remove_shards
from epic100.settings.prediction import PredictSettings
from epic100.video.scan_table import outside, ranges_of

FORMAT = "epic100 background 1"
# The loss adds the squared weights times this factor.
DECAY = 0.01
# Lower log-probabilities count as this one, since they tell nothing more.
FLOOR = -30.0


log = logging.getLogger(__name__)
# Maximum number of segments, and of pieces of gaps, that become clips of a video.
MAX_CLIPS = 20
# Minimum number of frames of a piece of a gap.
SHORTEST_GAP = 13


@dataclass(frozen=True)
class Background:
    """A logistic regression whose score is how sure it is that nothing happens in a clip.

    Attributes:
        format: `FORMAT`.
        model: SHA-256 of the model file whose outputs it takes.
        weights: A weight for each of the model's outputs.
        bias: A number that is added to the weighted sum.
        threshold: With this score or more, nothing happens.
        gaps_found: The share of val's gaps that the threshold finds.
        segments_kept: The share of val's segments that the threshold does not call gaps.
    """

    format: str
    model: str
    weights: list[float]
    bias: float
    threshold: float = 0.5
    gaps_found: float = 0.0
    segments_kept: float = 1.0

    __pydantic_config__ = STRICT

    def scores(self, rows: torch.Tensor) -> np.ndarray:
        """Score clips from 0 to 1 [N] by the log-probabilities of all outputs [N, outputs]."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return (rows.double().clamp(min=FLOOR) @ weights + self.bias).sigmoid().numpy()


def read_background(path: str | os.PathLike, digest: str) -> Background:
    """Read the file that `learn_background` wrote for the model with this SHA-256.

    Raises:
        EpicError: The file cannot be read, or is of another version or model.
    """
    try:
        background = conforming(Background(**read_json(path)))
        if (background.format, background.model) != (FORMAT, digest):
            raise ValueError("it is of another version or model")
    except (OSError, ValueError, TypeError) as error:
        # Unknown and missing keys raise a TypeError, whose words mean nothing to a user.
        why = "it has another form" if isinstance(error, TypeError) else error
        raise EpicError(
            f"{path}: no background of this model ({why}); expected the background.json of its "
            "run, which `epic100 run results/background.json` makes"
        ) from error
    return background


def fit_background(rows: torch.Tensor, gaps: np.ndarray) -> tuple[list[float], float]:
    """Fit a logistic regression that tells gaps from segments, both with the same total weight.

    Args:
        rows: float32 [N, outputs], log-probabilities of clips.
        gaps: Whether each clip is of a gap, bool [N].

    Returns:
        A weight for each output, and the bias.
    """
    values = rows.double().clamp(min=FLOOR)
    mean = values.mean(dim=0)
    # An output that is the same for all clips must not be divided by 0.
    deviation = values.std(dim=0) + 1e-6
    values = (values - mean) / deviation
    labels = torch.from_numpy(gaps).double()
    # All gaps together weigh as much as all segments together.
    sample_weights = torch.where(labels > 0, 0.5 / labels.mean(), 0.5 / (1 - labels).mean())

    # The last weight is the bias.
    weights = torch.zeros(values.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        """Compute the loss and its gradient, as LBFGS asks for at each of its trials."""
        optimizer.zero_grad()
        scores = values @ weights[:-1] + weights[-1]
        total = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, sample_weights)
        total = total + DECAY * weights[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    # These weights are for standardised values. For the log-probabilities themselves, each weight
    # is divided by the standard deviation, and the bias takes up the means.
    learned = weights.detach()
    scaled = learned[:-1] / deviation
    return scaled.tolist(), float(learned[-1] - scaled @ mean)


def best_threshold(scores: np.ndarray, gaps: np.ndarray) -> tuple[float, float, float]:
    """Choose the threshold that finds the most gaps and keeps the most segments.

    The sum of both shares is the largest there: of gaps with the threshold or more, and of segments
    with less.

    Args:
        scores: Score of each clip, [N], 0 to 1.
        gaps: Whether each clip is of a gap, bool [N].

    Returns:
        The threshold, in the middle of the best ones; the share of gaps; the share of segments.
    """
    # Entry i of both shares belongs to a threshold between the scores i and i + 1 in this order.
    order = np.argsort(scores)
    segments_kept = np.cumsum(~gaps[order]) / (~gaps).sum()
    gaps_found = 1 - np.cumsum(gaps[order]) / gaps.sum()
    total = segments_kept + gaps_found
    best_places = np.flatnonzero(np.isclose(total, total.max()))
    best = int(best_places[len(best_places) // 2])
    # No score follows the last one.
    following = min(best + 1, len(order) - 1)
    threshold = (scores[order[best]] + scores[order[following]]) / 2
    return float(threshold), float(gaps_found[best]), float(segments_kept[best])


class ModelInUse:
    """A model file with its class names and background, read once for all videos of a command.

    Args:
        path: The model file.
        names: Class names to use in place of the model's.
        background: A file of `learn_background`, which tells where nothing happens; or None.

    Raises:
        EpicError: It is not a model, or its config cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        names: ClassNames | None = None,
        background: str | os.PathLike | None = None,
    ):
        """Read the model file and the background, and check the class names."""
        self.path = Path(path)
        self.trained: TrainedModel = load_model(path)
        self.source = source_of_model(path, self.trained)
        # The result is not needed: the call rejects a model that cannot take a single clip.
        chosen_views(self.source.pipeline, clips=1, crops=1)
        self.background = read_background(background, self.source.digest) if background else None
        self.names = names or ClassNames(self.trained.names)
        for task, classes in (("verb", self.trained.num_verbs), ("noun", self.trained.num_nouns)):
            last_class = max(self.names.by_task.get(task, {}), default=-1)
            if last_class >= classes:
                raise EpicError(
                    f"--class-lists: the list of {task}s names class {last_class}, but {path} has "
                    f"{classes} {task}s; expected the lists of its classes, verbs first"
                )
        if not self.names.by_task:
            log.warning(
                f"{path}: has no class names; classes are shown by their ids; `epic100 predict "
                "--class-lists` names them"
            )

    @property
    def class_names(self) -> dict[str, list[str]]:
        """The name of each class, by task and by the class's id."""
        sizes = {"verb": self.trained.num_verbs, "noun": self.trained.num_nouns}
        return {task: [self.names(task, i) for i in range(size)] for task, size in sizes.items()}


def learn_background(
    model: ModelInUse,
    out: str | os.PathLike,
    *,
    segments: Mapping[str, str],
    clean: Mapping[str, str],
    root: str | os.PathLike,
    scans: Sequence[str],
    indexes: Sequence[str],
    predict: PredictSettings,
    modules: Mapping[str, Any] | None = None,
    requested_gpus: int = 0,
) -> None:
    """Learn from train in which clips nothing happens, and choose the threshold on val.

    Args:
        model: The model.
        out: The file to write, with the weights and the threshold.
        segments: All segments of the splits `train` and `val`, as the rule annotate lists them.
        clean: The clean lists of the same splits.
        root: Folder of the videos, or of their small copies.
        scans: The scan tables.
        indexes: The frame indexes of the same participants' files below `root`, in the same order.
        predict: The `predict:` section. A clip always has one view.
        modules: The config's `modules` section.
        requested_gpus: Number of GPUs that the rule requests.

    Raises:
        EpicError: A split has no gaps or no segments that can be read.
    """
    # For each clip of a split, `rows` has the model's outputs, and `is_gap` whether it is of a gap.
    rows, is_gap = {}, {}
    files_of_participant = {
        Path(scan).stem: (scan, index) for scan, index in zip(scans, indexes, strict=True)
    }
    for split in ("train", "val"):
        clips, is_gap[split] = _examples(
            model, segments[split], clean[split], root, files_of_participant
        )
        rows_of_videos = rows_of_clips(
            clips,
            model.source,
            Path(out).with_suffix(f".{split}.pt"),
            predict=predict,
            requested_gpus=requested_gpus,
            label=f"gaps of {split}",
            modules=modules,
        )
        rows[split] = torch.cat(rows_of_videos)

    weights, bias = fit_background(rows["train"], is_gap["train"])
    regression = Background(FORMAT, model.source.digest, weights, bias)
    scores = regression.scores(rows["val"])
    threshold, gaps_found, segments_kept = best_threshold(scores, is_gap["val"])
    background = replace(
        regression, threshold=threshold, gaps_found=gaps_found, segments_kept=segments_kept
    )
    write_text(out, json.dumps(vars(background), indent=1) + "\n")
    # The rows of both splits are needed until the file is there, so their shards go only now.
    for split in rows:
        remove_shards(Path(out).with_suffix(f".{split}.pt"))
    log.info(
        f"{out}: of {is_gap['train'].sum()} gaps; on val it finds {100 * gaps_found:.0f} % of "
        f"{is_gap['val'].sum()} gaps and leaves {100 * segments_kept:.0f} % of the segments"
    )


def _examples(
    model: ModelInUse,
    segments: str,
    clean: str,
    root: str | os.PathLike,
    files_of_participant: Mapping[str, tuple[str, str]],
) -> tuple[list[VideoClips], np.ndarray]:
    """Choose clips of segments and of gaps in each video of a split.

    Args:
        model: The model.
        segments: All segments of the split.
        clean: The clean list of the split. Only its segments become clips.
        root: Folder of the videos.
        files_of_participant: The scan table and the frame indexes of each participant.

    Returns:
        The clips of each video that is not excluded and can be read; and whether each clip of all
        videos is of a gap, bool [N].

    Raises:
        EpicError: All clips are of gaps, or none is.
    """
    examples: list[VideoClips] = []
    labels: list[bool] = []
    clean_segments = read_segments(clean)
    for path, segments_of_video in read_segments(segments).groupby("path"):
        # e.g. "P01/P01_01.MP4" -> "P01", "P01_01"
        participant, video = Path(str(path)).parent.name, Path(str(path)).stem
        if participant not in files_of_participant:
            # The config excludes the participant.
            continue
        try:
            scanned = scanned_video(video, participant, root, *files_of_participant[participant])
        except EpicError:
            # The video cannot be read.
            continue

        # The clips of segments, and those of gaps.
        is_of_video = clean_segments["path"] == path
        clean_spans = clean_segments.loc[is_of_video, ["start", "stop"]]
        action_clips = _thinned(clean_spans.to_numpy().tolist())
        length = clip_frames(model.source.pipeline, scanned.index.fps, window=None)
        gap_clips = _thinned(_clips_of_gaps(scanned, segments_of_video, length))
        starts, stops = np.array([*action_clips, *gap_clips], np.int64).reshape(-1, 2).T
        # These clips are no steps of a timeline, so stride and duration mean nothing here.
        plan = ClipPlan(
            stride=1.0,
            duration=np.inf,
            start=starts,
            stop=stops,
            undamaged=np.ones(len(starts), bool),
            damaged=[],
        )
        examples.append(VideoClips(scanned, plan))
        labels += [False] * len(action_clips) + [True] * len(gap_clips)

    is_gap = np.array(labels, bool)
    if is_gap.all() or not is_gap.any():
        raise EpicError(
            f"{segments}: {is_gap.sum()} gaps of {SHORTEST_GAP} frames or more and "
            f"{(~is_gap).sum()} segments in videos that can be read; expected some of both"
        )
    return examples, is_gap


def _clips_of_gaps(scanned: ScannedVideo, segments: pd.DataFrame, length: int) -> list[list[int]]:
    """Cut the undamaged gaps between the segments of a video into clips.

    Args:
        scanned: The video.
        segments: All its segments, with the columns `start` and `stop`.
        length: Frames of a clip. The last clip of a gap may be shorter, down to `SHORTEST_GAP`.

    Returns:
        [start, stop) of each clip, in frames.
    """
    frames = scanned.index.frames
    # A gap lies between two segments, so the time before the first segment and after the last one
    # is busy, as the time of a segment and damage are.
    busy = [(0, int(segments["start"].min())), (int(segments["stop"].max()), frames)]
    busy += zip(segments["start"], segments["stop"], strict=True)
    busy += scanned.row.damaged
    clips = []
    for gap_start, gap_stop in ranges_of(outside(busy, frames)):
        for start in range(gap_start, gap_stop, length):
            stop = min(start + length, gap_stop)
            if stop - start >= SHORTEST_GAP:
                clips.append([start, stop])
    return clips


def _thinned(spans: list[list[int]]) -> list[list[int]]:
    """Take every n-th of these [start, stop); the smallest n that leaves up to `MAX_CLIPS`."""
    return spans[:: max(1, math.ceil(len(spans) / MAX_CLIPS))]
