"""Clean the segment lists: keep segments whose frames are intact, give a reason for the others.

The policy `segment` drops the segments that overlap a damaged range of frames, and so keeps most of
a damaged file. The policy `video` drops every segment of a damaged video, as labs do that discard
such files.
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
from epic100.data.annotations import frames_between
from epic100.data.pairs import pair_table, write_pairs
from epic100.data.segment_list import (
    DROPPED_COLUMNS,
    SECONDS,
    DropReason,
    is_damage,
    read_segments,
    reason_type,
    write_segments,
)
from epic100.settings.data import Participants
from epic100.video.index import VideoIndex, load_index
from epic100.video.scan_table import DAMAGED, MISSING, UNREADABLE, ScanRow, read_scan_table
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

POLICIES = ("segment", "video")
# This is the status of a video that the config leaves out. No scan table has it.
EXCLUDED = "excluded"
REASON_OF_STATUS = {
    MISSING: DropReason.VIDEO_MISSING,
    UNREADABLE: DropReason.VIDEO_UNREADABLE,
    EXCLUDED: DropReason.EXCLUDED,
}
# If videos of many participants are missing, the log lists only this number of participants.
MAX_PARTICIPANTS_SHOWN = 6
# Segments are timed again if a file drifts from the sheet's clock, over its full length, by at
# least this number of frames.
DRIFT_FRAMES = 0.5


def clean(
    videos: Mapping[str, Video],
    *,
    segments: Mapping[str, str],
    scans: Sequence[str],
    lists: Mapping[str, str],
    pairs: str,
    dropped: str,
    salvage: str,
    policy: str,
    participants: Participants,
    accept: Sequence[str] = (),
    absent: Sequence[str] = (),
    subset: bool = False,
) -> None:
    """Write the clean lists of all splits, and tables of their pairs and of the dropped segments.

    Segments of participants that the config leaves out, or who are in `absent`, are dropped, too.

    Args:
        videos: Rows of the video sheet by video_id.
        segments: Segment lists of the rule annotate by split.
        scans: Scan tables, one per participant, with the frame indexes in the same folder.
        lists: The clean lists to write, by split.
        pairs: The pair table to write.
        dropped: The table `narration_id split reason` to write.
        salvage: The table of `salvage_table` to write.
        policy: `clean: policy:` of the config.
        participants: Who takes part.
        accept: Videos to use although their length is in doubt.
        absent: Participants without any video file.
        subset: Whether val may be left without a segment.

    Raises:
        EpicError: A list, a table or an id of the config is wrong, or a video was not scanned.
    """
    rows, index_paths = _scan_rows(scans, videos, participants, accept, absent)
    # Each segment gets its frames and a reason to drop it, or "".
    tables = []
    for split, path in segments.items():
        table, retimed = clean_split(
            _read_timed(path),
            videos,
            rows,
            lambda video_id: load_index(index_paths[video_id], video_id),
        )
        for sentence in retimed:
            log.info(sentence)
        # The columns `segment` and `video` have the reasons by each policy, and the config's
        # decides. Both columns stay, to be counted by `salvage_table`.
        reasons = table[policy]
        _log_reasons(split, reasons)
        tables.append(table.assign(reason=reasons, split=split))
    all_segments = pd.concat(tables)
    is_kept = all_segments["reason"] == ""
    kept = {split: all_segments[is_kept & (all_segments["split"] == split)] for split in segments}
    # A list that has lost its content is an error, before anything is written.
    train_pairs = pair_table(kept["train"])
    log.info(f"{len(train_pairs)} verb-noun pairs in train")
    if "val" in kept and kept["val"].empty and not subset:
        raise EpicError(
            f"{segments['val']}: no segment of val is left, and a model without validation has no "
            "metrics; see the reasons above, or set `videos: subset: true` if that is meant"
        )
    # The lists, and the tables about them.
    for split, table in kept.items():
        write_segments(table, lists[split])
    write_pairs(train_pairs, pairs)
    kept_counts = salvage_table(all_segments, {name for name, row in rows.items() if row.caution})
    log.info("\n".join(salvage_lines(kept_counts)))
    write_frame(kept_counts, salvage)
    write_frame(all_segments.loc[~is_kept, list(DROPPED_COLUMNS)], dropped)
    _log_counts(kept, all_segments, dropped)


def _log_counts(kept: Mapping[str, pd.DataFrame], segments: pd.DataFrame, dropped: str) -> None:
    """Say how many segments of each split are kept. The screen shows this line.

    Args:
        kept: The kept segments by split.
        segments: The segments of all splits, with the columns `split` and `reason`.
        dropped: The path of the table with the reasons.
    """
    counts = []
    for split, table in kept.items():
        total = (segments["split"] == split).sum()
        counts.append(f"{split} {len(table)} kept, {total - len(table)} dropped")
    where = f" ({dropped} has the reasons)" if segments["reason"].any() else ""
    log.info("; ".join(counts) + where)


def _log_reasons(split: str, reasons: pd.Series) -> None:
    """Log how many segments of a split are kept, and how many are dropped for each type of reason.

    Args:
        split: The split.
        reasons: The reason to drop each segment, or "".
    """
    drop_reasons = reasons[reasons != ""]
    kept_count = len(reasons) - len(drop_reasons)
    log.info(f"{split}: {kept_count} segments kept, {len(drop_reasons)} dropped")
    for dropped_for, count in drop_reasons.map(reason_type).value_counts().items():
        log.info(f"  {count} dropped: {dropped_for}")


def _scan_rows(
    scans: Sequence[str],
    videos: Mapping[str, Video],
    participants: Participants,
    accept: Sequence[str],
    absent: Sequence[str],
) -> tuple[dict[str, ScanRow], dict[str, str]]:
    """Read the scan tables, and make rows of the videos that are not scanned.

    Args:
        scans: Scan tables, one per participant, with the frame indexes in the same folder.
        videos: Rows of the video sheet by video_id.
        participants: Who takes part.
        accept: Videos to use although their length is in doubt.
        absent: Participants without any video file.

    Returns:
        The rows by video_id; and for each scanned video_id, the path of the file with its frame
        index.

    Raises:
        EpicError: `accept` has an id that is not in the sheet.
    """
    if unknown := [name for name in accept if name not in videos]:
        raise EpicError(
            f"config: videos.accept names {', '.join(unknown)}; expected ids of the video sheet"
        )
    rows = _rows_without_scan(videos, participants, absent)
    index_paths: dict[str, str] = {}
    for scan in scans:
        rows_of_scan = read_scan_table(scan)
        if rows_of_scan and not any(row.readable for row in rows_of_scan):
            log.warning(f"{Path(scan).stem}: none of its {len(rows_of_scan)} videos is readable")
        for row in rows_of_scan:
            # A video that the config accepts is not held back: the scan's finding is removed.
            rows[row.video_id] = replace(row, finding="") if row.video_id in accept else row
            index_paths[row.video_id] = f"{scan.removesuffix('.tsv')}.index.npz"
    return rows, index_paths


def _rows_without_scan(
    videos: Mapping[str, Video], participants: Participants, absent: Sequence[str]
) -> dict[str, ScanRow]:
    """Make rows, by video_id, of the videos of participants who are left out or `absent`."""
    rows: dict[str, ScanRow] = {}
    for video_id, video in videos.items():
        participant = video.participant_id
        # The reason is the key of the config that leaves the participant out.
        if participant in participants.exclude:
            rows[video_id] = ScanRow(video_id, EXCLUDED, reason="exclude")
        elif participants.include and participant not in participants.include:
            rows[video_id] = ScanRow(video_id, EXCLUDED, reason="include")
        elif participant in absent:
            reason = "no video of this participant is there"
            rows[video_id] = ScanRow(video_id, MISSING, reason=reason)
    return rows


def join_train_and_val(
    train: str | os.PathLike, val: str | os.PathLike, out: str | os.PathLike, pairs: str
) -> None:
    """Join the clean lists of train and val into one list, and write the pair table of both.

    This is for submissions to the test leaderboard, where a model may be trained on val too.

    Args:
        train: The clean list of train.
        val: The clean list of val.
        out: The joint list to write.
        pairs: The pair table to write.

    Raises:
        EpicError: No segment has a label.
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
    """Give each segment of a split its frames in the file, and the reason to drop it, if any.

    The frames in the segment list follow from the sheet's fps. If the scan measured another rate,
    the frames are computed again from the seconds: by the measured rate, or by the frame index of
    the file if its rate varies. The segments are then called re-timed.

    Args:
        segments: The segments, with the columns of `segment_list`.
        videos: Rows of the video sheet by video_id.
        rows: Rows of the scan tables by video_id.
        index_of: Returns the frame index of a video_id.

    Returns:
        The segments with their frames in the file, and a column for each of `POLICIES` with the
        reason why it drops the segment, or "" if it keeps the segment. And one sentence per video
        whose segments were re-timed.

    Raises:
        EpicError: A video was not scanned.
    """
    # A table for each video. The reasons of both policies are columns, named as the policies are.
    # A split without segments gets the columns from an empty table.
    tables = [segments.iloc[:0].assign(segment="", video="")]
    retimed = []
    video_ids = segments["path"].map(lambda path: Path(path).stem)
    for video_id, table in segments.groupby(video_ids, sort=False):
        scan_row = rows.get(video_id)
        if scan_row is None:
            raise EpicError(
                f"video {video_id} is in the annotations, but no scan table has it; scan its "
                "participant again, with this sheet"
            )
        if reason := _reason_against_video(scan_row):
            tables.append(table.assign(segment=reason, video=reason))
            continue
        # The frames, by the clock of the file.
        start, stop = table["start"].to_numpy(), table["stop"].to_numpy()
        if clock_defect := _clock_defect(videos[video_id], scan_row):
            start_seconds = table["start_seconds"].to_numpy()
            stop_seconds = table["stop_seconds"].to_numpy()
            if scan_row.timing == "variable":
                start, stop = index_of(video_id).frames_between(start_seconds, stop_seconds)
            else:
                start, stop = frames_between(start_seconds, stop_seconds, scan_row.fps)
            retimed.append(f"{video_id}: {len(table)} segments re-timed, {clock_defect}")
        # An annotation may end a little after its video, so it is cut to the video's end.
        stop = np.minimum(stop, scan_row.pictures)
        # The reasons, by the damage in these frames.
        reasons = _segment_reasons(scan_row, start, stop)
        table = table.assign(start=start, stop=stop, segment=reasons, video=reasons)
        if scan_row.status == DAMAGED:
            table["video"] = DropReason.VIDEO_DAMAGED.sentence(scan_row.reason)
        tables.append(table)
    return pd.concat(tables).sort_index(), retimed


