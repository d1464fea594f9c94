"""The model that looks at whole videos, and a score of "nothing happens here" for its clips.

The score is learned from the gaps between the segments of train. It needs no labels beside the
segments, and no pass of its own over a video: it is a logistic regression on the scores that the
model gives for a clip anyway. Its threshold is chosen on val, so it is a file of its own: the model
must not depend on val.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epic100.base.atomic import write_text
from epic100.base.checked import STRICT, conforming
from epic100.base.disk import read_json
from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel, digest, load_model
from epic100.model.views import one_view_pipeline
from epic100.segments.official_lists import ClassNames
from epic100.segments.segment_list import read_segments
from epic100.settings import PredictSettings
from epic100.timeline.clips import (
    Placed,
    ScannedVideo,
    clip_frames,
    forget_rows,
    rows_of_clips,
    scanned_video,
)
from epic100.video.scan_table import outside, ranges_of

FORMAT = "epic100 background 1"
# It is the factor of the squared weights in the loss.
DECAY = 0.01
# Log-probabilities below it tell nothing more.
FLOOR = -30.0


log = logging.getLogger(__name__)
# At most this many segments, and this many pieces of gaps, are looked at in a video.
EACH = 20
# A piece of a gap has at least this many frames.
LEAST = 13


@dataclass(frozen=True)
class Background:
    """How sure it is that nothing happens in a clip.

    Attributes:
        format: `FORMAT`.
        model: SHA-256 of the model file whose scores it takes.
        weights: One for each of the model's outputs.
        bias: What is added to their sum.
        threshold: With this score or more, nothing happens.
        gaps_found: The share of val's gaps that the threshold finds.
        segments_kept: The share of val's segments that it leaves.
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
        """Scores from 0 to 1 [N] of clips, from all their log-probabilities [N, outputs]."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return (rows.double().clamp(min=FLOOR) @ weights + self.bias).sigmoid().numpy()


def read_background(path: str | os.PathLike, digest: str) -> Background:
    """Read what `learn_background` wrote for a model of this SHA-256. Raises EpicError."""
    try:
        background = conforming(Background(**read_json(path)))
        if (background.format, background.model) != (FORMAT, digest):
            raise ValueError("it is of another version or model")
    except (OSError, ValueError, TypeError) as error:
        why = "it has another form" if isinstance(error, TypeError) else error
        raise EpicError(
            f"{path}: no background of this model ({why}); expected the background.json of its "
            "run, which `epic100 run results/background.json` makes"
        ) from error
    return background


def fit(rows: torch.Tensor, gaps: np.ndarray) -> tuple[list[float], float]:
    """Logistic regression, with both kinds of the same weight.

    Args:
        rows: float32 [N, outputs], log-probabilities.
        gaps: bool [N].

    Returns:
        A weight for each output, and the bias.
    """
    values = rows.double().clamp(min=FLOOR)
    mean, spread = values.mean(dim=0), values.std(dim=0) + 1e-6
    values, truth = (values - mean) / spread, torch.from_numpy(gaps).double()
    sample_weights = torch.where(truth > 0, 0.5 / truth.mean(), 0.5 / (1 - truth).mean())
    weights = torch.zeros(values.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = values @ weights[:-1] + weights[-1]
        lost = torch.nn.functional.binary_cross_entropy_with_logits(scores, truth, sample_weights)
        lost = lost + DECAY * weights[:-1].square().sum()
        lost.backward()
        return lost

    optimizer.step(loss)
    learned = weights.detach()
    scaled = learned[:-1] / spread
    return scaled.tolist(), float(learned[-1] - scaled @ mean)


def best_threshold(scores: np.ndarray, gaps: np.ndarray) -> tuple[float, float, float]:
    """Choose where the shares of gaps found and of segments left have the largest sum.

    Args:
        scores: [N], 0 to 1.
        gaps: bool [N].

    Returns:
        The threshold, in the middle of the best places, and the two shares.
    """
    order = np.argsort(scores)
    segments_kept = np.cumsum(~gaps[order]) / (~gaps).sum()
    gaps_found = 1 - np.cumsum(gaps[order]) / gaps.sum()
    best = np.flatnonzero(
        np.isclose(segments_kept + gaps_found, (segments_kept + gaps_found).max())
    )
    best_index = int(best[len(best) // 2])
    ends = scores[order][[best_index, min(best_index + 1, len(order) - 1)]]
    return float(ends.mean()), float(gaps_found[best_index]), float(segments_kept[best_index])


class ModelInUse:
    """A model file, read once for all videos of a call.

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
        self.path = Path(path)
        self.trained: TrainedModel = load_model(path)
        self.digest = digest(path)
        self.pipeline = one_view_pipeline(self.trained.config, path)
        self.background = read_background(background, self.digest) if background else None
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
    asked: int = 0,
) -> None:
    """Learn from train where nothing happens, choose the threshold on val, and write both.

    Args:
        model: The model.
        out: The file to write.
        segments: All segments of the splits `train` and `val`, as the rule annotate lists them.
        clean: The clean lists of the same splits.
        root: Folder of the videos, or of their small copies.
        scans: The scan tables.
        indexes: The frame indexes of the same participants' files below `root`, in the same order.
        predict: The `predict:` section. A clip always has one view.
        modules: The config's `modules` section.
        asked: Number of GPUs that the rule requests.

    Raises:
        EpicError: A split has no gaps or no segments that can be read.
    """
    files_of_participant = {
        Path(scan).stem: files for scan, *files in zip(scans, scans, indexes, strict=True)
    }
    rows, gaps = {}, {}
    for split in ("train", "val"):
        examples = list(_examples(model, segments[split], clean[split], root, files_of_participant))
        gaps[split] = np.array([gap for *_, labels in examples for gap in labels], bool)
        if gaps[split].all() or not gaps[split].any():
            raise EpicError(
                f"{segments[split]}: {gaps[split].sum()} gaps of {LEAST} frames or more and "
                f"{(~gaps[split]).sum()} segments in videos that can be read; expected some of both"
            )
        shards = Path(out).with_suffix(f".{split}.pt")
        rows[split] = torch.cat(
            rows_of_clips(
                [(video, placed) for video, placed, _ in examples],
                shards,
                model=model.path,
                key=model.digest,
                outputs=sum(model.trained.outputs.values()),
                predict=predict,
                asked=asked,
                label=f"gaps of {split}",
                modules=modules,
            )
        )
    weights, bias = fit(rows["train"], gaps["train"])
    learned = Background(FORMAT, model.digest, weights, bias)
    threshold, *shares = best_threshold(learned.scores(rows["val"]), gaps["val"])
    learned = Background(FORMAT, model.digest, weights, bias, threshold, *shares)
    write_text(out, json.dumps(vars(learned), indent=1) + "\n")
    for split in rows:
        forget_rows(Path(out).with_suffix(f".{split}.pt"))
    log.info(
        f"{out}: of {gaps['train'].sum()} gaps; on val it finds {100 * shares[0]:.0f} % of "
        f"{gaps['val'].sum()} gaps and leaves {100 * shares[1]:.0f} % of the segments"
    )


