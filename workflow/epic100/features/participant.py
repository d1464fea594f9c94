"""The features of a participant's videos: how they are made, and their files.

Those of a video are one `.npz`, of which ActionFormer reads `feats`. The table,
`features/{participant}.tsv`, has the videos that have features, and why others have none.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from epic100.base.atomic import atomic_path
from epic100.base.checked import STRICT, Amount, Array, conforming, opened_arrays
from epic100.base.errors import BrokenFile, EpicError
from epic100.base.text_table import write_table
from epic100.prediction.encoder import Source
from epic100.settings import FeatureSettings, PredictSettings
from epic100.timeline.clips import (
    Placed,
    ScannedVideo,
    clip_frames,
    forget_rows,
    place_clips,
    rows_of_clips,
    scanned_video,
)
from epic100.video.scan_table import ScanRow, read_scan_table

FORMAT = "epic100 features 1"
# The table has these columns: rows of a video's features, those that touch no damage, the values of
# a row, and why it has none.
COLUMNS = ("video_id", "steps", "valid", "channels", "reason")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """Features of a video. Row i belongs to the time [i * stride, (i + 1) * stride).

    Attributes:
        feats: float32 [T, C]; zeros where `valid` is False.
        valid: bool [T]; False where a step touches damage.
        times: float64 [T], middle of each step in seconds from the first picture.
        middle: int64 [T], the frame that is shown then.
        frames: int64 [T, 2], first frame of each clip and the frame after its last one.
        fps: Mean rate of the file.
        duration: Seconds.
        made_from: Encoder, model (its SHA-256, or the encoder's fingerprint), the start weights
            of its training, stride, window, and size, modification time and damage of the video.
    """

    feats: Annotated[np.ndarray, Array("f", "rows channels")]
    valid: Annotated[np.ndarray, Array("b", "rows")]
    times: Annotated[np.ndarray, Array("f", "rows", least=0, rises=True)]
    middle: Annotated[np.ndarray, Array("i", "rows", least=0, rises=True)]
    frames: Annotated[np.ndarray, Array("i", "rows 2")]
    fps: Amount
    duration: Amount
    made_from: dict[str, Any]

    __pydantic_config__ = STRICT


def write_features(features: Features, path: str | os.PathLike) -> None:
    """Write features atomically. Equal features are equal files."""
    values = {**vars(features), "made_from": json.dumps(features.made_from, sort_keys=True)}
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, format=FORMAT, **values)


def read_features(path: str | os.PathLike) -> Features:
    """Read features of `write_features`.

    Raises:
        BrokenFile: There is no such file, it is not whole, or it is from elsewhere.
    """
    table = Path(path).with_name("PARTICIPANT.tsv")
    advice = f"make it again: remove it, then `snakemake --force {table}`"
    with opened_arrays(path, FORMAT, "whole features of the rule features", advice) as arrays:
        values: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Features)}
        values |= {name: array.item() for name, array in values.items() if array.ndim == 0}
        values["made_from"] = json.loads(values["made_from"])
        features = conforming(Features(**values))
        if not features.valid.any():
            raise ValueError("no row that is free of damage")
        return features


def is_of(path: str | os.PathLike, made_from: Mapping[str, Any]) -> bool:
    """Whether intact features made from exactly this are there."""
    try:
        return read_features(path).made_from == made_from
    except BrokenFile:
        return False


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
    asked: int = 0,
) -> None:
    """Make `{video}.npz` beside `table` for every readable video of a participant.

    Features that are there already, of the same source, settings and video file, are kept. Clips of
    an interrupted run are in `{participant}.shards`, and are used again.

    Args:
        participant_id: The participant.
        table: The table to write; the features are beside it.
        source: What gives the features.
        root: Folder of the videos, or of their small copies.
        scan: The scan table of the participant.
        index: The frame indexes of the participant's files below `root`.
        settings: The `features:` section.
        predict: The `predict:` section. A clip always has one view.
        modules: The config's `modules` section.
        asked: Number of GPUs that the rule requests.

    Raises:
        EpicError: A frame that the scan passed does not decode; the source gives NaN or no
            features; torch cannot use a GPU that was granted or requested.
    """
    folder, out = Path(table).parent, Path(table).with_suffix(".pt")
    reasons: dict[str, str] = {}
    todo: list[tuple[ScannedVideo, Placed]] = []
    for row in read_scan_table(scan):
        path = folder / f"{row.video_id}.npz"
        video_or_reason = _placed(
            row, participant_id, source, settings, root=root, scan=scan, index=index
        )
        reasons[row.video_id] = ""
        if isinstance(video_or_reason, str):
            # Features that are still there come from another file.
            path.unlink(missing_ok=True)
            reasons[row.video_id] = " ".join(video_or_reason.split())
        elif not is_of(path, _made_from(video_or_reason[0], source, settings)):
            todo.append(video_or_reason)
    kept = sum(not reason for reason in reasons.values()) - len(todo)
    log.info(f"{participant_id}: features of {len(todo)} videos to make; {kept} are there already")
    if todo:
        rows_of_videos = rows_of_clips(
            todo,
            out,
            model=source.path,
            key=f"{source.encoder} {source.digest}",
            encoder=source.encoder,
            predict=predict,
            asked=asked,
            label=participant_id,
            modules=modules,
        )
        for (video, placed), sound in zip(todo, rows_of_videos, strict=True):
            features = _features(video, placed, sound, _made_from(video, source, settings))
            write_features(features, folder / f"{video.name}.npz")
    forget_rows(out)
    rows = []
    for video_id, reason in reasons.items():
        sizes = (0, 0, 0)
        if not reason:
            features = read_features(folder / f"{video_id}.npz")
            steps, channels = features.feats.shape
            sizes = (steps, int(features.valid.sum()), channels)
        rows.append((video_id, *sizes, reason))
    write_table(table, COLUMNS, rows)
    steps, valid = (sum(int(row[column]) for row in rows) for column in (1, 2))
    log.info(
        f"{table}: {steps} steps of {settings.stride:g} s, {steps - valid} of them damaged; "
        f"{sum(map(bool, reasons.values()))} videos without features"
    )


def _placed(
    row: ScanRow,
    participant_id: str,
    source: Source,
    settings: FeatureSettings,
    *,
    root: str | os.PathLike,
    scan: str | os.PathLike,
    index: str | os.PathLike,
) -> tuple[ScannedVideo, Placed] | str:
    """A video and its clips, or why it has none."""
    if not row.readable:
        return f"{row.status}: {row.reason or 'no reason'}"
    video = scanned_video(row.video_id, participant_id, root, scan, index)
    frames = clip_frames(source.pipeline, video.index.fps, settings.window)
    try:
        placed = place_clips(video.index, row.damaged, settings.stride, frames)
    # A video of a single picture has no clip.
    except EpicError as error:
        return str(error)
    return (video, placed) if placed.sound.any() else "every step touches damage"


def _made_from(video: ScannedVideo, source: Source, settings: FeatureSettings) -> dict[str, Any]:
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
    video: ScannedVideo, placed: Placed, sound: Tensor, made_from: dict[str, Any]
) -> Features:
    feats = np.zeros((len(placed.sound), sound.shape[1]), np.float32)
    feats[placed.sound] = sound.numpy()
    times = (np.arange(len(feats)) + 0.5) * placed.stride
    middle, _ = video.index.frames_between(times, times)
    return Features(
        feats=feats,
        valid=placed.sound,
        times=times,
        middle=np.minimum(middle, video.index.frames - 1),
        frames=np.stack([placed.start, placed.stop], axis=1),
        fps=video.index.fps,
        duration=placed.duration,
        made_from=made_from,
    )
