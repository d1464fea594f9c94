"""Segments and scans -> the segments whose frames are intact, and a reason for each dropped one.

Policy `segment` drops the segments that overlap a damaged range of frames, and so keeps most of a
damaged file. Policy `video` drops every segment of a damaged video, as labs do that discard files
which fail to open.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epic100.base.errors import EpicError
from epic100.base.text_table import write_frame
from epic100.segments.annotations import frames_between, load_annotations
from epic100.segments.drop_reasons import DropReason, kind_of
from epic100.segments.kept import salvage_lines, salvage_table
from epic100.segments.pairs import write_pairs
from epic100.segments.segment_list import (
    COLUMNS,
    NO_LABEL,
    lines_by,
    read_segments,
    write_segments,
)
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index
from epic100.video.scan_table import DAMAGED, MISSING, UNREADABLE, ScanRow, read_scan_table
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

POLICIES = ("segment", "video")
EXCLUDED = "excluded"  # by the config, so it is never in a scan table
WHY_NOT = {
    MISSING: DropReason.VIDEO_MISSING,
    UNREADABLE: DropReason.VIDEO_UNREADABLE,
    EXCLUDED: DropReason.EXCLUDED,
}
# Frames. A file that drifts less than this from the sheet's clock, over its whole length, is not
# re-timed.
DRIFT_FRAMES = 0.5


def clean(
    videos: Mapping[str, Video],
    *,
    annotations: Mapping[str, str],
    segments: Mapping[str, str],
    scans: Sequence[str],
    lists: Mapping[str, str],
    pairs: str,
    dropped: str,
    salvage: str,
    policy: str,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    absent: Sequence[str] = (),
    **reading: Any,
) -> None:
    """Write each split's clean list, the pair table, the dropped segments and the kept counts.

    Segments of participants in `exclude`, not in a non-empty `include`, or in `absent` are dropped.

    Args:
        videos: Rows of the video sheet by video_id.
        annotations: Annotation files by split.
        segments: Segment lists of the rule annotate by split.
        scans: Scan tables, one per participant, with the frame indexes in the same folder.
        lists: The clean lists to write, by split.
        pairs: The pair table to write.
        dropped: The table `narration_id split reason` to write.
        salvage: The table to write of what each policy keeps per participant.
        policy: One of `POLICIES`.
        exclude: Participants to leave out.
        include: If not empty, the only participants to use.
        absent: Participants without any video file.
        **reading: Passed on to `load_annotations`.
    """
    rows = _not_scanned(videos, exclude, include, absent)
    indexes: dict[str, str] = {}
    for scan in scans:
        scanned = _scanned(scan)
        rows |= scanned
        indexes |= dict.fromkeys(scanned, scan.removesuffix(".tsv") + ".index.npz")
    drops, paths = [], []
    kept_by: dict[str, list[str]] = {name: [] for name in POLICIES}
    for split, path in annotations.items():
        table = load_annotations(path, videos, split=split, **reading)
        listed = _listed(segments[split], table)
        paths += listed["path"].tolist()
        for name in POLICIES:
            found = clean_split(
                table, listed, videos, rows,
                lambda video_id: load_index(indexes[video_id], video_id), name,
            )  # fmt: skip
            kept_by[name] += found[0]["path"].tolist()
            if name == policy:
                kept, gone, retimed = found
        for sentence in retimed:
            log.info(sentence)
        log.info(f"{split}: {len(kept)} segments kept, {len(gone)} dropped")
        for kind, count in gone["reason"].map(kind_of).value_counts().items():
            log.info(f"  {count} dropped: {kind}")
        if split == "train":
            seen = pair_table(kept)
        write_segments(kept, lists[split])
        drops.append(gone.assign(split=split))
    log.info(f"{len(seen)} verb-noun pairs in train")
    write_pairs(seen, pairs)
    saved = salvage_table(paths, kept_by)
    log.info("\n".join(salvage_lines(saved)))
    write_frame(saved, salvage)
    write_frame(pd.concat(drops)[["narration_id", "split", "reason"]], dropped)


def join_train_and_val(
    train: str | os.PathLike, val: str | os.PathLike, out: str | os.PathLike, pairs: str
) -> None:
    """Join the clean lists of train and val in `out`, and write the pair table of both.

    This is for submissions to the test leaderboard, where a model may be trained on val too. Raises
    EpicError if an id is in both lists, or if no segment has a label.
    """
    both = pd.concat([read_segments(train), read_segments(val)], ignore_index=True)
    twice = both["narration_id"][both["narration_id"].duplicated() & (both["narration_id"] != "")]
    if len(twice):
        raise EpicError(
            f"{val}: {twice.iloc[0]} is in {train} too ({len(twice)} such segments); expected "
            "splits that share none; check `annotations: train:` and `val:`"
        )
    table = pair_table(both)
    write_segments(both, out)
    write_pairs(table, pairs)
    log.info(f"{len(both)} segments, {len(table)} verb-noun pairs in train and val together")


def clean_split(
    annotations: pd.DataFrame,
    segments: pd.DataFrame,
    videos: Mapping[str, Video],
    rows: Mapping[str, ScanRow],
    index_of: Callable[[str], VideoIndex],
    policy: str = "segment",
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Keep the segments of one split that have no damaged frames.

    `annotations` (seconds) and `segments` (frames, by the sheet's fps) have the same rows in the
    same order. If a video's measured rate is not the sheet's, its frames are computed again from
    the seconds: by the measured rate, or by `index_of(video_id)` if the rate varies. `rows` has the
    scan results by video_id. Returns the kept segments, the dropped ones (narration_id and reason),
    and one sentence per re-timed video. Raises EpicError for an unscanned video.
    """
    kept, retimed = segments.copy(), []
    reason = np.full(len(segments), "", dtype=object)
    for video_id, places in lines_by(annotations, "video_id").items():
        row = rows.get(video_id)
        if row is None:
            raise EpicError(f"video {video_id} is in the annotations, but no scan table has it")
        if not row.readable:
            reason[places] = WHY_NOT[row.status].sentence(row.reason)
            continue
        start = segments["start"].to_numpy()[places]
        stop = segments["stop"].to_numpy()[places]
        clock = _other_clock(videos[video_id], row)
        if clock:
            begin, end = (annotations[f"{e}_seconds"].to_numpy()[places] for e in ("start", "stop"))
            if row.timing == "variable":
                start, stop = index_of(video_id).frames_between(begin, end)
            else:
                start, stop = frames_between(begin, end, row.fps)
            retimed.append(f"{video_id}: {len(places)} segments re-timed, {clock}")
        # An annotation may end a little after its video: it is cut to the video's end.
        stop = np.minimum(stop, row.pictures)
        kept.iloc[places, COLUMNS.index("start")] = start
        kept.iloc[places, COLUMNS.index("stop")] = stop
        reason[places] = _reasons(row, start, stop, policy)
    good = reason == ""
    dropped = pd.DataFrame(
        {"narration_id": segments["narration_id"].to_numpy()[~good], "reason": reason[~good]}
    )
    return kept[good].reset_index(drop=True), dropped, retimed


