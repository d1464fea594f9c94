"""The scan table: one row per video with the state of its file, for `clean` and for people."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import TypeVar

from epic100.base.errors import EpicError
from epic100.base.text_table import read_table, write_table

OK, DAMAGED, UNREADABLE, MISSING = "ok", "damaged", "unreadable", "missing"
STATES = (OK, DAMAGED, UNREADABLE, MISSING)
TIMINGS = ("constant", "variable")
FULL, DECODER_ONLY, QUICK = "full", "decoder only", "quick"
JUDGED = (FULL, DECODER_ONLY, QUICK)


@dataclass(frozen=True)
class ScanRow:
    """State of one video.

    Attributes:
        status: One of `STATES`.
        fps: Measured frames per second; 0 if there are too few pictures.
        frames: Number of pictures that decode.
        damaged: Half-open ranges of file frames, in order and disjoint.
        reason: Why it is not ok, and hints.
        timing: `constant`, or `variable` if times must go through the index.
        pictures: Number of pictures that the file has or promises; frames are 0 to `pictures`.
        judged: What found the damage. `full`: the scan also read the stream's own numbers and
            slices (H.264). `decoder only`: other codecs. `quick`: a quick look. "": not decoded.
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

    def to_json(self) -> str:
        """One line of JSON, for the cache."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ScanRow":
        """Read back the JSON of `to_json`."""
        values = json.loads(text)
        values["damaged"] = [tuple(pair) for pair in values["damaged"]]
        return cls(**values)

    @property
    def readable(self) -> bool:
        """Whether at least one picture can be read from the file."""
        return self.status in (OK, DAMAGED)


COLUMNS = tuple(f.name for f in fields(ScanRow))


def write_scan_table(rows: Iterable[ScanRow], path: str | os.PathLike) -> None:
    """Write `results/scan/{participant}.tsv` atomically."""
    write_table(path, COLUMNS, map(_cells, rows))


def _cells(row: ScanRow) -> list[object]:
    ranges = ",".join(f"{start}-{stop}" for start, stop in row.damaged)
    fps = f"{row.fps:.6f}".rstrip("0").rstrip(".")
    return [
        row.video_id, row.status, fps, row.frames, ranges, " ".join(row.reason.split()), row.timing,
        row.pictures, row.judged,
    ]  # fmt: skip


def read_scan_table(path: str | os.PathLike) -> list[ScanRow]:
    """Read a scan table. Overlapping damaged ranges (from editing by hand) are merged.

    Raises:
        EpicError: The table has an invalid value. The message names file, line and column.
    """
    again = f"to scan again, run `snakemake -R {path}`"
    about = f"the scan table of this version, tab-separated {' '.join(COLUMNS)}; {again}"
    rows: dict[str, ScanRow] = {}
    for line, texts in read_table(path, COLUMNS, about=about):
        row = _row(texts, f"{path}: line {line}", again)
        if row.video_id in rows:
            raise EpicError(
                f"{path}: line {line}: video_id {row.video_id} is there already; "
                f"expected one row a video; {again}"
            )
        rows[row.video_id] = row
    return list(rows.values())


Value = TypeVar("Value")


def _row(texts: dict[str, str], where: str, again: str) -> ScanRow:
    def value(name: str, parse: Callable[[str], Value], expected: str) -> Value:
        try:
            return parse(texts[name])
        except ValueError as error:
            raise EpicError(
                f"{where}: {name} is {texts[name]!r}; expected {expected}; {again}"
            ) from error

    count = "a whole number from 0 on"
    row = ScanRow(
        value("video_id", _name, "the id of a video"),
        value("status", _one_of(STATES), f"one of {', '.join(STATES)}"),
        value("fps", _rate, "frames a second, 0 or more"),
        value("frames", _count, count),
        value("damaged", _ranges, "half-open ranges of frames: start-stop[,start-stop ...]"),
        texts["reason"],
        value("timing", _one_of(TIMINGS), f"one of {', '.join(TIMINGS)}"),
        value("pictures", _count, count),
        value("judged", _one_of(("", *JUDGED)), f"one of {', '.join(JUDGED)}"),
    )
    if row.damaged and row.status == OK:
        raise EpicError(
            f"{where}: status is {OK!r} with the damaged frames {texts['damaged']}; expected "
            f"status {DAMAGED!r}, or no ranges"
        )
    return row


def _name(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return text


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    return lambda text: words[words.index(text)]


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 <= rate < float("inf"):
        raise ValueError("not a rate")
    return rate


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("not a count")
    return int(text)


def _ranges(text: str) -> list[tuple[int, int]]:
    """Ranges in order; those that overlap or touch are merged."""
    merged: list[tuple[int, int]] = []
    pairs = [tuple(map(_count, part.split("-"))) for part in text.split(",") if part]
    for start, stop in sorted(pairs):
        if start >= stop:
            raise ValueError("an empty range")
        if merged and start <= merged[-1][1]:
            start, stop = merged[-1][0], max(stop, merged.pop()[1])
        merged.append((start, stop))
    return merged
