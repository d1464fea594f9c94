"""Receipts: the md5 of each file when it was read, so that an archive is read only once."""

import json
import os
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.disk import insist
from epic100.base.errors import DiskError
from epic100.video.sheet import Video

# Snakemake touches the outputs of a job, so a downloaded file is a little newer than its receipt.
TOUCH_SECONDS = 600


def md5_of(video: Video, root: str | os.PathLike, receipts: str | os.PathLike) -> str | None:
    """Return the md5 of a video's file if it was read before and has not changed since.

    Args:
        video: The video.
        root: Folder of the videos.
        receipts: Folder of the receipts, one a video; it is kept between runs.

    Raises:
        DiskError: The disk fails. It must not make a verified file look unread.
    """
    path, receipt = video.path(root), _path(video, receipts)
    try:
        noted = json.loads(insist(receipt, "reading", receipt.read_bytes))
        state = path.stat()
        later = state.st_mtime_ns - noted["mtime_ns"]
        touched = noted["fetched"] and 0 < later < TOUCH_SECONDS * 10**9
        same = (noted["path"], noted["size"]) == (str(path.resolve()), state.st_size)
        return noted["md5"] if same and (later == 0 or touched) else None
    except DiskError:
        raise
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_receipt(
    video: Video,
    root: str | os.PathLike,
    receipts: str | os.PathLike,
    md5: str,
    part: Path | None = None,
) -> None:
    """Store the md5 of a video's file.

    Args:
        video: The video.
        root: Folder of the videos.
        receipts: Folder of the receipts.
        md5: Lower-case hex.
        part: The downloaded part that is about to become the file; None if the file exists.
    """
    path = video.path(root)
    state = (part or path).stat()
    receipt = {
        "path": str(path.resolve()),
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "md5": md5,
        "fetched": part is not None,
    }
    write_text(_path(video, receipts), json.dumps(receipt))


def _path(video: Video, receipts: str | os.PathLike) -> Path:
    return Path(receipts) / f"{video.video_id}.json"