def pair_table(train: pd.DataFrame) -> pd.DataFrame:
    """Count the verb-noun pairs in `train`, which are the classes of the pair head.

    Columns `pair_id verb noun count`, by verb, then noun. EpicError if no segment has a label.
    """
    labelled = train[train["verb"] != NO_LABEL]
    if labelled.empty:
        raise EpicError(
            "no labelled train segment is left after cleaning: nothing to train on; the lines "
            "above count the reasons; check `videos: root:` and `annotations: train:`"
        )
    pairs = labelled.groupby(["verb", "noun"]).size().rename("count").reset_index()
    pairs.insert(0, "pair_id", np.arange(len(pairs)))
    return pairs


def _not_scanned(
    videos: Mapping[str, Video],
    exclude: Sequence[str],
    include: Sequence[str],
    absent: Sequence[str],
) -> dict[str, ScanRow]:
    """Make rows for videos without a scan: their participant is left out or has no video file."""
    rows = {}
    for name, video in videos.items():
        owner = video.participant_id
        if owner in exclude or (include and owner not in include):
            by = "exclude" if owner in exclude else "include"
            rows[name] = ScanRow(name, EXCLUDED, reason=by)
        elif owner in absent:
            rows[name] = ScanRow(name, MISSING, reason="no video of this participant is there")
    return rows


def _listed(path: str, annotations: pd.DataFrame) -> pd.DataFrame:
    segments = read_segments(path)
    if segments["narration_id"].tolist() != annotations["narration_id"].tolist():
        raise EpicError(
            f"{path}: not the segments of the annotations, in their order; expected the list as "
            f"the rule annotate writes it; make it again with `snakemake -R {path}`"
        )
    return segments


def _scanned(table: str) -> dict[str, ScanRow]:
    """Read one participant's table. Log a warning if no video in it is readable."""
    rows = {row.video_id: row for row in read_scan_table(table)}
    if rows and not any(row.readable for row in rows.values()):
        log.warning(f"{Path(table).stem}: none of its {len(rows)} videos is readable")
    return rows


def _other_clock(video: Video, row: ScanRow) -> str:
    """Return why the sheet's clock is wrong for this file, or "" if it is right."""
    if not row.fps:
        return ""  # too few frames are readable to measure a rate
    if row.timing == "variable":
        return "its pictures are not evenly spaced"
    if abs(row.fps - video.fps) * video.duration >= DRIFT_FRAMES:
        return f"the file has {row.fps:.4f} fps, the sheet says {video.fps:.4f}"
    return ""


def _reasons(row: ScanRow, start: np.ndarray, stop: np.ndarray, policy: str) -> np.ndarray:
    reason = np.full(len(start), "", dtype=object)
    if row.status == DAMAGED and policy == "video":
        reason[:] = DropReason.VIDEO_DAMAGED.sentence(row.reason)
        return reason
    reason[start >= row.pictures] = DropReason.AFTER_THE_END.sentence(row.pictures)
    if row.damaged:
        first, last = np.array(row.damaged).T
        # Ranges are sorted and disjoint, so only the first that ends after `start` can be nearest.
        nearest = np.searchsorted(last, start, side="right")
        touches = (nearest < len(first)) & (first[np.minimum(nearest, len(first) - 1)] < stop)
        for place in np.flatnonzero(touches):
            frames = row.damaged[nearest[place]]
            reason[place] = DropReason.DAMAGED_FRAMES.sentence(*frames, row.reason)
    return reason
