"""Do a job for each video of a participant: several at once, with one progress display.

The result of each job is written to a file, so that a call after an interruption does only the
other jobs.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from epic100.base.errors import DiskError, EpicError
from epic100.base.guarded import ProcessError
from epic100.base.log import Progress
from epic100.video.sheet import Video

Result = TypeVar("Result")
Made = TypeVar("Made", covariant=True)


class VideoJob(Protocol[Made]):
    """The work on one video, such as its scan, or the encoding of its small copy."""

    video: Video

    def settled_result(self) -> Made | None:
        """Return the result if no work is left: by an earlier call, or since none can be done.

        Returns:
            None if `work` must be called.
        """

    def work(self, progress: Callable[[int], None]) -> Made:
        """Do the job and return its result.

        Args:
            progress: Called with the number of frames that are done.

        Raises:
            ProcessError: The process of the job failed, and not because of the video.
            DiskError: The disk failed.
            OSError: The system failed.
        """


def complete(
    label: str, jobs: Sequence[VideoJob[Result]], threads: int, target: str | os.PathLike
) -> tuple[dict[str, Result], int]:
    """Get the result of every job; do only those that have no result yet.

    Args:
        label: Name of the work in the progress display, e.g. `scan P01`.
        jobs: A job for each video.
        threads: Number of jobs at once. The thread of a job waits for a process.
        target: The output of the results, which the error names.

    Returns:
        Results by video_id in the order of the jobs; and the number of jobs that were worked on.

    Raises:
        EpicError: Some jobs failed, and not because of their videos; all others are done.
    """
    results = {job.video.video_id: job.settled_result() for job in jobs}
    pending = [job for job in jobs if results[job.video.video_id] is None]
    errors = list[str]()

    def work(job: VideoJob[Result]) -> None:
        """Do a job in a thread: put its result into `results`, or its error into `errors`."""
        video = job.video
        try:
            results[video.video_id] = job.work(lambda frames: board.tell(video, frames))
        except (ProcessError, DiskError, OSError) as error:
            errors.append(f"{video.video_id}: {error}")
        finally:
            board.finish(video)

    if pending:
        board = _Board(label, [job.video for job in pending])
        pool = ThreadPoolExecutor(max_workers=max(1, threads))
        try:
            # The list waits for all jobs, and raises errors that `work` does not catch.
            list(pool.map(work, pending))
        except KeyboardInterrupt:
            # Running jobs end when they next report progress, so the pool can shut down soon.
            board.stopped = True
            raise
        finally:
            pool.shutdown(cancel_futures=True)  # After an interrupt, no pending job may start.
            board.bar.close()
    if errors:
        raise EpicError(
            f"{target}: not written, since {len(errors)} videos failed and are not at fault: "
            f"{'; '.join(errors)}; what is finished is kept: make room, or wait for a free "
            "machine, and run again"
        )
    return {name: result for name, result in results.items() if result is not None}, len(pending)


class _Board:
    """The progress display of several jobs; the thread of each job reports its frames here.

    Attributes:
        bar: The progress bar.
        stopped: Whether the user interrupted the run, so that all jobs must end.
    """

    def __init__(self, label: str, videos: Sequence[Video]):
        """Show the progress of the jobs of some videos; `label` is the name of the work."""
        self._frames = {video: 0 for video in videos}
        self._finished: list[Video] = []
        self._started = time.monotonic()
        frames = sum(video.fps * video.duration for video in videos)
        self.bar = Progress(label, frames, "frames")
        self.stopped = False

    def tell(self, video: Video, frames: int) -> None:
        """Show how many frames of a video are done, and `2/5 videos, 8.1x real time`.

        Raises:
            KeyboardInterrupt: The user interrupted the run, and the job must end.
        """
        if self.stopped:
            raise KeyboardInterrupt
        new_frames = frames - self._frames[video]
        self._frames[video] = frames
        video_seconds = sum(done / video.fps for video, done in self._frames.items())
        speed = video_seconds / max(time.monotonic() - self._started, 1e-9)
        self.bar.update(
            new_frames,
            f"{len(self._finished)}/{len(self._frames)} videos, {speed:.1f}x real time",
        )

    def finish(self, video: Video) -> None:
        """Show that the job of a video has ended, with a result or an error."""
        self._finished.append(video)
        self.tell(video, self._frames[video])
