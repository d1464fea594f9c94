"""Defects of clips: one does not decode, or takes too long."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from epic100.base.errors import some
from epic100.video.reader import FrameError

log = logging.getLogger(__name__)

FEW = 10  # Up to this number, broken clips do not stop a run, unless `max_share` is 0.
SHOWN = 20  # The error names this number of segments at most.


class BrokenClips:
    """Counters of drawn and broken clips, shared with loader workers; too many stop the run.

    Args:
        segments: Number of segments.
        max_share: Fraction of the drawn clips that may be broken, 0 to 1. At 0, the first broken
            clip is an error.

    Attributes:
        drawn: Number of clips drawn, int64 [1]. Who draws a clip adds to it.
        by_segment: Number of broken clips of each segment, int32 [segments].
    """

    def __init__(self, segments: int, max_share: float):
        """Make the counters, in shared memory.

        Workers add without a lock, since it does not matter if a count is lost now and then.
        """
        self.max_share = max_share
        self.drawn = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.by_segment = torch.zeros(segments, dtype=torch.int32).share_memory_()

    def add(self, segment: int, name_of: Callable[[int], str], error: Exception) -> None:
        """Count and log a broken clip.

        Args:
            segment: Index of the segment.
            name_of: Returns the narration_id of a segment index.
            error: Why the clip does not decode.

        Raises:
            FrameError: There are too many broken clips. The error lists their segments.
        """
        self.by_segment[segment] += 1
        count, drawn = int(self.by_segment.sum()), int(self.drawn)
        log.info(f"broken clip {count} of {drawn} drawn: {error}")
        if not self.max_share or count > max(FEW, self.max_share * drawn):
            names = list(map(name_of, self.by_segment.nonzero().flatten().tolist()))
            raise FrameError(
                f"{count} of {drawn} clips do not decode, more than a share of "
                f"{self.max_share:g}: {some(names, SHOWN)}; were videos replaced or "
                f"is the disk failing? Scan them again. The last one: {error}"
            ) from error


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the time of a `with` block, in which a disk, a pipe or a decoder may hang.

    The limit uses the signal SIGALRM, which also interrupts a wait for the disk. Python handles
    signals only in the main thread, where loader workers read. In other threads there is no limit.

    Args:
        seconds: The limit; 0 means none.

    Raises:
        FrameError: The block takes longer.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_time_out(number: int, frame: FrameType | None) -> None:
        """Handle the signal: raise FrameError in the middle of the block."""
        raise FrameError(f"not read within {seconds:g} s")

    old_handler = signal.signal(signal.SIGALRM, raise_time_out)
    # The alarm repeats every second, because a library may swallow the first exception.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)
