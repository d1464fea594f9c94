"""Receipts: which file had which md5 when it was read, so that an archive is read once."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from epic100.base.atomic import atomic_path
from epic100.video.sheet import Video

# Snakemake touches what a job has made, so that a fetched file is a little newer than its receipt.
TOUCH_SECONDS = 600


@dataclass(frozen=True)
class Receipt:
    """A file as it was when its md5 was taken.

    `fetched`: by a download, not yet looked at again. `edition`: how often a file of this video has
    changed or gone before.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int
    md5: str
    fetched: bool
    edition: int

    def is_of(self, path: Path) -> bool:
        """Whether the file that stands at `path` now is the one that was read."""
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
    """A folder of receipts, one a video; they outlive the jobs that write them."""

    def __init__(self, folder: str | os.PathLike):
        self._folder = Path(folder)

    def md5_of(self, video: Video, root: str | os.PathLike) -> str | None:
        """The md5 of the video's file, where it was read before and has not changed since."""
        receipt = self._find(video)
        return receipt.md5 if receipt and receipt.is_of(video.path(root)) else None

    def write(
        self, video: Video, root: str | os.PathLike, md5: str, part: Path | None = None
    ) -> None:
        """Note the md5 of the video's file, or of a fetched `part` that is about to become it."""
        path, edition = video.path(root), self.edition([video], root)
        state = (part or path).stat()
        receipt = Receipt(str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino, md5,
                          part is not None, edition)  # fmt: skip
        with atomic_path(self._path(video)) as temporary:
            temporary.write_text(json.dumps(asdict(receipt)), encoding="utf-8")

    def edition(self, videos: Sequence[Video], root: str | os.PathLike) -> int:
        """A number that is another one once a file that was read has changed or gone.

        Snakemake sees files that are newer than a table, not those that `rsync --times` put there,
        nor that one lacks which a rule could bring. Reading or fetching the file writes the same
        number down, so the next look gives it again.
        """
        found = [(self._find(video), video.path(root)) for video in videos]
        return sum(
            receipt.edition + (not receipt.is_of(path)) for receipt, path in found if receipt
        )

    def _find(self, video: Video) -> Receipt | None:
        try:
            return Receipt(**json.loads(self._path(video).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _path(self, video: Video) -> Path:
        return self._folder / f"{video.video_id}.json"
