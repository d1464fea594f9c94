"""The scan table: one row a video, the state of its file. Read by `clean`, readable by people."""

import csv
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from epic100.atomic import atomic_path
from epic100.errors import EpicError

OK, DAMAGED, UNREADABLE, MISSING = "ok", "damaged", "unreadable", "missing"
STATES = (OK, DAMAGED, UNREADABLE, MISSING)


@dataclass(frozen=True)
class ScanRow:
    """State of one video.

    `fps`: as measured, frames a second. `frames`: pictures that decode. `damaged`: half-open
    ranges of file frames. `timing`: `constant`, or `variable` where times go through the index.
    `pictures`: how many the file has or promises, so that frames run from 0 to `pictures`.
    """

    video_id: str
    status: str
    fps: float = 0.0
    frames: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)
    reason: str = ""
    timing: str = "constant"
    pictures: int = 0

    def to_json(self) -> str:
        """One line of JSON, for the cache."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ScanRow":
        """Read back what `to_json` gave."""
        values = json.loads(text)
        values["damaged"] = [tuple(pair) for pair in values["damaged"]]
        return cls(**values)

    @property
    def readable(self) -> bool:
        """Whether some picture can be had from the file."""
        return self.status in (OK, DAMAGED)


COLUMNS = tuple(f.name for f in fields(ScanRow))


def write_scan_table(rows: Iterable[ScanRow], path: str | os.PathLike) -> None:
    """Write `results/scan/{participant}.tsv`, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            ranges = ",".join(f"{start}-{stop}" for start, stop in row.damaged)
            reason = " ".join(row.reason.split())
            fps = f"{row.fps:.6f}".rstrip("0").rstrip(".")
            writer.writerow(
                [
                    row.video_id,
                    row.status,
                    fps,
                    row.frames,
                    ranges,
                    reason,
                    row.timing,
                    row.pictures,
                ]  # fmt: skip
            )


def read_scan_table(path: str | os.PathLike) -> list[ScanRow]:
    """Read a scan table. Raises EpicError naming file, line and field for one edited amiss."""
    path = Path(path)
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
        lacking = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if lacking:
            raise EpicError(
                f"{path}: line 1: column {', '.join(lacking)} missing, so this table is of another "
                f"version; delete it or run `snakemake -R {path}`"
            )
        return [_row(row, f"{path}: line {reader.line_num}", path) for row in reader]


def _row(row: dict, where: str, path: Path) -> ScanRow:
    try:
        if row["status"] not in STATES:
            raise ValueError(f"status {row['status']!r} is none of {', '.join(STATES)}")
        ranges = []
        for text in filter(None, row["damaged"].split(",")):
            start, stop = map(int, text.split("-"))
            if not 0 <= start < stop:
                raise ValueError(f"range {text!r} is empty")
            ranges.append((start, stop))
        return ScanRow(
            row["video_id"], row["status"], float(row["fps"]), int(row["frames"]),
            sorted(ranges), row["reason"], row["timing"], int(row["pictures"]),
        )  # fmt: skip
    except (ValueError, AttributeError, TypeError) as error:
        raise EpicError(f"{where}: {error}; scan again with `snakemake -R {path}`") from error
