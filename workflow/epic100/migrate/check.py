"""Compare a lab's list with the scans: damaged lines, and sound segments that are missing."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.errors import EpicError
from epic100.migrate.lists import LabList
from epic100.segments.annotations import index_segments
from epic100.segments.cleaning import clean_split
from epic100.segments.drop_reasons import kind_of
from epic100.video.index import VideoIndex
from epic100.video.index_file import index_path, load_index
from epic100.video.scan_table import ScanRow, read_scan_table
from epic100.video.sheet import Video

WHOLE_VIDEO = "the list has no segment of its video"
DAMAGED, NOT_SCANNED, LACKING = "damaged", "not scanned", "lacking"
COLUMNS = ("verdict", "line", "narration_id", "video_id", "reason")


def check_list(
    found: LabList, videos: Mapping[str, Video], scans: str | os.PathLike
) -> pd.DataFrame:
    """Compare a list with the scan tables, by the same rules as the rule clean.

    Videos that are in no table get the verdict `not scanned`. Missing segments are reported for
    scanned videos only.

    Args:
        found: The list, from `match_list`.
        videos: All videos of the sheet by id.
        scans: Folder of the tables `{participant}.tsv` and their frame indexes.

    Returns:
        Columns `COLUMNS`. First the lines that are not sound, in order (`line` counts from 1), then
        the sound official segments that the list does not have (`line` is 0).

    Raises:
        EpicError: There is no scan table, or a frame index is missing.
    """
    tables = sorted(Path(scans).glob("*.tsv"))
    if not tables:
        raise EpicError(f"{scans}: no scan table; expected {{participant}}.tsv of the rule scan")
    states = {row.video_id: row for table in tables for row in read_scan_table(table)}
    lines = found.rows.assign(
        line=range(1, len(found.rows) + 1),
        reason=_reasons(found.rows, videos, states, scans),
        verdict=np.where(found.rows["video_id"].isin(list(states)), DAMAGED, NOT_SCANNED),
    )
    unsound = lines[(lines["reason"] != "") | (lines["verdict"] == NOT_SCANNED)]
    others = found.official.drop(index=found.place[found.matched])
    others = others[others["video_id"].isin(list(states))].reset_index(drop=True)
    sound = [reason == "" for reason in _reasons(others, videos, states, scans)]
    lacking = others[np.array(sound, dtype=bool)]
    whole = ~lacking["video_id"].isin(found.rows["video_id"])
    lacking = lacking.assign(verdict=LACKING, line=0, reason=np.where(whole, WHOLE_VIDEO, ""))
    return pd.concat([unsound, lacking])[list(COLUMNS)].reset_index(drop=True)


def summary(found: LabList, findings: pd.DataFrame) -> list[str]:
    """Summarise the findings in lines for people."""
    lines, verdicts = found.rows, findings["verdict"]
    damaged, lacking = findings[verdicts == DAMAGED], findings[verdicts == LACKING]
    whole = lacking[lacking["reason"] != ""]
    gained = found.official[found.official["narration_id"].isin(lacking["narration_id"])]
    pairs = set(zip(lines["verb"], lines["noun"], strict=True))
    more = pairs | set(zip(gained["verb"], gained["noun"], strict=True))
    kinds = Counter(damaged["reason"].map(kind_of))
    return [
        f"{len(lines)} lines in {lines['video_id'].nunique()} videos; {(~found.matched).sum()} are "
        f"no official rows, {found.relabelled.sum()} of them an official segment with other labels",
        f"{len(lines) - (verdicts != LACKING).sum()} sound, {len(damaged)} on damaged frames or "
        f"videos, {(verdicts == NOT_SCANNED).sum()} in videos that were not scanned",
        *(f"  {count}: {kind}" for kind, count in kinds.most_common()),
        f"{len(lacking)} sound segments lack, {len(whole)} of them in the "
        f"{whole['video_id'].nunique()} videos that the list leaves out whole",
        f"{len(pairs)} verb-noun pairs; {len(more)} with the segments that lack",
    ]


def _reasons(
    rows: pd.DataFrame,
    videos: Mapping[str, Video],
    states: Mapping[str, ScanRow],
    scans: str | os.PathLike,
) -> list[str]:
    """Return why `clean` would drop each row; "" if it is sound or its video was not scanned."""

    def index_of(video_id: str) -> VideoIndex:
        return load_index(index_path(scans, videos[video_id].participant_id), video_id)

    scanned = rows[rows["video_id"].isin(list(states))].reset_index(drop=True)
    found, _ = clean_split(scanned, index_segments(scanned, videos), videos, states, index_of)
    why = dict(zip(found["narration_id"], found["segment"], strict=True))
    return [why.get(name, "") for name in rows["narration_id"]]
