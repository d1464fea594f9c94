"""Results of finished videos, kept between calls, also if a file is moved or copied anew.

A result is found by path, size and modification time. They differ after a move or a new copy: a
scratch disk may remove files that nobody used for a month. So beside each result is a text file
with the size and md5 of the bytes that it was made from. Before a file is decoded, a result with
the same size and md5 is taken over. Results of another version of the scan are never used.
"""

import contextlib
import hashlib
import json
import logging
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.checksum import digest
from epic100.base.disk import insist, reading
from epic100.base.errors import EpicError
from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

VERSION = 3  # of the scan; raise it when the scan finds more, so that every file is scanned again

Found = dict[str, np.ndarray]  # arrays of a VideoIndex
Result = tuple[ScanRow, Found]


def result_path(folder: Path, video: Video, path: Path, state: os.stat_result) -> Path:
    """Where the result of a file in this state is kept.

    Args:
        folder: The folder of results.
        video: Its row of the sheet, whose length and rate affect what counts as damage.
        path: The video file.
        state: Its state.
    """
    key = (VERSION, path.resolve(), state.st_size, state.st_mtime_ns,
           video.md5, video.duration, video.fps)  # fmt: skip
    name = hashlib.sha256(" ".join(map(str, key)).encode()).hexdigest()[:16]
    return folder / f"{video.video_id}.{name}.npz"


def load_result(path: Path) -> Result | None:
    """Read the result of a finished video.

    Returns:
        The row and the arrays of its index, or None if there is none or it is incomplete.

    Raises:
        DiskError: The disk fails.
    """
    try:
        with reading(path) as file, np.load(file) as arrays:
            row = ScanRow.from_json(str(arrays["row"]))
            return row, {name: arrays[name] for name in arrays.files if name != "row"}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, EpicError):
            raise
        path.unlink(missing_ok=True)
        return None


def note_contents(kept: Path, path: Path, video: Video) -> None:
    """Write beside a result what it was made from.

    Args:
        kept: The result, `{video_id}.{key}.npz`.
        path: The video file.
        video: Its row of the sheet.

    Raises:
        DiskError: The disk fails.
    """
    with contextlib.suppress(OSError):  # the file itself is gone meanwhile
        about = {**_about(video, path), "md5": digest(path, "md5").value}
        with atomic_path(kept.with_suffix(".md5")) as temporary:
            temporary.write_text(json.dumps(about) + "\n", encoding="utf-8")


def move_result(video: Video, path: Path, place: Path) -> bool:
    """Take over the result of a file with the same bytes, if there is one.

    Args:
        video: The row of the sheet.
        path: The video file.
        place: Where the result is expected for this file.

    Returns:
        Whether a result was moved to its place.

    Raises:
        DiskError: The disk fails.
    """
    try:
        return _move_result(video, path, place)
    except OSError:  # about the file itself; the scan reports it
        return False


def _move_result(video: Video, path: Path, place: Path) -> bool:
    about, found = _about(video, path), ""
    for note in sorted(place.parent.glob(f"{video.video_id}.*.md5")):
        noted, kept = _read(note), note.with_suffix(".npz")
        if any(noted.get(key) != about[key] for key in about):
            continue
        found = found or digest(path, "md5").value
        if noted.get("md5") == found and kept.is_file():
            os.replace(kept, place)
            os.replace(note, place.with_suffix(".md5"))
            log.info(f"{video.video_id}: moved or copied anew, same md5: its result is kept")
            return True
    return False


def _about(video: Video, path: Path) -> dict[str, Any]:
    """What must be the same: the scan, the size, and what of the sheet decides on damage."""
    size = insist(path, "asking for its size", path.stat).st_size
    return {"version": VERSION, "bytes": size, "sheet": [video.md5, video.duration, video.fps]}


def _read(note: Path) -> dict[str, Any]:
    try:
        noted = json.loads(insist(note, "reading", note.read_bytes))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
