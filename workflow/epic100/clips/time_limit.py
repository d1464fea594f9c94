"""A time limit for reading: for a hanging disk, a pipe instead of a video, or a hanging decoder."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from epic100.video.reader import FrameError


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the time of a block.

    The limit uses a signal, which also interrupts a wait for the disk. Signals work only in a
    process's main thread, where loader workers read. In other threads there is no limit.

    Args:
        seconds: The limit; 0 means none.

    Raises:
        FrameError: The block takes longer.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise FrameError(f"not read within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    # Repeated every second, because a library may swallow the first exception.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
