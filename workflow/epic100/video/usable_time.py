"""The time that a process could use: a measure that a busy machine does not change."""

import time

from epic100.base.machine import thread_states


class UsableTime:
    """Seconds in which a process computed, or waited of its own will.

    Seconds in which it waited for a core, for memory or for a disk, or in which it was suspended,
    do not count. Where the system does not tell (macOS), all seconds count.

    Args:
        pid: The process. All of its threads count.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seconds = 0.0
        self._then = time.monotonic()
        self._computed = (thread_states(pid) or (set(), 0.0))[1]

    def seconds(self) -> float:
        """Return the usable seconds since the start. Ask often: it samples the process's state."""
        now = time.monotonic()
        passed, self._then = now - self._then, now
        known = thread_states(self._pid)
        if known is None or known[0] == {"S"}:  # all threads sleep
            self._seconds += passed
        else:
            self._seconds += min(passed, max(known[1] - self._computed, 0.0))
        if known is not None:
            self._computed = known[1]
        return self._seconds
