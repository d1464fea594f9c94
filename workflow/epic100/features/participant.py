"""The features of a participant's videos: how they are made, and their files.

Those of a video are one `.npz`, of which ActionFormer reads `feats`. The table,
`features/{participant}.tsv`, has the videos that have features, and why others have none.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from epic100.base.atomic import atomic_path
from epic100.base.checked import STRICT, Amount, Array, conforming, opened_arrays
from epic100.base.errors import BrokenFile, EpicError
from epic100.base.text_table import read_own_table, write_table
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
# Features that are used together must have the same values for these keys of `made_from`.
SOURCE = ("encoder", "model", "load_from", "stride", "window")
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

    @property
    def stride(self) -> float:
        """Seconds from row to row."""
        return float(self.made_from["stride"])

    @property
    def source(self) -> dict[str, Any]:
        """What must be the same of all features that are used together."""
        return {key: self.made_from[key] for key in SOURCE} | {"channels": self.feats.shape[1]}


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
        if not features.valid.any() or not 0 < features.stride < np.inf or not features.source:
            raise ValueError("no row that is free of damage, or no time from row to row")
        return features


def is_of(path: str | os.PathLike, made_from: Mapping[str, Any]) -> bool:
    """Whether intact features made from exactly this are there."""
    try:
        return read_features(path).made_from == made_from
    except BrokenFile:
        return False


@dataclass(frozen=True)
class FeatureRow:
    """A video of the table.

    Attributes:
        video_id: The video.
        steps: Rows of its features; 0: it has none.
        valid: Rows that touch no damage.
        channels: Values of a row.
        reason: Why it has none.
    """

    video_id: str
    steps: int = 0
    valid: int = 0
    channels: int = 0
    reason: str = ""


COLUMNS = tuple(field.name for field in fields(FeatureRow))


def write_feature_table(rows: Iterable[FeatureRow], path: str | os.PathLike) -> None:
    """Write the table atomically, tab-separated with a header."""
    cells = ([" ".join(str(value).split()) for value in astuple(row)] for row in rows)
    write_table(path, COLUMNS, cells)


def read_feature_table(path: str | os.PathLike) -> list[FeatureRow]:
    """Read a table of `write_feature_table`.

    Raises:
        EpicError: It is not such a table. The message names file and line.
    """
    about = (
        f"the table of the rule features, tab-separated {' '.join(COLUMNS)}; make it again with "
        f"`snakemake --force {path}`"
    )
    column_types = dict.fromkeys(COLUMNS, str) | dict.fromkeys(("steps", "valid", "channels"), int)
    return [FeatureRow(**row) for row in read_own_table(path, column_types, about=about)]


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
    rows: dict[str, FeatureRow] = {}
    todo: list[tuple[ScannedVideo, Placed]] = []
    for row in read_scan_table(scan):
        video_or_reason = _placed(
            row, participant_id, source, settings, root=root, scan=scan, index=index
        )
        rows[row.video_id] = FeatureRow(row.video_id)
        if isinstance(video_or_reason, str):
            # Features that are still there come from another file.
            (folder / f"{row.video_id}.npz").unlink(missing_ok=True)
            rows[row.video_id] = FeatureRow(row.video_id, reason=video_or_reason)
        elif not is_of(
            folder / f"{row.video_id}.npz", _made_from(video_or_reason[0], source, settings)
        ):
            todo.append(video_or_reason)
    kept = sum(not entry.reason for entry in rows.values()) - len(todo)
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
    for video_id in [name for name, entry in rows.items() if not entry.reason]:
        features = read_features(folder / f"{video_id}.npz")
        steps, channels = features.feats.shape
        rows[video_id] = FeatureRow(video_id, steps, int(features.valid.sum()), channels)
    write_feature_table(rows.values(), table)
    counts = [sum(getattr(entry, key) for entry in rows.values()) for key in ("steps", "valid")]
    log.info(
        f"{table}: {counts[0]} steps of {settings.stride:g} s, {counts[0] - counts[1]} of them "
        f"damaged; {sum(bool(entry.reason) for entry in rows.values())} videos without features"
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
