"""The features of a video as one `.npz`, and the table of a participant's videos.

ActionFormer reads `feats` of the `.npz`. The table, `features/{participant}.tsv`, has the videos
that have features, and why others have none.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from epic100.base.array_file import opened_arrays
from epic100.base.atomic import atomic_path
from epic100.base.checked import STRICT, Amount, Array, conforming
from epic100.base.errors import BrokenFile
from epic100.base.text_table import read_own_table, write_table

FORMAT = "epic100 features 1"
# Of `made_from`: what features share.
SOURCE = ("encoder", "model", "load_from", "stride", "window")


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
    again = f"make it again: remove it, then `snakemake --force {table}`"
    with opened_arrays(path, FORMAT, "whole features of the rule features", again) as arrays:
        found: dict[str, Any] = {field.name: arrays[field.name] for field in fields(Features)}
        found |= {name: array.item() for name, array in found.items() if array.ndim == 0}
        found["made_from"] = json.loads(found["made_from"])
        features = conforming(Features(**found))
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
    kinds = dict.fromkeys(COLUMNS, str) | dict.fromkeys(("steps", "valid", "channels"), int)
    return [FeatureRow(**row) for row in read_own_table(path, kinds, about=about)]