def _reason_against_video(scan_row: ScanRow) -> str:
    """Return why both policies drop all segments of a video; "" if each segment is judged."""
    if not scan_row.readable:
        return REASON_OF_STATUS[scan_row.status].sentence(scan_row.reason)
    finding = scan_row.finding
    return DropReason.HELD_BACK.sentence(scan_row.video_id, finding) if finding else ""


def salvage_table(segments: pd.DataFrame, unsure: Collection[str] = ()) -> pd.DataFrame:
    """Count each participant's segments: annotated, kept by each policy, and left out.

    Args:
        segments: The segments of `clean_split`, of all splits.
        unsure: Ids of the videos that their decoder alone judges (`ScanRow.caution`).

    Returns:
        A row per participant, sorted: `participant_id segments kept_by_segment kept_by_video
        decoder_only left_out why`. `decoder_only` counts the segments of `kept_by_segment` in the
        videos `unsure`. `left_out` counts the segments that are dropped for another reason than
        damage, such as a missing video; `why` names the reasons.
    """
    reasons = segments["segment"]
    is_left_out = (reasons != "") & ~reasons.map(is_damage).astype(bool)
    is_kept = reasons == ""
    is_unsure = segments["path"].map(lambda path: Path(path).stem in unsure)
    # Each column of the table counts the segments of a mask. The first one is all of them.
    masks = pd.DataFrame(
        {
            "segments": segments["path"] != "",
            "kept_by_segment": is_kept,
            "kept_by_video": segments["video"] == "",
            "decoder_only": is_kept & is_unsure,
            "left_out": is_left_out,
        }
    )
    # A path is `.../{participant_id}/{video_id}.MP4`, so the last folder names the participant.
    participants = segments["path"].str.split("/").str[-2].rename("participant_id")
    types = reasons[is_left_out].map(reason_type)
    why = types.groupby(participants[is_left_out]).unique().str.join(", ")
    table = masks.groupby(participants).sum()
    return table.assign(why=why.reindex(table.index, fill_value="")).reset_index()


