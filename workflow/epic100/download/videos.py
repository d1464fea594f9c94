"""Download one video of the sheet and verify its md5."""

import logging
import os
from pathlib import Path

from epic100.base.disk import Checksum, digest
from epic100.base.errors import EpicError
from epic100.base.log import Progress
from epic100.download.fetch import USUAL, FetchSettings, fetch
from epic100.download.receipts import write_receipt
from epic100.video.sheet import Video

log = logging.getLogger(__name__)


def download_video(
    video: Video,
    root: str | os.PathLike,
    receipts: str | os.PathLike,
    *,
    settings: FetchSettings = USUAL,
) -> None:
    """Download `video` and write a receipt, so that it is not read again.

    Args:
        video: The video, with its URL.
        root: Folder of the videos.
        receipts: Folder of receipts.
        settings: How patient it is.

    Raises:
        EpicError: A file of that name exists, which a download must not overwrite; or as in
            `fetch`.
    """
    path = video.path(root)
    if os.path.lexists(path):
        raise EpicError(
            f"{path}: there already; a download writes over nothing: run again to have it "
            "verified, or remove it to have it fetched"
        )
    checksum = Checksum("md5", video.md5.lower()) if video.md5 else None
    progress: Progress | None = None

    def watch(size: int, length: int | None) -> None:
        nonlocal progress
        progress = progress or Progress(video.video_id, (length or 0) / 1e6, "MB")
        progress.update(size / 1e6 - progress.done)

    def seal(part: Path) -> None:
        md5 = (checksum or digest(part, "md5")).value
        write_receipt(video, root, receipts, md5, part)

    fetch(video.url, path, checksum, settings=settings, watch=watch, seal=seal)
    if progress is not None:
        progress.close()
    held = "md5 as the sheet says" if checksum else "the sheet has no md5 to hold it to"
    log.info(f"{video.video_id}: {held}")
