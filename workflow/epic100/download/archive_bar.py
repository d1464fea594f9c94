"""One progress bar for all videos that are still missing, although each has its own job."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from epic100.base.atomic import is_alone, open_plain
from epic100.base.progress import Progress
from epic100.download.part import part_state
from epic100.video.sheet import Video

LOOK_SECONDS = 5.0


class ArchiveBar:
    """Progress of a whole archive. The job that holds the lock shows it; the others show nothing.

    The unit is minutes of video, since sizes are unknown before the server is asked. A file that is
    being downloaded counts by its share of bytes.
    """

    def __init__(self, videos: Sequence[Video], root: str | os.PathLike, lock: str | os.PathLike):
        self._videos, self._root = list(videos), Path(root)
        # Open until `close`.
        self._lock = open(open_plain(lock, os.O_WRONLY | os.O_APPEND), "a")  # noqa: SIM115
        self._bar: Progress | None = None
        self._looked = float("-inf")

    def tick(self, note: str) -> None:
        """Look at the archive, at most every `LOOK_SECONDS`, and update the bar with `note`."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        if self._bar is not None:
            self._show(self._bar, f", {note}")
        elif is_alone(self._lock):
            self._bar = Progress("download, all videos", self.lacking()[1], "minutes of video")

    def lacking(self) -> tuple[int, float]:
        """Return (missing files, minutes of video that are still to come)."""
        files, minutes = 0, 0.0
        for video in self._videos:
            path = video.path(self._root)
            if not path.exists():
                came, length = part_state(path)
                files += 1
                minutes += video.duration / 60 * (1 - min(1.0, came / length if length else 0.0))
        return files, minutes

    def close(self) -> None:
        """Finish the bar and release the lock, so that another job can show its own."""
        if self._bar is not None:
            self._show(self._bar)
            self._bar.close()
        self._lock.close()

    def _show(self, bar: Progress, note: str = "") -> None:
        files, minutes = self.lacking()
        bar.update(bar.total - minutes - bar.done, f"{files} files to come{note}")
