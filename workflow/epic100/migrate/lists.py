"""Match, convert and check a lab's list of segments, with five fields per line.

Each line is matched with a row of the official CSV. The list is converted to such rows or to a
segment list in frames. The check compares it with the scans: it names lines on damaged video, and
undamaged segments that are missing from the list.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.atomic import atomic_path
from epic100.base.disk import reading
from epic100.base.errors import EpicError
from epic100.segments.annotations import (
    index_segments,
    read_annotations,
    read_lab_list,
)
from epic100.segments.cleaning import clean_split
from epic100.segments.drop_reasons import kind_of
from epic100.segments.segment_list import write_segments
from epic100.video.index import VideoIndex
from epic100.video.index_file import index_path, load_index
from epic100.video.scan_table import ScanRow, read_scan_table
from epic100.video.sheet import Video, annotation_rate

# A list has `start_frame` as published, which is off by one in some rows, or counted from 0. So the
# start and the end of a segment may each differ by this number of frames.
TOLERANCE = 2.0
LEAST_SHARE = 0.5  # If fewer lines match, the list is of another split or has another clock.
WHOLE_VIDEO = "the list has no segment of its video"
DAMAGED, NOT_SCANNED, LACKING = "damaged", "not scanned", "lacking"
COLUMNS = ("verdict", "line", "narration_id", "video_id", "reason")


@dataclass(frozen=True)
class LabList:
    """A lab's list and the official rows that match its lines.

    Attributes:
        rows: One row per line, in order, columns as in `read_annotations`. A line that matches has
            id and times of its official row. Any other has an id made from the line, and times in
            seconds from the annotation clock.
        official: All official rows.
        matching_row: int [lines], the number of the matching row in `official`, or -1.
        relabelled: bool [lines], True for a line that has the times of an official row but another
            verb or noun.
    """

    rows: pd.DataFrame
    official: pd.DataFrame
    matching_row: np.ndarray
    relabelled: np.ndarray

    @property
    def matched(self) -> np.ndarray:
        """Whether each line has a matching official row, bool [lines]."""
        return self.matching_row >= 0


def match_list(
    path: str | os.PathLike,
    annotations: str | os.PathLike,
    videos: Mapping[str, Video],
    *,
    num_verbs: int,
    num_nouns: int,
) -> LabList:
    """Match each line of a lab's list with an official row; no row matches two lines.

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
    rows = read_lab_list(path, videos, split=None, num_verbs=num_verbs, num_nouns=num_nouns)
    official = read_annotations(
        annotations, videos, split=None, num_verbs=num_verbs, num_nouns=num_nouns
    )
    matching_rows = _nearest_rows(rows, official, ["video_id", "verb", "noun"])
    is_matched = matching_rows >= 0
    if not len(rows) or is_matched.mean() < LEAST_SHARE:
        raise EpicError(
            f"{path}: {is_matched.sum()} of {len(rows)} lines are rows of {annotations}; "
            "expected a list made from it, frames on the annotation clock (60 a second for "
            "P01_01, 50 for P01_101)"
        )
    unmatched = rows[~is_matched]
    has_times = _nearest_rows(unmatched, official, ["video_id"]) >= 0
    # A line that is in the list twice has no row left the second time, but it is not relabelled.
    has_labels_too = _nearest_rows(unmatched, official, ["video_id", "verb", "noun"]) >= 0
    relabelled = ~is_matched
    relabelled[~is_matched] = has_times & ~has_labels_too
    for name in ("narration_id", "start_seconds", "stop_seconds"):
        rows.loc[is_matched, name] = official[name].to_numpy()[matching_rows[is_matched]]
    return LabList(rows, official, matching_rows, relabelled)


def convert_list(
    lab_list: LabList,
    annotations: str | os.PathLike,
    videos: Mapping[str, Video],
    out: str | os.PathLike,
) -> None:
    """Write a lab's list in a form that the workflow reads.

    Args:
        lab_list: The list, from `match_list`.
        annotations: The CSV that the list was made from.
        videos: All videos of the sheet by id.
        out: A `.csv` gets the official rows that match, for the config's `annotations:`. Any other
            suffix gets a segment list with all lines. Its starts and stops are frame numbers of
            the video file, from seconds and the frame rate in the sheet.
    """
    if Path(out).suffix.lower() != ".csv":
        write_segments(index_segments(lab_list.rows, videos), out)
        return
    with reading(annotations) as file:
        rows = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    is_matched = rows["narration_id"].isin(lab_list.rows["narration_id"][lab_list.matched])
    with atomic_path(out) as temporary:
        rows[is_matched].to_csv(temporary, index=False)


def _nearest_rows(rows: pd.DataFrame, official: pd.DataFrame, same: list[str]) -> np.ndarray:
    """Find the official row nearest in time to each line, among those equal in the columns `same`.

    Returns:
        int [lines], the row's number in `official`, or -1 if none is within the tolerance. Each
        row is taken once, by the first line that it is nearest to.
    """
    rows_left = defaultdict(list)
    official_ends = _frames_on_clock(official)
    for row, key in enumerate(official[same].itertuples(index=False, name=None)):
        rows_left[key].append(row)
    matches = np.full(len(rows), -1, dtype=np.int64)
    keys = rows[same].itertuples(index=False, name=None)
    for line, (key, ends) in enumerate(zip(keys, _frames_on_clock(rows), strict=True)):
        candidates = rows_left[key]
        if candidates:
            distances = np.abs(official_ends[candidates] - ends).max(axis=1)
            nearest = int(distances.argmin())
            if distances[nearest] <= TOLERANCE:
                matches[line] = candidates.pop(nearest)
    return matches


