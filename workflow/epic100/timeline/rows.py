"""What a model or an encoder gives for the placed clips of whole videos, in shards."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from epic100.prediction.predict import predict_rows
from epic100.prediction.processes import Job
from epic100.prediction.shards import Shards, run_key, video_stamp
from epic100.segments.segment_list import NO_LABEL, write_segments
from epic100.settings import PredictSettings
from epic100.timeline.placing import Placed
from epic100.timeline.scanned import ScannedVideo

PART = 64  # clips of a shard: a killed run loses at most these


def rows_of_clips(
    videos: Sequence[tuple[ScannedVideo, Placed]],
    out: str | os.PathLike,
    *,
    model: str | os.PathLike,
    key: str,
    encoder: str = "",
    outputs: int = 0,
    predict: PredictSettings,
    gpus: int,
    label: str,
    modules: Mapping[str, Any] | None = None,
) -> list[torch.Tensor]:
    """Compute a row for every sound step of some videos of one folder.

    Finished clips are kept beside `out` in `.shards` until `forget_rows`, so an interrupted run
    goes on where it was and ends in the same rows.

    Args:
        videos: The videos and their clips. They share `root` and `index_dir`.
        out: A path that the names of the shards and of the list of clips are derived from.
        model: The model file; "" for an encoder of the user's.
        key: What all rows depend on, such as the model's digest.
        encoder: As in `Job`: "" for scores, else features.
        outputs: Columns; 0: as many as there are.
        predict: The `predict:` section. A clip always has one view.
        gpus: GPUs to use, 0 for the CPU.
        label: What is predicted, for the progress display.
        modules: The config's `modules` section.

    Returns:
        For each video float32 [sound steps, columns].

    Raises:
        EpicError: A frame that the scan passed does not decode.
    """
    clips = Path(out).with_suffix(".clips")
    lists = [_clip_list(video, placed) for video, placed in videos]
    write_segments(pd.concat(lists, ignore_index=True), clips)
    parts: dict[str, tuple[str, list[int]]] = {}
    first, spans = 0, []
    for (video, placed), listed in zip(videos, lists, strict=True):
        parts |= _parts(video, placed, first)
        spans.append(slice(first, first + len(listed)))
        first += len(listed)
    root, index_dir = videos[0][0].root, videos[0][0].index_dir
    job = Job(
        str(model), str(clips), str(out), run_key(key, 1, 1), str(root), str(index_dir),
        predict.model_copy(update={"clips": 1, "crops": 1}), parts, modules, encoder,
    )  # fmt: skip
    rows = predict_rows(job, gpus, outputs, label, parts="parts")
    return [rows[span] for span in spans]


def forget_rows(out: str | os.PathLike) -> None:
    """Remove what `rows_of_clips` keeps, once its rows are stored."""
    shutil.rmtree(Shards(out, "").folder, ignore_errors=True)
    Path(out).with_suffix(".clips").unlink(missing_ok=True)


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


def _parts(video: ScannedVideo, placed: Placed, begin: int) -> dict[str, tuple[str, list[int]]]:
    """The clips in parts of `PART`, each with its shard's stamp and its lines from `begin` on."""
    starts, stops = (values[placed.sound].tolist() for values in (placed.start, placed.stop))
    parts = {}
    for first in range(0, len(starts), PART):
        some = slice(first, first + PART)
        stamp = video_stamp(video.root / video.path, starts[some], stops[some])
        lines = list(range(begin + first, begin + min(first + PART, len(starts))))
        parts[f"{Path(video.path).stem}.{first:07d}"] = (stamp, lines)
    return parts
