"""Make the features of a participant's videos, write them and read them.

The features of a video are one `.npz` file; ActionFormer reads its array `feats`. The table
`features/{participant}.tsv` has a row for each video, with the size of its features or the reason
why it has none.
"""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from torch import Tensor

from epic100.base.atomic import atomic_path
from epic100.base.checked import STRICT, Amount, Array, conforming, opened_arrays
from epic100.base.errors import BrokenFile, EpicError
from epic100.base.text_table import write_table
from epic100.prediction.clip_outputs import (
    ClipPlan,
    ScannedVideo,
    VideoClips,
    clip_frames,
    place_clips,
    rows_of_clips,
    scanned_video,
)
from epic100.prediction.encoder import Source
from epic100.prediction.shards import remove_shards
from epic100.settings.prediction import FeatureSettings, PredictSettings
from epic100.video.scan_table import ScanRow, read_scan_table

FORMAT = "epic100 features 1"
# `steps` counts the rows of a video's features, `valid` the rows that touch no damage, `channels`
# the values of a row; `reason` says why a video has no features.
COLUMNS = ("video_id", "steps", "valid", "channels", "reason")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """The features of a video. Row i is a step: the time [i * stride, (i + 1) * stride).

    Attributes:
        feats: float32 [T, C]; zeros where `valid` is False.
        valid: bool [T]; False where a step touches damage.
        times: float64 [T], middle of each step in seconds from the first frame.
        middle: int64 [T], the number of the frame that is shown at this time.
        frames: int64 [T, 2], first frame of each clip and the frame after its last one.
        fps: Mean frame rate of the file.
        duration: Length of the video in seconds.
        made_from: Encoder, model (its SHA-256, or the encoder's fingerprint), the start weights
            of its training, stride, window, and size, modification time and damage of the video.
    """

    feats: Annotated[np.ndarray, Array("f", "rows channels")]
    valid: Annotated[np.ndarray, Array("b", "rows")]
    times: Annotated[np.ndarray, Array("f", "rows", minimum=0, rises=True)]
    middle: Annotated[np.ndarray, Array("i", "rows", minimum=0, rises=True)]
    frames: Annotated[np.ndarray, Array("i", "rows 2")]
    fps: Amount
    duration: Amount
    made_from: dict[str, Any]

    __pydantic_config__ = STRICT


def write_features(features: Features, path: str | os.PathLike) -> None:
    """Write the features of a video atomically. Equal features give equal files."""
    values = {**vars(features), "made_from": json.dumps(features.made_from, sort_keys=True)}
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, format=FORMAT, **values)


def read_features(path: str | os.PathLike) -> Features:
    """Read the features of a video from a file of `write_features`.

    Raises:
        BrokenFile: The file is missing or incomplete, or another program wrote it.
    """
    # A file does not say whose features it has, so the advice names a table of any participant.
    table = Path(path).with_name("PARTICIPANT.tsv")
    with opened_arrays(
        path,
        FORMAT,
        what="complete features of the rule features",
        remedy=f"make it again: remove it, then `snakemake --force {table}`",
    ) as arrays:
        values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Features)}
        # NumPy stores numbers and text as arrays without axes, so they are converted back.
        values |= {name: array.item() for name, array in values.items() if array.ndim == 0}
        values["made_from"] = json.loads(values["made_from"])
        features = conforming(Features(**values))
        if not features.valid.any():
            raise ValueError("no row that is free of damage")
        return features


