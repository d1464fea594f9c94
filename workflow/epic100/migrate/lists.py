"""Convert a lab's five-field list to rows of the official CSV, or to a segment list in frames."""

import csv
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.segments.annotations import (
    annotation_rate,
    index_segments,
    read_annotations,
    read_lab_list,
)
from epic100.segments.segment_list import write_segments
from epic100.video.sheet import Video

# A list has `start_frame` as published (off by one in some rows) or counted from 0.
TOLERANCE = 2.0
LEAST_SHARE = 0.5  # if fewer lines match, the list has another split or another clock


@dataclass(frozen=True)
class LabList:
    """A lab's list and the official rows that match its lines.

    Attributes:
        rows: One row per line, in order, columns as in `read_annotations`. A line that matches has
            id and times of its official row. Any other has an id made from the line, and times in
            seconds from the annotation clock.
        official: All official rows.
        place: Int [lines], the matching row in `official`, or -1.
        relabelled: Bool [lines], lines without a match that have the times of an official row but
            another verb or noun.
    """

    rows: pd.DataFrame
    official: pd.DataFrame
    place: np.ndarray
    relabelled: np.ndarray

    @property
    def matched(self) -> np.ndarray:
        """Bool [lines]: which lines are official rows."""
        return self.place >= 0


def match_list(
    path: str | os.PathLike,
    annotations: str | os.PathLike,
    videos: Mapping[str, Video],
    *,
    num_verbs: int,
    num_nouns: int,
) -> LabList:
    """Find the official row of each line; each row is used once.

    A line matches a row if video, verb and noun are equal, and both ends differ by at most
    `TOLERANCE` frames of the annotation clock.

    Args:
        path: The lab's list, in frames of the annotation clock.
        annotations: The labelled CSV that the list was made from.
        videos: All videos of the sheet by id.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.

    Raises:
        EpicError: A file cannot be read, or fewer than half of the lines match.
    """
    rows = read_lab_list(path, videos, num_verbs=num_verbs, num_nouns=num_nouns)
    official = read_annotations(
        annotations, videos, labelled=True, num_verbs=num_verbs, num_nouns=num_nouns
    )
    by_label, by_video = _Rows(official, labels=True), _Rows(official, labels=False)
    place = np.array([by_label.take(row) for row in rows.itertuples()], dtype=np.int64)
    if not len(rows) or (place >= 0).mean() < LEAST_SHARE:
        raise EpicError(
            f"{path}: {(place >= 0).sum()} of {len(rows)} lines are rows of {annotations}; "
            "expected a list made from it, frames on the annotation clock (60 a second for "
            "P01_01, 50 for P01_101)"
        )
    lines = zip(place, rows.itertuples(), strict=True)
    relabelled = np.array([at < 0 and by_video.take(row) >= 0 for at, row in lines], dtype=bool)
    known = place >= 0
    for name in ("narration_id", "start_seconds", "stop_seconds"):
        rows.loc[known, name] = official[name].to_numpy()[place[known]]
    return LabList(rows, official, place, relabelled)


def convert_list(
    found: LabList,
    annotations: str | os.PathLike,
    videos: Mapping[str, Video],
    out: str | os.PathLike,
) -> None:
    """Write the list in a form that the workflow reads.

    Args:
        found: The list, from `match_list`.
        annotations: The CSV that the list was made from.
        videos: All videos of the sheet by id.
        out: A `.csv` gets the official rows that match, for the config's `annotations:`. Any other
            suffix gets a segment list with all lines, in frames of the file by the sheet's rate.
    """
    if Path(out).suffix.lower() != ".csv":
        write_segments(index_segments(found.rows, videos), out)
        return
    wanted = set(found.rows["narration_id"][found.matched])
    with (
        open(annotations, encoding="utf-8-sig", newline="") as source,
        atomic_path(out) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as target,
    ):
        reader = csv.DictReader(source)
        writer = csv.DictWriter(target, reader.fieldnames or (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in reader if row["narration_id"] in wanted)


class _Rows:
    """Official rows by video (and labels); each can be taken once."""

    def __init__(self, official: pd.DataFrame, labels: bool):
        self._labels = labels
        self._rows: dict[tuple, dict[int, tuple[float, float]]] = defaultdict(dict)
        for place, row in enumerate(official.itertuples()):
            self._rows[self._key(row)][place] = self._frames(row)

    def take(self, wanted: Any) -> int:
        """Remove the nearest row within the tolerance and return its place, or -1."""
        rows, (start, stop) = self._rows[self._key(wanted)], self._frames(wanted)
        best, place = TOLERANCE, -1
        for candidate, (first, last) in rows.items():
            distance = max(abs(first - start), abs(last - stop))
            if distance <= best:
                best, place = distance, candidate
        rows.pop(place, None)
        return place

    def _key(self, row: Any) -> tuple:
        return (row.video_id, row.verb, row.noun) if self._labels else (row.video_id,)

    @staticmethod
    def _frames(row: Any) -> tuple[float, float]:
        rate = annotation_rate(row.video_id)
        return row.start_seconds * rate, row.stop_seconds * rate
