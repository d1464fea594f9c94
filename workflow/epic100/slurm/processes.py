"""Whether a process of this machine still lives, also where its number was given away again."""

import os
from pathlib import Path


def start_of(pid: int) -> int:
    """Start of a process in clock ticks after boot (field 22 of /proc/PID/stat); 0 if it is gone.

    Another user's process may be hidden (`hidepid`): it is there, and its start cannot be read.
    That is -1.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return -1 if _is_there(pid) else 0
    state, *fields = stat.rpartition(")")[2].split()
    return 0 if state == "Z" else int(fields[18])


def lives(pid: int, started: int) -> bool:
    """Whether the process `pid` is the one that began at `started`."""
    return start_of(pid) == started


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
