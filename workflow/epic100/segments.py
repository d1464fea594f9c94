"""Segment lists: one line a segment, `path start stop verb noun [narration_id]`.

Single spaces, UTF-8. `start` and `stop` are zero-based, half-open frames of the file's own clock;
verb and noun are -1 where there is no label; paths are relative to the video root. The first five
fields are the lab's own format, so its readers can use our files and ours reads theirs.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.atomic import atomic_path
from epic100.errors import EpicError

COLUMNS = ("path", "start", "stop", "verb", "noun", "narration_id")
NO_LABEL = -1


def write_segments(segments: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a segment list whole or not at all. Raises EpicError for a path that holds a space."""
    for name in segments["path"].unique():
        if any(c.isspace() for c in name):
            raise EpicError(
                f"{path}: the video path {name!r} holds a space, which a segment list cannot; "
                "rename the file"
            )
    columns = [segments[name].astype(str).tolist() for name in COLUMNS]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.writelines(" ".join(fields) + "\n" for fields in zip(*columns, strict=True))


def read_segments(path: str | os.PathLike) -> pd.DataFrame:
    """Read a segment list of five or six fields a line; `narration_id` is "" where it lacks.

    Raises EpicError naming file and line for a line that is not of that form.
    """
    path = Path(path)
    if not path.is_file():
        raise EpicError(f"{path}: no such segment list; the rules annotate and clean write them")
    rows = []
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            fields = line.rstrip("\r\n").split(" ")
            try:
                name, start, stop, verb, noun, *rest = fields
                row = (name, int(start), int(stop), int(verb), int(noun), rest[0] if rest else "")
            except ValueError:
                row = None
            if row is None or len(rest) > 1 or not 0 <= row[1] < row[2]:
                raise EpicError(
                    f"{path}: line {number}: {line.rstrip()[:80]!r}; expected `path start stop "
                    "verb noun [narration_id]` with single spaces and 0 <= start < stop"
                )
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({name: np.int64 for name in ("start", "stop", "verb", "noun")})
