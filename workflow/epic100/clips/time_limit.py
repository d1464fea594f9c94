"""A clip that does not come: a hanging disk, a pipe in a video's place, a decoder that spins."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from epic100.video.reader import FrameError


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise FrameError in the block after `seconds`; 0 is no limit.

    By a signal, which interrupts waiting for a disk too; so in a process's main thread alone, which
    loaders' workers read in. Elsewhere there is no limit.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise FrameError(f"not read within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    # Once more every second: a library may swallow the first exception.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
