"""Segment lists: `path start stop verb noun [narration_id [start_seconds stop_seconds]]`.

The text is UTF-8 with single spaces, a line per segment. `start` and `stop` are frames of the
file: zero-based, half-open. Verb and noun are -1 without a label. The seconds are the seconds of
the annotation; models that others trained choose their frames by them. Paths are relative to the
video root. The first five fields are the lab's own format: its code can read our lists, and ours
can read the lab's.

The clean lists of a run come with the table `dropped.tsv` of the other segments and their reasons.
"""

import io
import os
from collections import Counter
from enum import Enum
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.atomic import write_text
from epic100.base.disk import reading
from epic100.base.errors import EpicError
from epic100.base.text_table import read_own_table, reject_large

SECONDS = ("start_seconds", "stop_seconds")
COLUMNS = ("path", "start", "stop", "verb", "noun", "narration_id", *SECONDS)
NO_LABEL = -1
DROPPED_COLUMNS = ("narration_id", "split", "reason")
DROPPED = "dropped.tsv"  # It is in the folder of the clean lists.
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
            and min(verb, noun) >= NO_LABEL
            and max(verb, noun) < LIMIT
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


class DropReason(Enum):
    """A type of reason to drop a segment: its words, a format of the details, whether it is damage.

    Damage is found by the scan in a file. The other types are known before any file is opened.
    """

    EXCLUDED = "participant left out by the config", " (participants: {})", False
    VIDEO_MISSING = "video missing", "", False
    VIDEO_UNREADABLE = "video unreadable", ": {}", True
    VIDEO_DAMAGED = "video damaged", ": {}", True
    HELD_BACK = "video held back", ": {0}: {1}; to take it: `videos: accept: [{0}]`", True
    AFTER_THE_END = "starts after the video's end", " (frame {})", True
    DAMAGED_FRAMES = "touches damaged frames", " {}-{} ({})", True

    def __init__(self, reason_type: str, details: str, is_damage: bool):
        """Take a member's value apart, since the members above are tuples of these three."""
        self.reason_type, self.details, self.is_damage = reason_type, details, is_damage

    def sentence(self, *details: object) -> str:
        """Return the full reason: `touches damaged frames 3-9 (2 packets do not decode)`."""
        return self.reason_type + self.details.format(*details)

    @classmethod
    def of(cls, sentence: str) -> "DropReason | None":
        """Return the type of reason with which a sentence of `dropped.tsv` begins, or None."""
        return next((reason for reason in cls if sentence.startswith(reason.reason_type)), None)


def reason_type(sentence: str) -> str:
    """Return a reason of `dropped.tsv` without its details: `touches damaged frames`.

    A sentence of no known type is returned unchanged.
    """
    reason = DropReason.of(sentence)
    return reason.reason_type if reason else sentence


def is_damage(sentence: str) -> bool:
    """Whether a reason of `dropped.tsv` is damage. A sentence of no known type counts as damage."""
    reason = DropReason.of(sentence)
    return reason is None or reason.is_damage


def read_dropped(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read the dropped segments, `results/clean/dropped.tsv`, as dicts of the `DROPPED_COLUMNS`.

    Raises:
        EpicError: The file is missing or is not such a table.
    """
    about = f"the segments that the rule clean dropped, tab-separated {' '.join(DROPPED_COLUMNS)}"
    return read_own_table(path, dict.fromkeys(DROPPED_COLUMNS, str), about=about)


def held_back(path: str | os.PathLike) -> list[str]:
    """Return a line per video that is held back: `12 segments: video held back: P01_01: ...`."""
    # The reason names the video, so segments with equal reasons are of one video.
    reasons = Counter(row["reason"] for row in read_dropped(path))
    return [
        f"{count} segments: {reason}"
        for reason, count in reasons.items()
        if DropReason.of(reason) is DropReason.HELD_BACK
    ]


def read_drop_types(path: str | os.PathLike, split: str) -> dict[str, str]:
    """Return the type of reason of each dropped segment of a split, by narration_id.

    Raises:
        EpicError: The table cannot be read (`read_dropped`).
    """
    return {
        row["narration_id"]: reason_type(row["reason"])
        for row in read_dropped(path)
        if row["split"] == split
    }
