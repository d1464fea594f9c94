"""The time that a process could use, as a measure that a busy machine does not change."""

import contextlib
import os
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class UsableTime:
    """Seconds in which a process computed, or waited of its own will.

    Seconds in which it waited for a core, for memory or for a disk, or in which it was suspended,
    do not count. Without /proc (macOS) all seconds count.

    Args:
        pid: The process. All of its threads count.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._known = self._tasks.exists()
        self._seconds = 0.0
        self._then = time.monotonic()
        self._computed = self._look()[1]

    def seconds(self) -> float:
        """Return the usable seconds since the start. Ask often: it samples the process's state."""
        now = time.monotonic()
        passed, self._then = now - self._then, now
        waits, computed = self._look()
        if waits or not self._known:
            self._seconds += passed
        else:
            self._seconds += min(passed, max(computed - self._computed, 0.0))
        self._computed = computed
        return self._seconds

    def _look(self) -> tuple[bool, float]:
        """Return whether all threads sleep, and the seconds that they computed."""
        states, ticks = set(), 0
        with contextlib.suppress(OSError):  # a thread or the process has just ended
            for stat in self._tasks.glob("*/stat"):
                # See proc_pid_stat(5). The name in parentheses may hold spaces.
                fields = (
                    stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                )
                states.add(fields[0])
                ticks += int(fields[11]) + int(fields[12])
        return states == {"S"}, ticks / TICKS
