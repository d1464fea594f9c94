"""Results of finished videos, kept between calls: a file a video, also if that is moved or copied.

A result is of the bytes of a file: of its md5. A file of the same path, size and modification time
is taken to have the same bytes. Any other of the same size is read for its md5: after a move or a
new copy, since a scratch disk may remove files that nobody used for a month. A result never serves
another version of the scan, or other columns of the table.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.video.index import VideoIndex
from epic100.video.jobs import keep, kept
from epic100.video.scan_table import QUICK, ScanRow

log = logging.getLogger(__name__)

# Raise it when the scan finds more, so that every file is scanned again.
VERSION = 6


@dataclass(frozen=True)
class Result:
    """What a process found in a video.

    Attributes:
        row: Its row, as measured: `participant.finished_row` makes that of the table.
        index: None if the video cannot be read.
    """

    row: ScanRow
    index: VideoIndex | None = None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Result":
        """Take what `worker.scan_file` found. Raises FileError if it is no such thing."""
        return cls(ScanRow.of(found["row"]), VideoIndex.from_arrays(found["arrays"]))


def seen_at(path: Path, state: os.stat_result) -> dict[str, Any]:
    """Where a file was seen, by which its bytes are known again without a read."""
    return {"path": str(path.resolve()), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def keep_result(place: Path, result: Result, seen: Mapping[str, Any]) -> None:
    """Write a result that has an index, and where its file was seen. Raises DiskError."""
    # Other results are cheap to redo, and permissions may change unnoticed.
    if result.index:
        facts = {"version": VERSION, "seen": seen, "row": vars(result.row)}
        keep(place, facts, result.index)


def kept_result(
    place: Path, seen: Mapping[str, Any], quick: bool, file: Path | None = None
) -> Result | None:
    """The result that is kept of a file, or None.

    Args:
        place: Where it is kept.
        seen: Where the file is seen now.
        quick: Whether that of a quick look is enough.
        file: The file, which is read if it may have the bytes of one that was elsewhere. None: it
            is not read.
    """
    facts, index = kept(place)
    try:
        result, seen_before = Result(ScanRow.of(facts["row"]), index), facts["seen"]
    except (ValueError, KeyError):  # There is none, or it has other columns.
        return None
    if facts["version"] != VERSION or (result.row.judged == QUICK and not quick):
        return None
    if seen_before == seen:
        return result
    if file is None or seen_before["bytes"] != seen["bytes"]:
        return None
    with contextlib.suppress(OSError, EpicError):  # The scan will report this error.
        if digest(file, "md5").value == result.row.md5:
            keep_result(place, result, seen)
            log.info(f"{result.row.video_id}: moved or copied anew, same md5: its result is kept")
            return result
    return None
