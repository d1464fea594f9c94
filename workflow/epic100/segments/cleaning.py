"""Segments and scans -> the segments whose frames are intact, and a reason for each dropped one.

Policy `segment` drops the segments that overlap a damaged range of frames, and so keeps most of a
damaged file. Policy `video` drops every segment of a damaged video, as labs do that discard files
which fail to open.
"""

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.errors import EpicError
from epic100.base.text_table import write_frame
from epic100.segments.annotations import frames_between
from epic100.segments.drop_reasons import COLUMNS as DROPPED_COLUMNS
from epic100.segments.drop_reasons import DropReason, is_damage, kind_of
from epic100.segments.pairs import pair_table, write_pairs
from epic100.segments.segment_list import SECONDS, lines_by, read_segments, write_segments
from epic100.settings import Settings
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index
from epic100.video.scan_table import DAMAGED, MISSING, UNREADABLE, ScanRow, read_scan_table
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

POLICIES = ("segment", "video")
# The config excludes a video, so no scan table has this status.
EXCLUDED = "excluded"
WHY_NOT = {
    MISSING: DropReason.VIDEO_MISSING,
    UNREADABLE: DropReason.VIDEO_UNREADABLE,
    EXCLUDED: DropReason.EXCLUDED,
}
# A partial archive lacks the videos of many participants, so only the first are listed.
SHOWN = 6
# A file that drifts by fewer frames than this from the sheet's clock, over its whole length, is not
# re-timed.
DRIFT_FRAMES = 0.5


def clean(
    videos: Mapping[str, Video],
    settings: Settings,
    *,
    segments: Mapping[str, str],
    scans: Sequence[str],
    lists: Mapping[str, str],
    pairs: str,
    dropped: str,
    salvage: str,
    absent: Sequence[str] = (),
) -> None:
    """Write each split's clean list, the pair table, the dropped segments and the kept counts.

    Segments of participants that the config leaves out, or in `absent`, are dropped.

    Args:
        videos: Rows of the video sheet by video_id.
        settings: The policy, who takes part, and which videos to accept.
        segments: Segment lists of the rule annotate by split.
        scans: Scan tables, one per participant, with the frame indexes in the same folder.
        lists: The clean lists to write, by split.
        pairs: The pair table to write.
        dropped: The table `narration_id split reason` to write.
        salvage: The table to write of what each policy keeps per participant.
        absent: Participants without any video file.
    """
    if unknown := [name for name in settings.videos.accept if name not in videos]:
        raise EpicError(
            f"config: videos.accept names {', '.join(unknown)}; expected ids of the video sheet"
        )
    rows = _not_scanned(videos, settings, absent)
    indexes: dict[str, str] = {}
    for scan in scans:
        scanned = {row.video_id: row for row in read_scan_table(scan)}
        if scanned and not any(row.readable for row in scanned.values()):
            log.warning(f"{Path(scan).stem}: none of its {len(scanned)} videos is readable")
        rows |= scanned
        indexes |= dict.fromkeys(scanned, scan.removesuffix(".tsv") + ".index.npz")
    for name in settings.videos.accept:
        if name in rows:
            rows[name] = replace(rows[name], finding="")
    tables = []
    for split, path in segments.items():
        table, retimed = clean_split(
            _timed(path), videos, rows, lambda video_id: load_index(indexes[video_id], video_id)
        )
        table["reason"] = table[settings.clean.policy]
        kept, dropped_rows = table[table["reason"] == ""], table[table["reason"] != ""]
        for sentence in retimed:
            log.info(sentence)
        log.info(f"{split}: {len(kept)} segments kept, {len(dropped_rows)} dropped")
        for reason_kind, count in dropped_rows["reason"].map(kind_of).value_counts().items():
            log.info(f"  {count} dropped: {reason_kind}")
        if split == "train":
            train_pairs = pair_table(kept)
        write_segments(kept, lists[split])
        tables.append(table.assign(split=split))
    log.info(f"{len(train_pairs)} verb-noun pairs in train")
    write_pairs(train_pairs, pairs)
    all_segments = pd.concat(tables)
    kept_counts = salvage_table(all_segments, {name for name, row in rows.items() if row.caution})
    dropped_rows = all_segments.loc[all_segments["reason"] != "", list(DROPPED_COLUMNS)]
    log.info("\n".join(salvage_lines(kept_counts)))
    write_frame(kept_counts, salvage)
    write_frame(dropped_rows, dropped)


