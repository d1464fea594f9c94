"""Receipts: the md5 of each file when it was read, so that an archive is read only once."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from epic100.base.atomic import atomic_path
from epic100.base.disk import insist
from epic100.base.errors import DiskError
from epic100.video.sheet import Video

# Snakemake touches the outputs of a job, so a downloaded file is a little newer than its receipt.
TOUCH_SECONDS = 600


@dataclass(frozen=True)
class Receipt:
    """State of a file when its md5 was computed.

    Attributes:
        path: The resolved path.
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds.
        inode: Number of the file on its disk.
        md5: Lower-case hex.
        fetched: Whether a download wrote the receipt and the file was not read again since.
        edition: How often a file of this video has changed or disappeared before.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int
    md5: str
    fetched: bool
    edition: int

    def is_of(self, path: Path) -> bool:
        """Whether the file now at `path` is the one that was read."""
        try:
            state = path.stat()
        except OSError:
            return False
        if (str(path.resolve()), state.st_size) != (self.path, self.size):
            return False
        later = state.st_mtime_ns - self.mtime_ns
        touched = self.fetched and state.st_ino == self.inode and 0 < later < TOUCH_SECONDS * 10**9
        return later == 0 or touched


class Receipts:
    """A folder of receipts, one per video; it is kept between runs."""

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)

    def md5_of(self, video: Video, root: str | os.PathLike) -> str | None:
        """Return the md5 of the video's file if it was read before and has not changed since."""
        receipt = self._find(video)
        return receipt.md5 if receipt and receipt.is_of(video.path(root)) else None

    def write(
        self, video: Video, root: str | os.PathLike, md5: str, part: Path | None = None
    ) -> None:
        """Store the md5 of the video's file.

        Args:
            video: The video.
            root: Folder of the videos.
            md5: Lower-case hex.
            part: The downloaded part that is about to become the file; None if the file exists.
        """
        path, edition = video.path(root), self.edition([video], root)
        state = (part or path).stat()
        receipt = Receipt(str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino, md5,
                          part is not None, edition)  # fmt: skip
        with atomic_path(self._path(video)) as temporary:
            temporary.write_text(json.dumps(asdict(receipt)), encoding="utf-8")

    def edition(self, videos: Sequence[Video], root: str | os.PathLike) -> int:
        """Return a number that changes when a file that was read has changed or disappeared.

        Snakemake notices files that are newer than a table. It does not notice a file that `rsync
        --times` replaced, or a missing file that a rule could make. Reading or downloading the file
        stores the same number, so that the next call returns it again.
        """
        found = [(self._find(video), video.path(root)) for video in videos]
        return sum(
            receipt.edition + (not receipt.is_of(path)) for receipt, path in found if receipt
        )

    def _find(self, video: Video) -> Receipt | None:
        path = self._path(video)
        try:
            # A failing disk must not make a verified file look unread.
            return Receipt(**json.loads(insist(path, "reading", path.read_bytes)))
        except DiskError:
            raise
        except (OSError, ValueError, TypeError):
            return None

    def _path(self, video: Video) -> Path:
        return self._folder / f"{video.video_id}.json"
