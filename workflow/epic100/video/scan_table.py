"""The scan table: a row for each video with the state of its file, for `clean` and for people."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

import numpy as np

from epic100.base.text_table import read_own_table, write_table

OK, DAMAGED, UNREADABLE, MISSING = "ok", "damaged", "unreadable", "missing"
STATES = (OK, DAMAGED, UNREADABLE, MISSING)
FULL, DECODER_ONLY, FRAMES = "full", "decoder only", "frames"


@dataclass(frozen=True)
class ScanRow:
    """A row of the scan table: the state of one video. The attributes are the columns, in order.

    Attributes:
        video_id: Such as `P01_01`.
        status: One of `STATES`.
        fps: Measured frames per second; 0 if there are too few frames.
        frames: Number of frames that decode.
        damaged: Half-open ranges of damaged frames, in order and disjoint.
        reason: Why the status is not `ok`, e.g. `3 packets do not decode cleanly`.
        timing: `constant`; or `variable` if only the index tells when a frame is shown.
        pictures: Number of frames that the file has or promises; frames are 0 to `pictures`.
        judged: How damage was searched. `full`: in the errors of the decoder, and in the numbers
            and slices of an H.264 stream. `decoder only`: in the errors of the decoder. `frames`:
            in extracted frames, each by itself. "": not at all, since the file cannot be read.
        md5: MD5 of the file, 32 digits in lower case; "" if it cannot be read.
        coded: Number of frames, including those that an edit list hides.
        stated: Seconds that the container says the frames last; 0 if it does not say.
        finding: The lengths of the frames, in the header and in the sheet, if they differ; "" if
            not. The segments of the video are held back until the config accepts it.
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
        """Make a row of values from JSON, where a range is a list of two numbers.

        Raises:
            ValueError: The keys are not `COLUMNS`.
        """
        if values.keys() != set(COLUMNS):
            raise ValueError(f"other columns than {COLUMNS}")
        return cls(**{**values, "damaged": list(map(tuple, values["damaged"]))})

    @property
    def caution(self) -> str:
        """A warning to show next to each result of this video, or ""."""
        return "judged by its decoder only" if self.judged == DECODER_ONLY else ""

    @property
    def readable(self) -> bool:
        """Whether at least one frame can be read from the file."""
        return self.status in (OK, DAMAGED)


def outside(ranges: Iterable[tuple[int, int]], frames: int) -> np.ndarray:
    """Mark the frames that lie in none of the ranges: bool [frames]."""
    is_outside = np.ones(frames, dtype=bool)
    for start, stop in ranges:
        is_outside[start:stop] = False
    return is_outside


def ranges_of(marks: np.ndarray) -> list[tuple[int, int]]:
    """Find the half-open range of each run of True in a bool [N]: `0 1 1 0` gives `[(1, 3)]`."""
    # The value changes where a run starts and where it stops, in turn.
    edges = np.flatnonzero(np.diff(marks, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


COLUMNS = tuple(f.name for f in fields(ScanRow))


def write_scan_table(rows: Iterable[ScanRow], path: str | os.PathLike) -> None:
    """Write the scan table of a participant, `results/scan/P01.tsv`, atomically."""
    table = []
    for row in rows:
        cells = dict(vars(row))
        cells["damaged"] = ",".join(f"{start}-{stop}" for start, stop in row.damaged)
        # A rate of 50 becomes `50.000000`, then `50.`, then `50`.
        for name in ("fps", "stated"):
            cells[name] = f"{cells[name]:.6f}".rstrip("0").rstrip(".")
        # A cell must have no tab and no end of line.
        cells["reason"] = " ".join(row.reason.split())
        table.append(cells.values())
    write_table(path, COLUMNS, table)


def read_scan_table(path: str | os.PathLike) -> list[ScanRow]:
    """Read a scan table. Overlapping damaged ranges, such as a person may write, are merged.

    Raises:
        EpicError: The table has an invalid value. The message names file, line and column.
    """
    expected_table = (
        f"the scan table of this version, tab-separated {' '.join(COLUMNS)}, with damaged as "
        f"start-stop[,start-stop ...]; to scan again, run `snakemake -R {path}`"
    )
    return [ScanRow(**row) for row in read_own_table(path, PARSERS, about=expected_table)]


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """Make a function that returns a text if it is one of `words`, and else raises ValueError."""
    return lambda text: words[words.index(text)]


def _ranges(text: str) -> list[tuple[int, int]]:
    """Read damaged ranges such as `3-9,20-31`, in order; merge those that overlap or touch."""
    pairs, merged = list[tuple[int, int]](), list[tuple[int, int]]()
    for range_text in filter(None, text.split(",")):
        start, stop = map(int, range_text.split("-"))
        if start >= stop:
            raise ValueError("an empty range")
        pairs.append((start, stop))
    for start, stop in sorted(pairs):
        # The last range may reach this one. Then both become one range.
        if merged and start <= merged[-1][1]:
            start, last_stop = merged.pop()
            stop = max(stop, last_stop)
        merged.append((start, stop))
    return merged


# These functions turn the cell of each column into a value, or raise ValueError.
PARSERS: dict[str, Callable[[str], Any]] = {
    **get_type_hints(ScanRow),
    "status": _one_of(STATES),
    "damaged": _ranges,
    "timing": _one_of(("constant", "variable")),
    "judged": _one_of(("", FULL, DECODER_ONLY, FRAMES)),
}
