"""Results of finished videos, kept between calls: a file a video, also if that is moved or copied.

A result serves the file that it is of, by path, size and modification time. Path and time differ
after a move or a new copy: a scratch disk may remove files that nobody used for a month. Then it
serves a file of the same size and md5. It never serves another version of the scan, other columns
of the table, or another length, rate or md5 in the sheet.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epic100.base.disk import digest
from epic100.video.index import VideoIndex
from epic100.video.jobs import keep, kept
from epic100.video.scan_table import QUICK, ScanRow
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

VERSION = 6  # of the scan; raise it when the scan finds more, so that every file is scanned again
_MAY_DIFFER = {"path", "mtime_ns"}  # in a file with the same bytes


@dataclass(frozen=True)
class Result:
    """What a process found in a video.

    Attributes:
        row: Its row, as measured: `participant.finished_row` makes that of the table.
        index: None if the video cannot be read.
        md5: Of its bytes; "" after a quick look.
    """

    row: ScanRow
    index: VideoIndex | None = None
    md5: str = ""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Result":
        """Take what `worker.scan_file` found. Raises FileError if it is no such thing."""
        index = VideoIndex.from_arrays(found["arrays"])
        return cls(ScanRow.of(found["row"]), index, found["md5"])


def made_of(video: Video, path: Path, state: os.stat_result) -> dict[str, Any]:
    """What a result is of: the scan, the file, and what of the sheet affects what is damage."""
    return {
        "version": VERSION,
        "sheet": [video.md5, video.duration, video.fps],
        "bytes": state.st_size,
        "path": str(path.resolve()),
        "mtime_ns": state.st_mtime_ns,
    }


def keep_result(place: Path, result: Result, about: Mapping[str, Any]) -> None:
    """Write a result that has an index, and what it is made of, to its place. Raises DiskError."""
    if result.index:  # else it is cheap to redo, and permissions may change unnoticed
        facts = {"about": about, "row": vars(result.row), "md5": result.md5}
        keep(place, facts, result.index)


def kept_result(
    place: Path, about: Mapping[str, Any], quick: bool, file: Path | None = None
) -> Result | None:
    """The result that is kept of a file, or None.

    Args:
        place: Where it is kept.
        about: What it has to be made of.
        quick: Whether that of a quick look is enough.
        file: The file, which is read if it may have the bytes of one that was elsewhere. The result
            of that one is its own then. None: it is not read.

    Raises:
        DiskError: The disk fails.
    """
    facts, index = kept(place)
    try:
        result, made_of = Result(ScanRow.of(facts["row"]), index, facts["md5"]), facts["about"]
    except (ValueError, KeyError):  # there is none, or of other columns
        return None
    differs = {name for name in about if made_of.get(name) != about[name]}
    if not differs:
        return result if quick or result.row.judged != QUICK else None
    if file is None or not result.md5 or not differs <= _MAY_DIFFER:
        return None
    with contextlib.suppress(OSError):  # about the file itself; the scan reports it
        if digest(file, "md5").value == result.md5:
            keep_result(place, result, about)
            log.info(f"{result.row.video_id}: moved or copied anew, same md5: its result is kept")
            return result
    return None
