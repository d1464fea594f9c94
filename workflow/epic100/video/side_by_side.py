"""Process the videos of a participant in parallel, with one progress display."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from epic100.base.progress import Progress
from epic100.video.decoder_process import ProcessError
from epic100.video.sheet import Video

Result = TypeVar("Result")


def complete(
    label: str,
    videos: Sequence[Video],
    known: Callable[[Video], Result | None],
    work: Callable[[Video, "SharedProgress"], Result],
    threads: int,
) -> tuple[list[Result], int]:
    """Get a result for every video; only videos without a known result are processed.

    Args:
        label: Name of the work, for the progress display.
        videos: The videos.
        known: Returns the result of a video if there is one already.
        work: Processes one video.
        threads: Number of videos at once.

    Returns:
        Results in the order of `videos`, and the number of videos that were processed.
    """
    found: dict[str, Result] = {}
    for video in videos:
        if (result := known(video)) is not None:
            found[video.video_id] = result
    waiting = [video for video in videos if video.video_id not in found]
    if waiting:
        found |= side_by_side(label, waiting, work, threads)
    return [found[video.video_id] for video in videos], len(waiting)


def side_by_side(
    label: str,
    videos: Sequence[Video],
    work: Callable[[Video, "SharedProgress"], Result],
    threads: int,
) -> dict[str, Result]:
    """Run `work(video, progress)` for `threads` videos at once.

    `work` waits for a process of its own, so threads are enough. It reports its frames to the
    progress.

    Returns:
        Results by video_id.
    """
    progress = SharedProgress(label, videos)
    pool = ThreadPoolExecutor(max_workers=max(1, threads))

    def run(video: Video) -> Result:
        try:
            return work(video, progress)
        finally:
            progress.finish()

    try:
        results = list(pool.map(run, videos))
    except KeyboardInterrupt:
        progress.stop()  # videos that are being decoded must not be waited for
        raise
    finally:
        # After an interrupt, waiting videos must not start.
        pool.shutdown(cancel_futures=True)
        progress.close()
    return {video.video_id: result for video, result in zip(videos, results, strict=True)}


class SharedProgress:
    """Progress over several videos, updated from several threads."""

    def __init__(self, label: str, videos: Sequence[Video]):
        self._lock = threading.Lock()
        self._seen = {video.video_id: 0 for video in videos}
        self._finished = 0
        self.stopped = False
        self._seconds = 0.0
        self._started = time.monotonic()
        self._bar = Progress(label, sum(v.fps * v.duration for v in videos), "frames")

    def update(self, video: Video, frames: int) -> None:
        """Report that `frames` frames of this video are done.

        Raises:
            ProcessError: The work is to stop, so the process that did them must end.
        """
        if self.stopped:
            raise ProcessError("the work was stopped")
        with self._lock:
            new = frames - self._seen[video.video_id]
            self._seen[video.video_id] = frames
            self._seconds += new / video.fps
            self._tell(new)

    def finish(self) -> None:
        """Report that one more video is done, successful or not."""
        with self._lock:
            self._finished += 1
            self._tell(0)

    def stop(self) -> None:
        """Let the processes end at their next report, and start none again."""
        self.stopped = True

    def close(self) -> None:
        """Log the total."""
        self._bar.close()

    def _tell(self, new: int) -> None:
        speed = self._seconds / max(time.monotonic() - self._started, 1e-9)
        done = f"{self._finished}/{len(self._seen)} videos"
        self._bar.update(new, f"{done}, {speed:.1f}x real time")