def make_features(
    participant_id: str,
    table: str | os.PathLike,
    source: Source,
    *,
    root: str | os.PathLike,
    scan: str | os.PathLike,
    index: str | os.PathLike,
    settings: FeatureSettings,
    predict: PredictSettings,
    modules: Mapping[str, Any] | None = None,
    requested_gpus: int = 0,
) -> None:
    """Make `{video}.npz` in the folder of `table` for every readable video of a participant.

    Existing features stay if they were made from the same source, settings and video file. Clips
    that an interrupted run has finished are in `{participant}.shards`, and are not computed again.

    Args:
        participant_id: The participant.
        table: The table to write; the features are in its folder.
        source: The encoder that computes the features.
        root: Folder of the videos, or of their small copies.
        scan: The scan table of the participant.
        index: The file with the frame indexes of the participant's videos in `root`.
        settings: The `features:` section.
        predict: The `predict:` section. A clip always has one view.
        modules: The config's `modules` section.
        requested_gpus: Number of GPUs that the rule requests.

    Raises:
        EpicError: A frame that the scan passed does not decode; the source gives NaN or no
            features; torch cannot use a GPU that was granted or requested.
    """
    folder = Path(table).parent
    # No file of this name is written. The folder of the shards is named after it.
    shards_base = Path(table).with_suffix(".pt")

    # The videos whose features are to make. By video_id, the reason why a video has no features; ""
    # for one that has or will have some.
    reasons: dict[str, str] = {}
    videos_to_make: list[VideoClips] = []
    for row in read_scan_table(scan):
        path = folder / f"{row.video_id}.npz"
        reasons[row.video_id] = ""
        try:
            clips = _clips_of(row, participant_id, source, settings, root, scan, index)
        except EpicError as error:
            # The reason becomes one line, as the table needs it.
            reasons[row.video_id] = " ".join(str(error).split())
            # Features with this name would be of an earlier file of the video.
            path.unlink(missing_ok=True)
            continue
        # Without a file that can be read, this stays None, and the features are made.
        made_from = None
        with suppress(BrokenFile):
            made_from = read_features(path).made_from
        if made_from != _made_from(clips.video, source, settings):
            videos_to_make.append(clips)

    # The features of these videos, and the table of all.
    there = list(reasons.values()).count("") - len(videos_to_make)
    log.info(
        f"{participant_id}: features of {len(videos_to_make)} videos to make; "
        f"{there} are there already"
    )
    if videos_to_make:
        rows_of_videos = rows_of_clips(
            videos_to_make,
            source,
            shards_base,
            predict=predict,
            requested_gpus=requested_gpus,
            label=participant_id,
            modules=modules,
            gives_features=True,
        )
        for (video, plan), rows in zip(videos_to_make, rows_of_videos, strict=True):
            features = _features(video, plan, rows, _made_from(video, source, settings))
            write_features(features, folder / f"{video.name}.npz")
    # All features are stored, so the shards of the clips are no longer needed.
    remove_shards(shards_base)
    _write_table(table, reasons, settings.stride)


def _write_table(table: str | os.PathLike, reasons: Mapping[str, str], stride: float) -> None:
    """Write the table of a participant's features, and log its sums.

    The sizes are read from the files, since features of an earlier run are not in memory.

    Args:
        table: The table to write; the features are in its folder.
        reasons: For each video_id, why the video has no features; "" for one that has some.
        stride: Length of a step in seconds.
    """
    rows = []
    for video_id, reason in reasons.items():
        steps, valid, channels = 0, 0, 0
        if not reason:
            features = read_features(Path(table).with_name(f"{video_id}.npz"))
            steps, channels = features.feats.shape
            valid = int(features.valid.sum())
        rows.append((video_id, steps, valid, channels, reason))
    write_table(table, COLUMNS, rows)
    sizes = pd.DataFrame(rows, columns=list(COLUMNS))
    damaged = sizes["steps"] - sizes["valid"]
    log.info(
        f"{table}: {sizes['steps'].sum()} steps of {stride:g} s, {damaged.sum()} of them damaged; "
        f"{(sizes['reason'] != '').sum()} videos without features"
    )


def _clips_of(
    row: ScanRow,
    participant_id: str,
    source: Source,
    settings: FeatureSettings,
    root: str | os.PathLike,
    scan: str | os.PathLike,
    index: str | os.PathLike,
) -> VideoClips:
    """Place the clips of a scanned video; raise EpicError, with the reason, if it has none."""
    if not row.readable:
        raise EpicError(f"{row.status}: {row.reason or 'no reason'}")
    video = scanned_video(row.video_id, participant_id, root, scan, index)
    frames = clip_frames(source.pipeline, video.index.fps, settings.window)
    plan = place_clips(video.index, row.damaged, settings.stride, frames)
    if not plan.undamaged.any():
        raise EpicError("every step touches damage; expected an undamaged one")
    return VideoClips(video, plan)


def _made_from(video: ScannedVideo, source: Source, settings: FeatureSettings) -> dict[str, Any]:
    """Return all that the features of a video depend on, for `Features.made_from`."""
    state = video.file.stat()
    return {
        "encoder": source.encoder,
        "model": source.digest,
        "load_from": source.load_from,
        "stride": settings.stride,
        "window": settings.window,
        "bytes": state.st_size,
        "modified_ns": state.st_mtime_ns,
        "damaged": [list(stretch) for stretch in video.row.damaged],
    }


def _features(
    video: ScannedVideo, plan: ClipPlan, valid_rows: Tensor, made_from: dict[str, Any]
) -> Features:
    """Make the features of a video from the rows of its undamaged steps; others get zeros."""
    feats = np.zeros((len(plan.undamaged), valid_rows.shape[1]), np.float32)
    feats[plan.undamaged] = valid_rows.numpy()
    times = (np.arange(len(feats)) + 0.5) * plan.stride
    middle, _ = video.index.frames_between(times, times)
    return Features(
        feats=feats,
        valid=plan.undamaged,
        times=times,
        middle=np.minimum(middle, video.index.frames - 1),
        frames=np.stack([plan.start, plan.stop], axis=1),
        fps=video.index.fps,
        duration=plan.duration,
        made_from=made_from,
    )
