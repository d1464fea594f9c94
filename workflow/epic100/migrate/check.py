"""Compare a lab's list with the scans: damaged lines, and sound segments that are missing."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.errors import EpicError
from epic100.base.text_table import write_frame
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


@dataclass(frozen=True)
class Findings:
    """Result of comparing a list with the scans.

    Attributes:
        table: Columns `COLUMNS`. First the lines that are not sound, in order (`line` counts from
            1), then the sound official segments that the list does not have (`line` is 0).
        sound: Number of sound lines.
    """

    table: pd.DataFrame
    sound: int

    def of(self, verdict: str) -> pd.DataFrame:
        """Return the rows with this verdict."""
        return self.table[self.table["verdict"] == verdict]


def check_list(found: LabList, videos: Mapping[str, Video], scans: str | os.PathLike) -> Findings:
    """Compare a list with the scan tables, by the same rules as the rule clean.

    Videos that are in no table get the verdict `not scanned`. Missing segments are reported for
    scanned videos only.

    Args:
        found: The list, from `match_list`.
        videos: All videos of the sheet by id.
        scans: Folder of the tables `{participant}.tsv` and their frame indexes.

    Raises:
        EpicError: There is no scan table, or a frame index is missing.
    """
    tables = sorted(Path(scans).glob("*.tsv"))
    if not tables:
        raise EpicError(f"{scans}: no scan table; expected {{participant}}.tsv of the rule scan")
    states = {row.video_id: row for table in tables for row in read_scan_table(table)}
    reasons = _reasons(found.rows, videos, states, scans)
    lines = found.rows.assign(line=range(1, len(found.rows) + 1), reason=reasons)
    lines["verdict"] = [NOT_SCANNED if v not in states else DAMAGED for v in lines["video_id"]]
    unsound = lines[(lines["reason"] != "") | (lines["verdict"] == NOT_SCANNED)]
    others = found.official.drop(index=found.place[found.matched])
    others = others[others["video_id"].isin(list(states))].reset_index(drop=True)
    sound = [reason == "" for reason in _reasons(others, videos, states, scans)]
    lacking = others[np.array(sound, dtype=bool)]
    listed = set(found.rows["video_id"])
    whole = [video_id not in listed for video_id in lacking["video_id"]]
    why = [WHOLE_VIDEO if missing else "" for missing in whole]
    lacking = lacking.assign(verdict=LACKING, line=0, reason=why)
    table = pd.concat([unsound, lacking])[list(COLUMNS)].reset_index(drop=True)
    return Findings(table, len(lines) - len(unsound))


def write_findings(findings: Findings, path: str | os.PathLike) -> None:
    """Write the table, tab-separated, whole or not at all."""
    write_frame(findings.table, path)


def summary(found: LabList, findings: Findings) -> list[str]:
    """Summarise the findings in lines for people."""
    lines, lacking = found.rows, findings.of(LACKING)
    strange = int((~found.matched).sum())
    report = [
        f"{len(lines)} lines in {lines['video_id'].nunique()} videos; {strange} are no official "
        f"rows, {int(found.relabelled.sum())} of them an official segment with other labels",
        f"{findings.sound} sound, {len(findings.of(DAMAGED))} on damaged frames or videos, "
        f"{len(findings.of(NOT_SCANNED))} in videos that were not scanned",
    ]
    kinds = findings.of(DAMAGED)["reason"].map(kind_of)
    report += [f"  {count}: {kind}" for kind, count in Counter(kinds).most_common()]
    whole = lacking[lacking["reason"] != ""]
    report.append(
        f"{len(lacking)} sound segments lack, {len(whole)} of them in the "
        f"{whole['video_id'].nunique()} videos that the list leaves out whole"
    )
    gained = found.official[found.official["narration_id"].isin(lacking["narration_id"])]
    pairs = set(zip(lines["verb"], lines["noun"], strict=True))
    more = pairs | set(zip(gained["verb"], gained["noun"], strict=True))
    report.append(f"{len(pairs)} verb-noun pairs; {len(more)} with the segments that lack")
    return report


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
