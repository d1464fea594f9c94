"""Read annotations in seconds from an official CSV or a lab's list; turn them into frames.

There are two clocks. The CSV's `start_frame` counts on the annotation clock: 60 frames per second
for EPIC-55 videos, 50 for the extension, whatever the file's own rate. So `start_frame` is *not* an
index into the file: on 59.94 fps files it drifts by seconds. The code below uses the timestamps.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from epic100.base.disk import reading
from epic100.base.errors import NAME, NAME_WORDS, EpicError
from epic100.base.text_table import read_table
from epic100.data.segment_list import COLUMNS, NO_LABEL
from epic100.video.sheet import Video

TIMESTAMP = re.compile(r"^([0-9]{1,4}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,9})?)\Z")
BASE_COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp")
OWNER = "participant_id"  # A CSV may be without this column.
LABEL_COLUMNS = ("verb_class", "noun_class")
# These are the columns of a table of annotations.
ANNOTATED = ("narration_id", "video_id", "start_seconds", "stop_seconds", "verb", "noun")
# Timestamps have steps of 0.01 s. A smaller distance to a full frame is a rounding error.
EPSILON = 1e-6


def load_splits(
    csvs: Mapping[str, str | os.PathLike], videos: Mapping[str, Video], **options: Any
) -> pd.DataFrame:
    """Read the annotations of several splits as one table, with the additional column `split`.

    Args:
        csvs: Annotation files by split.
        videos: Rows of the video sheet by video_id.
        **options: Further arguments of `read_annotations`.
    """
    tables = [
        read_annotations(path, videos, split=split, **options).assign(split=split)
        for split, path in csvs.items()
    ]
    return pd.concat(tables, ignore_index=True)


def read_annotations(
    path: str | os.PathLike,
    videos: Mapping[str, Video],
    *,
    split: str | None,
    classes: Mapping[str, int],
    subset: bool = False,
) -> pd.DataFrame:
    """Read an official CSV (train, validation, or the test timestamps) and check every row.

    Args:
        path: The CSV.
        videos: Rows of the video sheet by video_id.
        split: The split that the video of each row must have in the sheet; `test` has no labels.
            None: rows of train and val, whatever the video's split in the sheet.
        classes: Number of classes by `verbs` and `nouns`.
        subset: Skip rows of videos that are not in the sheet. Otherwise such a row is an error.

    Returns:
        One row per segment in the CSV's order: `narration_id`, `video_id`, `start_seconds`,
        `stop_seconds` (0 is the video's first frame), `verb`, `noun` (-1 in test).

    Raises:
        EpicError: A row is wrong. The error names file, line, column and the expected value.
    """
    labelled = split != "test"
    table = _read_csv(Path(path), BASE_COLUMNS + (LABEL_COLUMNS if labelled else ()))
    table = _rows_in_sheet(path, table, videos, split, subset)
    if OWNER in table:
        owner = table["video_id"].map(lambda video_id: videos[video_id].participant_id)
        _reject(
            path,
            table,
            OWNER,
            bad=table[OWNER] != owner,
            expected="the participant of the row's video_id, as the video sheet has it; correct "
            "the line, or take the official file again",
        )
    _reject(
        path,
        table,
        "narration_id",
        bad=~table["narration_id"].str.fullmatch(NAME),
        expected=NAME_WORDS,
    )
    _reject(
        path,
        table,
        "narration_id",
        bad=table["narration_id"].duplicated(),
        expected="an id that no earlier line has; remove the line that is wrong",
    )
    start = _seconds(path, table, "start_timestamp")
    stop = _seconds(path, table, "stop_timestamp")
    is_late = stop <= start
    remedy = "correct the line"
    if is_late.mean() > 0.5:
        remedy = "the columns start_timestamp and stop_timestamp are swapped: exchange their names"
    _reject(
        path,
        table,
        "stop_timestamp",
        bad=is_late,
        expected=f"a time after start_timestamp; {remedy}",
    )
    table = table.assign(start_seconds=start, stop_seconds=stop, verb=NO_LABEL, noun=NO_LABEL)
    if labelled:
        table["verb"] = _class_ids(path, table, "verb_class", classes["verbs"])
        table["noun"] = _class_ids(path, table, "noun_class", classes["nouns"])
    return table[list(ANNOTATED)].reset_index(drop=True)


def frames_between(
    start_seconds: npt.ArrayLike, stop_seconds: npt.ArrayLike, fps: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Find the frames that a file of constant rate shows in [start, stop), given in seconds.

    Frame i is shown during [i / fps, (i + 1) / fps). So the first frame is floor(start * fps), and
    the frame after the last is ceil(stop * fps). A range has at least one frame.

    Returns:
        The first frames and the frames after the last, int64, counted from 0.
    """
    start = np.floor(np.asarray(start_seconds) * np.asarray(fps) + EPSILON).astype(np.int64)
    stop = np.ceil(np.asarray(stop_seconds) * np.asarray(fps) - EPSILON).astype(np.int64)
    return start, np.maximum(stop, start + 1)


def index_segments(annotations: pd.DataFrame, videos: Mapping[str, Video]) -> pd.DataFrame:
    """Turn annotations into segments in frames of the file, by the sheet's fps and duration.

    A segment that ends after its video is cut to the video's end: P29_05_563 ends 0.013 s after.
    A segment that starts after the end keeps its frames; `clean` drops it once the file's true
    length is measured.

    Returns:
        The columns `segment_list.COLUMNS`, in the order of `annotations`.
    """
    sheet = pd.DataFrame(
        [
            {
                "path": video.path().as_posix(),
                "fps": video.fps,
                "frames": round(video.duration * video.fps),
            }
            for video in videos.values()
        ],
        index=list(videos),
    )
    # Each segment gets the row of its video. NumPy arrays have no index, by which pandas would
    # otherwise match the rows of the two tables.
    video_rows = sheet.loc[annotations["video_id"]]
    start, stop = frames_between(
        annotations["start_seconds"], annotations["stop_seconds"], video_rows["fps"].to_numpy()
    )
    length = video_rows["frames"].to_numpy()
    stop = np.where(start < length, np.minimum(stop, length), stop)
    segments = annotations.assign(path=video_rows["path"].to_numpy(), start=start, stop=stop)
    return segments[list(COLUMNS)].reset_index(drop=True)


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read columns of a CSV as text, and `OWNER` if there is one; the index is the line number."""
    about = (
        "an official EPIC-KITCHENS-100 CSV (github.com/epic-kitchens/"
        f"epic-kitchens-100-annotations) with the columns {', '.join(columns)}; see "
        "`annotations:` in the config"
    )
    rows = read_table(path, columns, about=about, delimiter=",")
    if not rows:
        raise EpicError(f"{path}: no rows below the header; expected one row a segment")
    last_line, last_row = rows[-1]
    _reject_cut(path, last_line, last_row)
    owner_column = (OWNER,) if OWNER in last_row else ()
    return pd.DataFrame(
        {name: [row[name] for _, row in rows] for name in columns + owner_column},
        index=[line for line, _ in rows],
        dtype=str,
    )


def _reject_cut(path: Path, line: int, row: dict[str, str]) -> None:
    """Raise EpicError if the file ends inside its last line, as after an interrupted copy.

    Args:
        path: The CSV. If it ends with a line break, it counts as complete.
        line: Number of the last line.
        row: Values of the last line by column.
    """
    with reading(path) as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
    last_value = list(row.values())[-1]
    # The last column of the official files lists noun classes, such as [3, 4].
    if not last_value or last_value.count("[") != last_value.count("]"):
        raise EpicError(
            f"{path}: line {line}: the last line is cut, so more lines may be missing; expected "
            "the complete file: copy or download it again"
        )


def _rows_in_sheet(
    path: str | os.PathLike,
    table: pd.DataFrame,
    videos: Mapping[str, Video],
    split: str | None,
    subset: bool,
) -> pd.DataFrame:
    """Return the rows whose video is in the sheet, and check the split of each.

    Raises:
        EpicError: A row's video has another split in the sheet, or, without `subset`, is not in it.
    """
    in_sheet = table["video_id"].isin(list(videos))
    if not in_sheet.all():
        _reject_other_capitals(path, table, videos, in_sheet)
    if not subset:
        _reject(
            path,
            table,
            "video_id",
            bad=~in_sheet,
            expected="a video_id of the video sheet; add the video to the sheet, or set `videos: "
            "subset: true` if the sheet is smaller than the annotations on purpose",
        )
    table = table[in_sheet]
    if split is not None:
        split_in_sheet = table["video_id"].map(
            {name: video.split for name, video in videos.items()}
        )
        _reject(
            path,
            table,
            "video_id",
            bad=split_in_sheet != split,
            expected=f"a video whose split is {split} in the video sheet; take the CSV of {split}, "
            "or correct the sheet",
        )
    return table


def _reject_other_capitals(
    path: str | os.PathLike, table: pd.DataFrame, videos: Mapping[str, Video], in_sheet: pd.Series
) -> None:
    """Raise EpicError if a video_id differs from the sheet only in its capitals: `p01_01`."""
    by_lower = {name.lower(): name for name in videos}
    unknown_ids = table["video_id"][~in_sheet]
    # The ids of the sheet that differ from an unknown one only in capitals.
    meant = unknown_ids.str.lower().map(by_lower).dropna()
    if len(meant):
        _reject(
            path,
            table,
            "video_id",
            bad=table.index.isin(meant.index),
            expected=f"{meant.iloc[0]}, as in the video sheet: write ids with the same capitals",
        )


def _reject(
    path: str | os.PathLike, table: pd.DataFrame, column: str, bad: npt.ArrayLike, expected: str
) -> None:
    """Raise EpicError for the first bad row, if there is one.

    Args:
        path: The file, for the error.
        table: The rows. The index is the line number in the file.
        column: The column with the bad value.
        bad: Whether each row is bad.
        expected: The description of a right value, for the error.
    """
    is_bad = np.asarray(bad, dtype=bool)
    if not is_bad.any():
        return
    first_bad = int(np.argmax(is_bad))
    count_note = f" ({is_bad.sum()} such rows)" if is_bad.sum() > 1 else ""
    row = table.iloc[first_bad]
    raise EpicError(
        f"{path}: line {table.index[first_bad]} (narration_id {row['narration_id'] or '?'}), "
        f"column {column}: {str(row[column])!r}{count_note}; expected {expected}"
    )


def _seconds(path: str | os.PathLike, table: pd.DataFrame, column: str) -> pd.Series:
    """Convert a column of timestamps to seconds: `00:01:02.50` is 62.5.

    Raises:
        EpicError: A text is no timestamp.
    """
    matches = [TIMESTAMP.fullmatch(text) for text in table[column]]
    _reject(
        path,
        table,
        column,
        bad=[match is None for match in matches],
        expected="a time HH:MM:SS.ss, no frames or seconds; a spreadsheet changes times: take the "
        "official file again",
    )
    # This loop takes 0.2 s for 67,000 rows, and `str.extract` of pandas takes 1 s. All texts match
    # here, but mypy cannot know it, hence the `if`.
    times = [match.groups() for match in matches if match]
    seconds = [
        3600 * int(hour) + 60 * int(minute) + float(second) for hour, minute, second in times
    ]
    return pd.Series(seconds, table.index, dtype=float)


def _class_ids(path: str | os.PathLike, table: pd.DataFrame, column: str, count: int) -> np.ndarray:
    """Convert a column of class ids to int64.

    Raises:
        EpicError: A text is no integer from 0 to `count - 1`.
    """
    ids = pd.to_numeric(table[column], errors="coerce")
    is_valid = ids.notna() & (ids % 1 == 0) & (ids >= 0) & (ids < count)
    _reject(
        path,
        table,
        column,
        bad=~is_valid,
        expected=f"a class id from 0 to {count - 1} (`classes:` in the config)",
    )
    return ids.to_numpy().astype(np.int64)
