"""A map of segments by their features: two principal components, and who is near to whom."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epic100.base.errors import EpicError
from epic100.features.participant import Features, read_feature_table, read_features

NEAREST = 8
_CHUNK = 1024  # segments that are compared with all others at a time


def segment_map(
    tables: Sequence[str | os.PathLike],
    videos: Sequence[str],
    starts: Sequence[float],
    stops: Sequence[float],
) -> dict[str, Any] | None:
    """Lay out the segments whose videos have features.

    A segment has the mean of the rows in it that touch no damage, or the nearest such row, with
    length 1.

    Args:
        tables: The tables of the rule features; the features are beside them.
        videos: The video of each of N segments.
        starts: Their first seconds.
        stops: Their last seconds.

    Returns:
        Columns over the segments of its column `segment`: `x` and `y`, the first two principal
        components in whole thousandths of the widest one; `near`, the places of the `nearest`
        segments with the smallest angle, closest first. And `share`, the share of the variance that
        both components have. None if fewer than three segments have features.

    Raises:
        EpicError: A file is not whole, or features of several sources are mixed.
    """
    paths = {row.video_id: Path(table).parent / f"{row.video_id}.npz"
             for table in tables for row in read_feature_table(table) if row.steps}  # fmt: skip
    places = {name: np.flatnonzero(np.array(videos) == name) for name in dict.fromkeys(videos)}
    owners, rows, source = list[int](), list[np.ndarray](), None
    for name, own in places.items():
        if name not in paths:
            continue
        features = read_features(paths[name])
        source = source or features.source
        if features.source != source:
            raise EpicError(
                f"{paths[name]}: features of another encoder or model than the others beside it; "
                f"make them again: `snakemake --force {paths[name].parent}/PARTICIPANT.tsv`"
            )
        owners += own.tolist()
        rows += [_mean(features, starts[place], stops[place]) for place in own.tolist()]
    if len(rows) < 3:
        return None
    points = np.stack(rows).astype(np.float32)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    flat, share = _flattened(points)
    near = _nearest(points)
    return {
        "segment": owners,
        "x": flat[:, 0].tolist(),
        "y": flat[:, 1].tolist(),
        "nearest": near.shape[1],
        "near": np.array(owners)[near].ravel().tolist(),
        "share": share,
    }


def _mean(features: Features, start: float, stop: float) -> npt.NDArray[np.floating]:
    inside = (features.times >= start) & (features.times < stop) & features.valid
    if not inside.any():
        away = np.abs(features.times - (start + stop) / 2)
        inside[np.where(features.valid, away, np.inf).argmin()] = True
    return features.feats[inside].mean(axis=0)


def _flattened(points: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], float]:
    """The first two principal components, in thousandths, and their share of the variance."""
    centred = (points - points.mean(axis=0)).astype(np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred)  # rising
    flat = np.pad(centred @ axes[:, ::-1][:, :2], ((0, 0), (0, max(0, 2 - points.shape[1]))))
    scale = np.abs(flat).max() or 1
    whole = (1000 * flat / scale).round().astype(np.int64)
    return whole, float(variances[-2:].sum() / max(variances.sum(), 1e-12))


def _nearest(points: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The places of each point's nearest others, closest first."""
    count, found = min(NEAREST, len(points) - 1), []
    for first in range(0, len(points), _CHUNK):
        likeness = points[first : first + _CHUNK] @ points.T
        lines = np.arange(len(likeness))
        likeness[lines, first + lines] = -np.inf  # not itself
        best = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(likeness, best, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)
