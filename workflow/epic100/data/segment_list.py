"""Segment lists: `path start stop verb noun [narration_id [start_seconds stop_seconds]]`.

The text is UTF-8 with single spaces, a line per segment. `start` and `stop` are frames of the
file: zero-based, half-open. Verb and noun are -1 without a label. The seconds are the seconds of
the annotation; models that others trained choose their frames by them. Paths are relative to the
video root. The first five fields are the lab's own format: its code can read our lists, and ours
can read the lab's.
"""

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.atomic import write_text
from epic100.base.disk import reading
from epic100.base.errors import EpicError
from epic100.base.text_table import reject_large
from epic100.data.drop_reasons import DROPPED, read_dropped

SECONDS = ("start_seconds", "stop_seconds")
COLUMNS = ("path", "start", "stop", "verb", "noun", "narration_id", *SECONDS)
NO_LABEL = -1
LIMIT = 2**63  # The columns are int64.
# A joint list is made from the lists of these splits.
_SPLITS_OF_JOINT_LIST = {"trainval": ("train", "val")}


def write_segments(segments: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a segment list atomically, with seconds if all segments have them.

    Spaces separate the fields: `base.names` allows none in paths and ids.
    """
    has_seconds = set(SECONDS) <= set(segments) and segments[list(SECONDS)].notna().all(axis=None)
    names = [name for name in COLUMNS if has_seconds or name not in SECONDS]
    columns = [segments[name].astype(str).tolist() for name in names]
    write_text(path, "".join(" ".join(row) + "\n" for row in zip(*columns, strict=True)))


def read_segments(path: str | os.PathLike) -> pd.DataFrame:
    """Read a segment list, whose lines have five, six or eight fields.

    Returns:
        One row per segment with the columns `COLUMNS`. A missing `narration_id` is "", missing
        seconds are NaN.

    Raises:
        EpicError: A line does not have this form. The error names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise EpicError(f"{path}: no such segment list; the rules annotate and clean write them")
    reject_large(path, "a segment list")
    try:
        with reading(path) as file:
            lines = io.TextIOWrapper(file, "utf-8")
            rows = [_parse_line(path, number, line) for number, line in enumerate(lines, start=1)]
    except UnicodeDecodeError as error:
        raise EpicError(
            f"{path}: not UTF-8 text ({error}); expected a segment list, as the rules annotate "
            "and clean write them"
        ) from error
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    integers = ("start", "stop", "verb", "noun")
    return table.astype(dict.fromkeys(integers, np.int64) | dict.fromkeys(SECONDS, np.float64))


def read_clean_list(path: str | os.PathLike) -> pd.DataFrame:
    """Read a clean list, `results/clean/{split}.txt`, and reject one that has lost its content.

    A list can be empty for two good reasons: all segments were dropped, for instance because all
    videos are damaged (`dropped.tsv` in the same folder then lists them), or the split has no
    segments. Any other empty list is rejected, since results made from it would be empty, too.

    Raises:
        EpicError: A line is wrong (`read_segments`), or the list is empty without a known reason.
    """
    table = read_segments(path)
    if table.empty and not _may_be_empty(Path(path)):
        raise EpicError(
            f"{path}: no segment in it, and {Path(path).with_name(DROPPED)} has no dropped segment "
            "of this split either; expected the list as the rule clean wrote it: make it again "
            "with `snakemake -R clean`"
        )
    return table


def row_numbers_by(table: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """Return the row numbers of a segment table, int64, for each value of a column.

    The values are in the order of their first occurrence.
    """
    groups = table.groupby(column, sort=False).indices
    return {str(value): np.asarray(row_numbers) for value, row_numbers in groups.items()}


def _parse_line(path: Path, number: int, line: str) -> tuple:
    """Parse one line of a segment list into a value for each of `COLUMNS`, or raise EpicError.

    `P01/P01_01.MP4 20 100 3 7 P01_01_0` gives ("P01/P01_01.MP4", 20, 100, 3, 7, "P01_01_0", NaN,
    NaN).
    """
    try:
        fields = line.rstrip("\r\n").split(" ")
        # Fewer fields raise ValueError, and so does a number that is none.
        name, *numbers = fields[:5]
        optional = fields[5:]
        start, stop, verb, noun = map(int, numbers)
        # The optional fields are the narration_id and the two seconds. Any other number of seconds
        # raises ValueError here.
        start_seconds, stop_seconds = map(float, optional[1:] or ["nan", "nan"])
        is_valid = (
            len(optional) in (0, 1, 3)
            and name != ""
            and 0 <= start < stop < LIMIT
            and all(NO_LABEL <= label < LIMIT for label in (verb, noun))
            and (len(optional) < 3 or 0 <= start_seconds < stop_seconds < np.inf)
            and all(text.isprintable() for text in (name, *optional))
        )
    except ValueError:
        is_valid = False
    if not is_valid:
        raise EpicError(
            f"{path}: line {number}: {line.rstrip()[:80]!r}; expected `path start stop verb noun "
            "[narration_id [start_seconds stop_seconds]]` with single spaces, 0 <= start < stop, "
            f"and labels from {NO_LABEL} on"
        )
    narration_id = optional[0] if optional else ""
    return (name, start, stop, verb, noun, narration_id, start_seconds, stop_seconds)


def _may_be_empty(path: Path) -> bool:
    """Whether a clean list may be empty: its segments were dropped, or its split has none."""
    splits = _SPLITS_OF_JOINT_LIST.get(path.stem, (path.stem,))
    dropped = path.with_name(DROPPED)
    if dropped.is_file() and any(row["split"] in splits for row in read_dropped(dropped)):
        return True
    lists = [path.parent.parent / "segments" / f"{split}.txt" for split in splits]
    return all(file.is_file() and file.stat().st_size == 0 for file in lists)