def join_train_and_val(
    train: str | os.PathLike, val: str | os.PathLike, out: str | os.PathLike, pairs: str
) -> None:
    """Join the clean lists of train and val in `out`, and write the pair table of both.

    This is for submissions to the test leaderboard, where a model may be trained on val too. Raises
    EpicError if no segment has a label.
    """
    segments = pd.concat([read_segments(train), read_segments(val)], ignore_index=True)
    table = pair_table(segments)
    write_segments(segments, out)
    write_pairs(table, pairs)
    log.info(f"{len(segments)} segments, {len(table)} verb-noun pairs in train and val together")


def clean_split(
    segments: pd.DataFrame,
    videos: Mapping[str, Video],
    rows: Mapping[str, ScanRow],
    index_of: Callable[[str], VideoIndex],
) -> tuple[pd.DataFrame, list[str]]:
    """Find the segments of one split that have damaged frames.

    `segments` has the columns of `segment_list`; its frames are by the sheet's fps. If a video's
    measured rate is not the sheet's, its frames are computed again from the seconds: by the
    measured rate, or by `index_of(video_id)` if the rate varies. `rows` has the
    scan results by video_id. Returns `segments` with the frames in the file, and a column for each
    of `POLICIES`: why it drops a segment, "" if it keeps it; and one sentence per re-timed video.
    Raises EpicError for an unscanned video.
    """
    # These are arrays, since pandas would copy a whole column for each video written into it.
    frames = {end: segments[end].to_numpy(copy=True) for end in ("start", "stop")}
    policy_reasons = {policy: np.full(len(segments), "", dtype=object) for policy in POLICIES}
    retimed = []
    with_video_ids = segments.assign(video_id=segments["path"].map(lambda path: Path(path).stem))
    for video_id, row_numbers in lines_by(with_video_ids, "video_id").items():
        row = rows.get(video_id)
        if row is None:
            raise EpicError(
                f"video {video_id} is in the annotations, but no scan table has it; scan its "
                "participant again, with this sheet"
            )
        if not row.readable:
            for reasons in policy_reasons.values():
                reasons[row_numbers] = WHY_NOT[row.status].sentence(row.reason)
            continue
        if row.finding:
            for reasons in policy_reasons.values():
                reasons[row_numbers] = DropReason.HELD_BACK.sentence(video_id, row.finding)
            continue
        start, stop = (values[row_numbers] for values in frames.values())
        clock_fault = _other_clock(videos[video_id], row)
        if clock_fault:
            begin, end = (
                segments[f"{e}_seconds"].to_numpy()[row_numbers] for e in ("start", "stop")
            )
            if row.timing == "variable":
                start, stop = index_of(video_id).frames_between(begin, end)
            else:
                start, stop = frames_between(begin, end, row.fps)
            retimed.append(f"{video_id}: {len(row_numbers)} segments re-timed, {clock_fault}")
        # An annotation may end a little after its video: it is cut to the video's end.
        stop = np.minimum(stop, row.pictures)
        frames["start"][row_numbers], frames["stop"][row_numbers] = start, stop
        policy_reasons["segment"][row_numbers] = reason = _reasons(row, start, stop)
        video_reason = DropReason.VIDEO_DAMAGED.sentence(row.reason)
        policy_reasons["video"][row_numbers] = video_reason if row.status == DAMAGED else reason
    return segments.assign(**frames, **policy_reasons), retimed


def salvage_table(segments: pd.DataFrame, unsure: Collection[str] = ()) -> pd.DataFrame:
    """Count each participant's segments: annotated, kept by each policy, and left out.

    Args:
        segments: Those of `clean_split`.
        unsure: Ids of the videos that their decoder alone judges (`ScanRow.caution`).

    Returns:
        `participant_id segments kept_by_segment kept_by_video decoder_only left_out why`, sorted by
        participant. `decoder_only` are those of `kept_by_segment` in the videos `unsure`. Left out
        is what is known before any file is opened; `why` names its reasons.
    """
    reasons = segments["segment"]
    absent = (reasons != "") & ~reasons.map(is_damage).astype(bool)
    masks = {"segments": segments["path"] != ""}
    masks |= {f"kept_by_{policy}": segments[policy] == "" for policy in POLICIES}
    is_unsure = segments["path"].map(lambda path: Path(path).stem in unsure)
    masks |= {"decoder_only": masks["kept_by_segment"] & is_unsure, "left_out": absent}
    owner = segments["path"].str.split("/").str[-2].rename("participant_id")
    why = reasons[absent].map(kind_of).groupby(owner[absent]).unique().str.join(", ")
    table = pd.DataFrame(masks).groupby(owner).sum()
    return table.assign(why=why.reindex(table.index, fill_value="")).reset_index()


