"""Learn from the gaps between segments how a model's scores look where nothing happens."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epic100.base.atomic import write_text
from epic100.base.errors import EpicError
from epic100.segments.segment_list import read_segments
from epic100.settings import PredictSettings
from epic100.timeline.background import FORMAT, Background, best_threshold, fit
from epic100.timeline.clips import (
    Placed,
    ScannedVideo,
    clip_frames,
    forget_rows,
    rows_of_clips,
    scanned_video,
)
from epic100.timeline.run import ModelInUse
from epic100.video.scan_table import outside, ranges_of

log = logging.getLogger(__name__)

EACH = 20  # segments, and pieces of gaps, that are looked at in a video, at most
LEAST = 13  # frames of a gap


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
        asked: Number of GPUs that the rule requests from Slurm.

    Raises:
        EpicError: A split has no gaps or no segments that can be read.
    """
    places = {Path(scan).stem: files for scan, *files in zip(scans, scans, indexes, strict=True)}
    rows, gaps = {}, {}
    for split in ("train", "val"):
        found = list(_examples(model, segments[split], clean[split], root, places))
        gaps[split] = np.array([gap for *_, labels in found for gap in labels], bool)
        if gaps[split].all() or not gaps[split].any():
            raise EpicError(
                f"{segments[split]}: {gaps[split].sum()} gaps of {LEAST} frames or more and "
                f"{(~gaps[split]).sum()} segments in videos that can be read; expected some of both"
            )
        shards = Path(out).with_suffix(f".{split}.pt")
        rows[split] = torch.cat(rows_of_clips(
            [(video, placed) for video, placed, _ in found], shards, model=model.path,
            key=model.digest, outputs=sum(model.trained.outputs.values()), predict=predict,
            asked=asked, label=f"gaps of {split}", modules=modules,
        ))  # fmt: skip
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
    kept = read_segments(clean)
    for path, own in read_segments(segments).groupby("path"):
        participant, video = Path(str(path)).parent.name, Path(str(path)).stem
        try:
            found = scanned_video(video, participant, root, *places[participant])
        except (KeyError, EpicError):  # it is excluded, or cannot be read
            continue
        frames, most = found.index.frames, clip_frames(model.pipeline, found.index.fps, None)
        busy = [(0, int(own["start"].min())), (int(own["stop"].max()), frames)]
        busy += [*zip(own["start"], own["stop"], strict=True), *found.row.damaged]
        gaps = [
            (at, min(at + most, stop))
            for start, stop in ranges_of(outside(busy, frames))
            for at in range(start, stop - LEAST + 1, most)
            if min(at + most, stop) - at >= LEAST
        ]
        actions = kept.loc[kept["path"] == path, ["start", "stop"]].to_numpy().tolist()
        some = [each[:: -(-len(each) // EACH) or 1] for each in (actions, gaps)]
        clips = np.array([*some[0], *some[1]], np.int64).reshape(-1, 2)
        sound = np.ones(len(clips), bool)
        placed = Placed(1.0, np.inf, clips[:, 0], clips[:, 1], sound, [])
        yield found, placed, [False] * len(some[0]) + [True] * len(some[1])