def salvage_lines(table: pd.DataFrame) -> list[str]:
    """Describe which segments each participant loses, in lines for the log and the report.

    First comes a line per participant with damaged videos, `P01: 90 of 100 segments kept ...`. Then
    comes a line per participant with segments left out, then the total.

    Args:
        table: The table of `salvage_table`.
    """
    damage_lines: list[str] = []
    left_out_lines: list[str] = []
    for row in table.to_dict("records"):
        name, total, left_out = row["participant_id"], row["segments"], row["left_out"]
        if row["kept_by_video"] < total - left_out:
            damage_lines.append(
                f"{name}: {row['kept_by_segment']} of {total - left_out} segments kept (policy "
                f"segment); dropping complete videos would keep {row['kept_by_video']}"
            )
        if left_out:
            left_out_lines.append(f"{name}: {left_out} of {total} segments left out: {row['why']}")
    lines = damage_lines + left_out_lines[:MAX_PARTICIPANTS_SHOWN]
    hidden = len(left_out_lines) - MAX_PARTICIPANTS_SHOWN
    if hidden > 0:
        lines.append(f"... and {hidden} participants more, in dropped.tsv")
    sums = table[["segments", "kept_by_segment", "kept_by_video"]].sum()
    lines.append(
        f"all: {sums['kept_by_segment']:,} of {sums['segments']:,} segments kept; dropping "
        f"complete videos would keep {sums['kept_by_video']:,}"
    )
    if warning := caution(table):
        lines.append(warning)
    return lines