def _frames_on_clock(table: pd.DataFrame) -> np.ndarray:
    """Compute start and stop in frames of the annotation clock, float [rows, 2].

    The clock is the rate at which the official annotations count the frames of a video,
    whatever the rate of its file: 60 or 50 a second.
    """
    rates = table["video_id"].map(annotation_rate).to_numpy(dtype=float)
    return table[["start_seconds", "stop_seconds"]].to_numpy() * rates[:, None]


def check_list(
    lab_list: LabList, videos: Mapping[str, Video], scans: str | os.PathLike
) -> pd.DataFrame:
    """Compare a lab's list with the scan tables, as the rule clean does.

    Videos that are in no table get the verdict `not scanned`. Missing segments are reported for
    scanned videos only.

    Args:
        lab_list: The list, from `match_list`.
        videos: All videos of the sheet by id.
        scans: Folder of the tables `{participant}.tsv` and their frame indexes.

    Returns:
        A table with the columns `COLUMNS`. It has first the lines on damaged or unscanned videos,
        in order (`line` counts from 1), then the undamaged official segments that the list does not
        have (`line` is 0).

    Raises:
        EpicError: There is no scan table, or a frame index is missing.
    """
    tables = sorted(Path(scans).glob("*.tsv"))
    if not tables:
        raise EpicError(f"{scans}: no scan table; expected {{participant}}.tsv of the rule scan")
    states = {row.video_id: row for table in tables for row in read_scan_table(table)}
    # Undamaged lines get the verdict "damaged" here too, but `to_report` leaves them out.
    lines = lab_list.rows.assign(
        line=range(1, len(lab_list.rows) + 1),
        reason=_drop_reasons(lab_list.rows, videos, states, scans),
        verdict=np.where(lab_list.rows["video_id"].isin(list(states)), DAMAGED, NOT_SCANNED),
    )
    to_report = lines[(lines["reason"] != "") | (lines["verdict"] == NOT_SCANNED)]
    unlisted = lab_list.official.drop(index=lab_list.matching_row[lab_list.matched])
    unlisted = unlisted[unlisted["video_id"].isin(list(states))].reset_index(drop=True)
    drop_reasons = np.array(_drop_reasons(unlisted, videos, states, scans), dtype=object)
    missing = unlisted[drop_reasons == ""]
    is_video_listed = missing["video_id"].isin(lab_list.rows["video_id"])
    missing = missing.assign(
        verdict=LACKING, line=0, reason=np.where(is_video_listed, "", WHOLE_VIDEO)
    )
    return pd.concat([to_report, missing])[list(COLUMNS)].reset_index(drop=True)


def summarise(lab_list: LabList, findings: pd.DataFrame) -> list[str]:
    """Summarise the findings of `check_list` in lines of text.

    Args:
        lab_list: The list that was checked.
        findings: The result: a row for each line of the list that is damaged or not scanned, and
            one for each missing segment.
    """
    rows, verdicts = lab_list.rows, findings["verdict"]
    damaged, missing = findings[verdicts == DAMAGED], findings[verdicts == LACKING]
    unscanned_count = (verdicts == NOT_SCANNED).sum()
    sound_count = len(rows) - len(damaged) - unscanned_count
    of_absent_videos = missing[missing["reason"] != ""]
    missing_rows = lab_list.official[
        lab_list.official["narration_id"].isin(missing["narration_id"])
    ]
    pairs = set(zip(rows["verb"], rows["noun"], strict=True))
    all_pairs = pairs | set(zip(missing_rows["verb"], missing_rows["noun"], strict=True))
    count_of_reason = Counter(damaged["reason"].map(kind_of))
    return [
        f"{len(rows)} lines in {rows['video_id'].nunique()} videos; {(~lab_list.matched).sum()} "
        f"are no official rows, {lab_list.relabelled.sum()} of them an official segment with other "
        "labels",
        f"{sound_count} sound, {len(damaged)} on damaged frames or videos, {unscanned_count} in "
        "videos that were not scanned",
        *(f"  {count}: {reason}" for reason, count in count_of_reason.most_common()),
        f"{len(missing)} sound segments lack, {len(of_absent_videos)} of them in the "
        f"{of_absent_videos['video_id'].nunique()} videos that the list leaves out whole",
        f"{len(pairs)} verb-noun pairs; {len(all_pairs)} with the segments that lack",
    ]


def _drop_reasons(
    rows: pd.DataFrame,
    videos: Mapping[str, Video],
    states: Mapping[str, ScanRow],
    scans: str | os.PathLike,
) -> list[str]:
    """Return why `clean` would drop each row; "" if it would not, or the video was not scanned."""

    def index_of(video_id: str) -> VideoIndex:
        """Load the frame index of a video."""
        return load_index(index_path(scans, videos[video_id].participant_id), video_id)

    scanned = rows[rows["video_id"].isin(list(states))].reset_index(drop=True)
    cleaned, _ = clean_split(index_segments(scanned, videos), videos, states, index_of)
    reason_of_segment = dict(zip(cleaned["narration_id"], cleaned["segment"], strict=True))
    return [reason_of_segment.get(name, "") for name in rows["narration_id"]]
