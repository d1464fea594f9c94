"""Check whether a process of this machine is still alive, even if its id has been reused."""

import os
from pathlib import Path


def start_of(pid: int) -> int:
    """Start time of a process in clock ticks after boot (field 22 of /proc/PID/stat).

    Returns:
        The start time; 0 if the process is gone or a zombie; -1 if it exists but its start cannot
        be read, since `hidepid` may hide another user's process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return -1 if _is_there(pid) else 0
    state, *fields = stat.rpartition(")")[2].split()
    return 0 if state == "Z" else int(fields[18])


def lives(pid: int, started: int) -> bool:
    """Whether the process `pid` is the one that started at `started` (clock ticks after boot)."""
    return start_of(pid) == started


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
