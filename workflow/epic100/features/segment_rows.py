"""The features of each segment of a list."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from epic100.base.errors import EpicError
from epic100.features.file import Features, read_feature_table, read_features
from epic100.segments.segment_list import lines_by

log = logging.getLogger(__name__)

MOST_ROWS = 32  # of a segment; more are thinned out evenly


@dataclass(frozen=True)
class SegmentRows:
    """Features of N segments.

    Attributes:
        feats: float32 [R, C], the rows of all segments.
        spans: (first, after last) row of each segment.
        source: `Features.source` of all of them.
    """

    feats: Tensor
    spans: list[tuple[int, int]]
    source: dict[str, Any]

    def batches(self, order: Sequence[int], size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield segments in this order, `size` at a time.

        Yields:
            Numbers of the segments int64 [B], features [B, T, C] and bool [B, T], True where a
            row only fills the batch.
        """
        for first in range(0, len(order), size):
            some = list(order[first : first + size])
            longest = max(stop - start for start, stop in (self.spans[i] for i in some))
            feats = self.feats.new_zeros(len(some), longest, self.feats.shape[1])
            padded = torch.ones(len(some), longest, dtype=torch.bool)
            for place, (start, stop) in enumerate(self.spans[i] for i in some):
                feats[place, : stop - start] = self.feats[start:stop]
                padded[place, : stop - start] = False
            yield torch.tensor(some), feats, padded


def rows_of_segments(
    segments: pd.DataFrame, tables: Sequence[str | os.PathLike], source: dict[str, Any] | None
) -> SegmentRows:
    """Collect the features of the segments of a clean list.

    A segment has the features of the steps whose middle lies in it, without damaged ones; if there
    is none, it has that of the nearest step. A segment of a video of which every step touches
    damage has a row of zeros.

    Args:
        segments: The list.
        tables: The tables of the rule features; the features are beside them.
        source: The source that the features must have; None: any, the same for all.

    Raises:
        EpicError: A video has no features, or features of several sources are mixed.
    """
    folders = {row.video_id: (Path(table).parent, row)
               for table in tables for row in read_feature_table(table)}  # fmt: skip
    wanted = (source, "the probe was trained on") if source else None
    spans: list[tuple[int, int]] = [(0, 0)] * len(segments)
    rows: list[np.ndarray] = []
    count, without = 0, []
    for name, lines in lines_by(segments, "path").items():
        video_id = Path(name).stem
        if video_id not in folders:
            raise EpicError(
                f"{video_id}: no table of the rule features has this video; make them again: "
                "`snakemake --force all_features`"
            )
        folder, row = folders[video_id]
        if not row.steps:
            without += [(line, video_id) for line in lines]
            continue
        path = folder / f"{video_id}.npz"
        features = read_features(path)
        if wanted is None:
            wanted = (features.source, f"{path} has")
        elif features.source != wanted[0]:
            raise EpicError(
                f"{path}: features of {_words(features.source)}, but {wanted[1]} features of "
                f"{_words(wanted[0])}; make them again with one config: `snakemake --force "
                f"{folder}/PARTICIPANT.tsv`, or train the probe again"
            )
        for line in lines:
            start, stop = (int(segments[key].iloc[line]) for key in ("start", "stop"))
            found = features.feats[chosen_rows(features, start, stop)]
            rows.append(found)
            spans[line] = (count, count + len(found))
            count += len(found)
    if wanted is None:
        raise EpicError("no segment of the list is of a video with features; see the list")
    if without:
        log.warning(
            f"{len(without)} segments are of videos without features ({without[0][1]}, ...): they "
            "have zeros"
        )
        rows.append(np.zeros((1, wanted[0]["channels"]), np.float32))
        for line, _ in without:
            spans[line] = (count, count + 1)
    return SegmentRows(torch.from_numpy(np.concatenate(rows)), spans, wanted[0])


def chosen_rows(features: Features, start: int, stop: int) -> np.ndarray:
    """Choose the rows of a segment.

    Args:
        features: The features of its video.
        start: Its first frame.
        stop: The frame after its last one.

    Returns:
        int64, at least one row and at most `MOST_ROWS`.
    """
    inside = (features.middle >= start) & (features.middle < stop) & features.valid
    rows = inside.nonzero()[0]
    if not len(rows):
        valid = features.valid.nonzero()[0]
        return valid[[np.abs(features.middle[valid] - (start + stop) / 2).argmin()]]
    if len(rows) > MOST_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_ROWS).round().astype(int)]
    return rows


def _words(source: dict[str, Any]) -> str:
    """A source as text for errors, with a short digest."""
    short = {key: str(value)[:12] for key, value in source.items()}
    return ", ".join(f"{key} {value or '-'}" for key, value in short.items())