def _examples(
    model: ModelInUse,
    segments: str,
    clean: str,
    root: str | os.PathLike,
    places: Mapping[str, Sequence[str]],
) -> Iterator[tuple[ScannedVideo, Placed, list[bool]]]:
    """The videos of a split, their clips of segments and of gaps, and which are gaps."""
    clean_rows = read_segments(clean)
    for path, rows in read_segments(segments).groupby("path"):
        participant, video = Path(str(path)).parent.name, Path(str(path)).stem
        try:
            scanned = scanned_video(video, participant, root, *places[participant])
        except (KeyError, EpicError):  # It is excluded, or cannot be read.
            continue
        frames, length = scanned.index.frames, clip_frames(model.pipeline, scanned.index.fps, None)
        busy = [(0, int(rows["start"].min())), (int(rows["stop"].max()), frames)]
        busy += [*zip(rows["start"], rows["stop"], strict=True), *scanned.row.damaged]
        gaps = [
            (at, min(at + length, stop))
            for start, stop in ranges_of(outside(busy, frames))
            for at in range(start, stop - LEAST + 1, length)
            if min(at + length, stop) - at >= LEAST
        ]
        actions = clean_rows.loc[clean_rows["path"] == path, ["start", "stop"]].to_numpy().tolist()
        chosen = [spans[:: -(-len(spans) // EACH) or 1] for spans in (actions, gaps)]
        clips = np.array([*chosen[0], *chosen[1]], np.int64).reshape(-1, 2)
        sound = np.ones(len(clips), bool)
        placed = Placed(1.0, np.inf, clips[:, 0], clips[:, 1], sound, [])
        yield scanned, placed, [False] * len(chosen[0]) + [True] * len(chosen[1])
