"""Download one video of the sheet and verify its md5."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from epic100.base.checksum import Checksum, digest
from epic100.base.errors import EpicError
from epic100.download.archive_bar import ArchiveBar
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
    archive: Sequence[Video] = (),
) -> None:
    """Download `video` and write a receipt, so that it is not read again.

    Args:
        video: The video, with its URL.
        root: Folder of the videos.
        receipts: Folder of receipts.
        settings: How patient it is.
        archive: All videos of the run, for the common progress bar.

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
    started = time.monotonic()

    def watch(size: int, length: int | None) -> None:
        of = f" of {length / 1e6:.0f}" if length else ""
        bar.tick(f"{video.video_id} at {size / 1e6:.0f}{of} MB")

    def seal(part: Path) -> None:
        md5 = (checksum or digest(part, "md5")).value
        write_receipt(video, root, receipts, md5, part)

    with closing(ArchiveBar(archive, root, Path(receipts) / "bar.lock")) as bar:
        fetch(video.url, path, checksum, settings=settings, watch=watch, seal=seal)
    size, spent = path.stat().st_size / 1e6, time.monotonic() - started
    held = "md5 as the sheet says" if checksum else "the sheet has no md5 to hold it to"
    log.info(f"{video.video_id}: {size:.1f} MB in {spent:.1f} s, {held}")
