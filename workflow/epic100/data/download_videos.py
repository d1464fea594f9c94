"""Download the videos of an archive, and check every video file against the sheet's md5.

A download is compared with the sheet's md5 before the file gets its name. For any other file the
scan computes the md5, since it reads every byte anyway; nothing is read a second time.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.disk import Checksum
from epic100.base.errors import EpicError
from epic100.data.fetch import fetch
from epic100.video.scan_table import ScanRow, read_scan_table
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

VERIFIED, WRONG, UNVERIFIED = "verified", "wrong", "unverified"
NAMED = 5  # The maximum number of videos that an error names.


def download_video(video: Video, root: str | os.PathLike) -> None:
    """Download a video into the folder of its participant, and compare its md5 with the sheet's.

    Args:
        video: The row of the sheet, with a URL.
        root: Folder of the videos.

    Raises:
        EpicError: A file of that name exists, which a download must not overwrite; or the download
            fails (`fetch`).
    """
    path = video.path(root)
    if os.path.lexists(path):
        raise EpicError(
            f"{path}: there already; a download writes over nothing: run again to have it "
            "verified, or remove it to have it fetched"
        )
    checksum = Checksum("md5", video.md5.lower()) if video.md5 else None
    fetch(video.url, path, checksum)
    verdict = "md5 as the sheet says" if checksum else "the sheet has no md5 to hold it to"
    log.info(f"{video.video_id}: {verdict}")


def write_videos_ok(
    videos: Sequence[Video], tables: Sequence[str | os.PathLike], out: str | os.PathLike
) -> None:
    """Check that each video is readable and has the md5 of the sheet, and write `videos.ok`.

    The file has one sentence: `700 videos: 690 verified, 10 unverified`.

    Args:
        videos: The rows of the sheet.
        tables: The scan tables of these videos.
        out: The file to write, `results/videos.ok`.

    Raises:
        EpicError: Some videos are wrong, unreadable or missing; the message counts and names them.
    """
    rows = {row.video_id: row for table in tables for row in read_scan_table(table)}
    states = {video.video_id: _state(video, rows[video.video_id]) for video in videos}
    counts = ", ".join(f"{count} {state}" for state, count in Counter(states.values()).items())
    summary = f"{len(states)} videos: {counts}"
    if bad := [name for name in states if states[name] not in (VERIFIED, UNVERIFIED)]:
        first_bad = ", ".join(f"{name} {states[name]}" for name in bad[:NAMED])
        others = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise EpicError(
            f"{out}: not written: {len(bad)} of {len(states)} videos are not what the sheet "
            f"says: {first_bad}{others}; all are in {Path(tables[0]).parent}/*.tsv; with `videos: "
            "download: true` what is missing is fetched, and a wrong file once it is removed"
        )
    write_text(out, f"{summary}\n")
    log.info(summary)


def _state(video: Video, row: ScanRow) -> str:
    """Return `verified`, `wrong` or `unverified`, by md5; else the scan's status of the video."""
    if not row.readable:
        return row.status
    if not video.md5:
        return UNVERIFIED
    return VERIFIED if row.md5 == video.md5.lower() else WRONG