def salvage_lines(table: pd.DataFrame) -> list[str]:
    """Describe what each participant loses: lines for damage, then those for what is not there.

    Args:
        table: That of `salvage_table`.
    """
    lines, missing = [], []
    for row in table.to_dict("records"):
        name, total, left_out = row["participant_id"], row["segments"], row["left_out"]
        if row["kept_by_video"] < total - left_out:
            lines.append(
                f"{name}: {row['kept_by_segment']} of {total - left_out} segments kept (policy "
                f"segment); dropping whole videos would keep {row['kept_by_video']}"
            )
        if left_out:
            missing.append(f"{name}: {left_out} of {total} segments left out: {row['why']}")
    hidden = len(missing) - SHOWN
    hidden_line = [f"... and {hidden} participants more, in dropped.tsv"] if hidden > 0 else []
    total, kept = int(table["segments"].sum()), int(table["kept_by_segment"].sum())
    by_video = int(table["kept_by_video"].sum())
    summary = (
        f"all: {kept:,} of {total:,} segments kept; dropping whole videos would keep {by_video:,}"
    )
    return [*lines, *missing[:SHOWN], *hidden_line, summary, *filter(None, [caution(table)])]


def caution(table: pd.DataFrame) -> str:
    """What to say wherever a result of these segments is shown, or "".

    Args:
        table: That of `salvage_table`.
    """
    count = int(table["decoder_only"].sum())
    words = "of the segments kept are of videos judged by their decoder only: spoilt bits may go"
    return f"{count:,} {words} unseen" if count else ""


def _not_scanned(
    videos: Mapping[str, Video], settings: Settings, absent: Sequence[str]
) -> dict[str, ScanRow]:
    """Make rows for videos without a scan: their participant is left out or has no video file."""
    rows, section = {}, settings.participants
    for video_id, video in videos.items():
        owner = video.participant_id
        if owner in section.exclude or (section.include and owner not in section.include):
            key = "exclude" if owner in section.exclude else "include"
            rows[video_id] = ScanRow(video_id, EXCLUDED, reason=key)
        elif owner in absent:
            rows[video_id] = ScanRow(
                video_id, MISSING, reason="no video of this participant is there"
            )
    return rows


def _timed(path: str) -> pd.DataFrame:
    """The segments of the rule annotate, which have the seconds of their annotation."""
    segments = read_segments(path)
    if segments[list(SECONDS)].isna().any(axis=None):
        raise EpicError(
            f"{path}: segments without seconds; expected the list as the rule annotate writes it; "
            f"make it again with `snakemake -R {path}`"
        )
    return segments


def _other_clock(video: Video, row: ScanRow) -> str:
    """Return why the sheet's clock is wrong for this file, or "" if it is right."""
    if not row.fps:
        return ""  # Too few frames are readable to measure a rate.
    if row.timing == "variable":
        return "its pictures are not evenly spaced"
    if abs(row.fps - video.fps) * video.duration >= DRIFT_FRAMES:
        return f"the file has {row.fps:.4f} fps, the sheet says {video.fps:.4f}"
    return ""


def _reasons(row: ScanRow, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    reasons = np.full(len(start), "", dtype=object)
    reasons[start >= row.pictures] = DropReason.AFTER_THE_END.sentence(row.pictures)
    if row.damaged:
        first, last = np.array(row.damaged).T
        # Ranges are sorted and disjoint, so only the first that ends after `start` can be nearest.
        nearest = np.searchsorted(last, start, side="right")
        touches = (nearest < len(first)) & (first[np.minimum(nearest, len(first) - 1)] < stop)
        for index in np.flatnonzero(touches):
            frames = row.damaged[nearest[index]]
            reasons[index] = DropReason.DAMAGED_FRAMES.sentence(*frames, row.reason)
    return reasons