def caution(table: pd.DataFrame) -> str:
    """Return a warning to show with every result of these segments, or "" if none is due.

    It says how many segments are of videos in which damage may have gone unnoticed.

    Args:
        table: The table of `salvage_table`.
    """
    if not (count := int(table["decoder_only"].sum())):
        return ""
    return (
        f"{count:,} of the segments kept are of videos judged by their decoder only: spoilt bits "
        "may go unseen"
    )


def _read_timed(path: str) -> pd.DataFrame:
    """Read a segment list of the rule annotate; raise EpicError if a segment has no seconds."""
    segments = read_segments(path)
    if segments[list(SECONDS)].isna().any(axis=None):
        raise EpicError(
            f"{path}: segments without seconds; expected the list as the rule annotate writes it; "
            f"make it again with `snakemake -R {path}`"
        )
    return segments


def _clock_defect(video: Video, row: ScanRow) -> str:
    """Say why the sheet's frame rate is wrong for this file; "" if it is right."""
    if not row.fps:
        return ""  # Too few frames are readable to measure a rate, so the sheet's is kept.
    if row.timing == "variable":
        return "its frames are not evenly spaced"
    if abs(row.fps - video.fps) * video.duration >= DRIFT_FRAMES:
        return f"the file has {row.fps:.4f} fps, the sheet says {video.fps:.4f}"
    return ""


def _segment_reasons(row: ScanRow, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Give each segment of a video the reason to drop it, or "" if its frames are intact.

    Args:
        row: The video's row in the scan table.
        start: First frames of the segments.
        stop: Frames after the last ones of the segments.
    """
    reasons = np.full(len(start), "", dtype=object)
    reasons[start >= row.pictures] = DropReason.AFTER_THE_END.sentence(row.pictures)
    if row.damaged:
        range_starts, range_ends = np.array(row.damaged).T
        # The damaged ranges are sorted and disjoint. So a segment touches damage if the first range
        # that ends after the segment's start begins before the segment's end.
        nearest = np.searchsorted(range_ends, start, side="right")
        # For a segment after the last range, `nearest` is one too large. The minimum avoids an
        # IndexError, and `touches` excludes these segments.
        start_of_nearest = range_starts[np.minimum(nearest, len(range_starts) - 1)]
        touches = (nearest < len(range_starts)) & (start_of_nearest < stop)
        for number in np.flatnonzero(touches):
            first, end = row.damaged[nearest[number]]
            reasons[number] = DropReason.DAMAGED_FRAMES.sentence(first, end, row.reason)
    return reasons
