"""The scan table: one row per video with the state of its file, for `clean` and for people."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

import numpy as np

from epic100.base.text_table import read_own_table, write_table

OK, DAMAGED, UNREADABLE, MISSING = "ok", "damaged", "unreadable", "missing"
STATES = (OK, DAMAGED, UNREADABLE, MISSING)
TIMINGS = ("constant", "variable")
FULL, DECODER_ONLY, QUICK = "full", "decoder only", "quick"
JUDGED = (FULL, DECODER_ONLY, QUICK)


@dataclass(frozen=True)
class ScanRow:
    """State of one video. Its attributes are the columns of the table, in this order.

    Attributes:
        status: One of `STATES`.
        fps: Measured frames per second; 0 if there are too few pictures.
        frames: Number of pictures that decode.
        damaged: Half-open ranges of file frames, in order and disjoint.
        reason: Why it is not ok.
        timing: `constant`, or `variable` if times must go through the index.
        pictures: Number of pictures that the file has or promises; frames are 0 to `pictures`.
        judged: What found the damage. `full`: the scan also read the stream's own numbers and
            slices (H.264). `decoder only`: other codecs. `quick`: a quick look. "": not decoded.
        md5: Of the file's bytes, in lower-case hex; "" if it cannot be read.
        coded: Number of pictures with those that an edit list hides.
        stated: Seconds that the container says the pictures last; 0 if it does not say.
        finding: Why the whole video is in doubt, damaged or not, or "": the lengths that its
            pictures, its header and the sheet give, if they differ. Its segments are held back
            until the config accepts it.
    """

    video_id: str
    status: str
    fps: float = 0.0
    frames: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)
    reason: str = ""
    timing: str = "constant"
    pictures: int = 0
    judged: str = ""
    md5: str = ""
    coded: int = 0
    stated: float = 0.0
    finding: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "ScanRow":
        """Make a row from values that were read from JSON, where a range is a list of two numbers.

        Raises:
            ValueError: The values are not those of `COLUMNS`.
        """
        if values.keys() != set(COLUMNS):
            raise ValueError(f"other columns than {COLUMNS}")
        return cls(**{**values, "damaged": list(map(tuple, values["damaged"]))})

    @property
    def caution(self) -> str:
        """A warning to show beside each result of this video, or ""."""
        return "judged by its decoder only" if self.judged == DECODER_ONLY else ""

    @property
    def readable(self) -> bool:
        """Whether at least one picture can be read from the file."""
        return self.status in (OK, DAMAGED)


def outside(ranges: Iterable[tuple[int, int]], frames: int) -> np.ndarray:
    """Mark the frames that lie in none of the ranges: bool [frames]."""
    sound = np.ones(frames, dtype=bool)
    for start, stop in ranges:
        sound[start:stop] = False
    return sound


def ranges_of(marks: np.ndarray) -> list[tuple[int, int]]:
    """The half-open (start, stop) of each run of True in a bool [N]: `0 1 1 0` gives `(1, 3)`."""
    # The value changes where a run starts and where it stops, in turn.
    edges = np.flatnonzero(np.diff(marks, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


COLUMNS = tuple(f.name for f in fields(ScanRow))


def write_scan_table(rows: Iterable[ScanRow], path: str | os.PathLike) -> None:
    """Write a scan table, `results/scan/{participant}.tsv`, atomically."""
    write_table(path, COLUMNS, map(_cells, rows))


def _cells(row: ScanRow) -> list[object]:
    """The cells of a row for the table: `damaged` as `3-9,20-31`, `fps` as `59.94`."""
    ranges = ",".join(f"{start}-{stop}" for start, stop in row.damaged)
    fractions = {
        name: f"{getattr(row, name):.6f}".rstrip("0").rstrip(".") for name in ("fps", "stated")
    }
    reason = " ".join(row.reason.split())
    # Cells in a new form replace values of the row, whose order they keep.
    return list({**vars(row), **fractions, "damaged": ranges, "reason": reason}.values())


def read_scan_table(path: str | os.PathLike) -> list[ScanRow]:
    """Read a scan table. Overlapping damaged ranges (from editing by hand) are merged.

    Raises:
        EpicError: The table has an invalid value. The message names file, line and column.
    """
    expected_table = (
        f"the scan table of this version, tab-separated {' '.join(COLUMNS)}, with damaged as "
        f"start-stop[,start-stop ...]; to scan again, run `snakemake -R {path}`"
    )
    return [ScanRow(**row) for row in read_own_table(path, KINDS, about=expected_table)]


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """A function that returns its text if it is one of `words`, and raises ValueError if not."""
    return lambda text: words[words.index(text)]


def _ranges(text: str) -> list[tuple[int, int]]:
    """Read damaged ranges such as `3-9,20-31`, in order; merge those that overlap or touch."""
    merged: list[tuple[int, int]] = []
    pairs = [tuple(map(int, range_text.split("-"))) for range_text in text.split(",") if range_text]
    for start, stop in sorted(pairs):
        if start >= stop:
            raise ValueError("an empty range")
        if merged and start <= merged[-1][1]:  # The last range reaches this one.
            start, last_stop = merged.pop()
            stop = max(stop, last_stop)
        merged.append((start, stop))
    return merged


KINDS: dict[str, Callable[[str], Any]] = {
    **get_type_hints(ScanRow),
    "status": _one_of(STATES),
    "damaged": _ranges,
    "timing": _one_of(TIMINGS),
    "judged": _one_of(("", *JUDGED)),
}
