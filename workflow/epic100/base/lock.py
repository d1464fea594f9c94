"""One run in a working folder, one job for a target, and one process for an open file.

Snakemake's own lock keeps two runs out of one folder, and outlives a run that was killed. So each
run leaves a note next to the lock, `HOST_PID.run`. Snakemake removes it together with the lock.

Of several jobs for the same target, the executor notes the newest one (`newest_file`). Each job
compares that note with its own id when it starts, and whenever it writes a file
(`atomic.require_newest`): an older one ends before it touches a file.
"""

import fcntl
import getpass
import hashlib
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from epic100.base.atomic import FENCE, require_newest, write_text
from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.base.machine import process_space

# Snakemake's folder of locks.
LOCKS = Path(".snakemake/locks")


def note_lock() -> None:
    """Leave a note of this run next to the lock that it holds now."""
    note = LOCKS / f"{socket.gethostname()}_{os.getpid()}.run"
    write_text(note, f"{process_space()} {getpass.getuser()}")


def open_lock_of_killed_run(show: Callable[[str], None]) -> bool:
    """Remove the lock of a run that was killed on this machine; show who holds any other lock.

    Args:
        show: Called with each line for the user.

    Returns:
        Whether a lock was removed.
    """
    opened = False
    for note in LOCKS.glob("*.run"):
        # Another call may read the same note. Only the one that removes it opens the lock.
        with suppress(FileNotFoundError, ValueError, EpicError):
            host, _, pid = note.stem.rpartition("_")
            boot, namespace, user = read_text(note).split(maxsplit=2)
            if _is_gone(host, int(pid), boot, namespace):
                note.unlink()
                for lock in LOCKS.glob("*.lock"):
                    lock.unlink(missing_ok=True)
                opened = True
            else:
                run = f"process {pid} of {user} on {host}"
                show(f"{run} holds this folder; once it has ended: `snakemake --unlock`")
    return opened


def _is_gone(host: str, pid: int, boot: str, namespace: str) -> bool:
    """Whether a run has surely ended, as far as this machine can tell."""
    this_boot, this_namespace = process_space().split()
    # A run that has started itself anew finds its own note.
    has_no_process = pid == os.getpid() or not psutil.pid_exists(pid)
    # In another namespace, e.g. in a container, the number belongs to another process.
    has_ended = boot != this_boot or (namespace == this_namespace and has_no_process)
    return host == socket.gethostname() and has_ended


# The folder of the files that `newest_file` names.
NEWEST = Path(".snakemake/epic100-newest")
# Slurm's id of the job in which a process runs.
JOB_ID = "SLURM_JOB_ID"


def newest_file(words: Sequence[str]) -> Path:
    """Return the path of the file that holds the id of the newest job for the same target.

    Args:
        words: The command of a job: a call of Snakemake with `--target-jobs`, and possibly a shell
            around it.
    """
    # Quotes of a shell may be around the same target in one command and not in another.
    text = re.sub(r"[\"'\\]", "", " ".join(words))
    target = re.search(r"--target-jobs (.*?)(?: --|$)", text)
    return NEWEST / hashlib.sha256((target[1] if target else text).encode()).hexdigest()[:16]


def end_if_not_newest(words: Sequence[str] = sys.argv) -> None:
    """End this cluster job if a later job was submitted for the same target.

    The job ends now if there is a later one already, else when it next writes a file (`FENCE`).

    Args:
        words: The command of this process.
    """
    if job_id := os.environ.get(JOB_ID):
        # From now on, `require_newest` and each atomic write compare the id with that in the file.
        os.environ[FENCE] = f"{newest_file(words).absolute()}={job_id}"
    try:
        require_newest()
    except EpicError as error:
        sys.exit(str(error))


def lock(file: int | IO[Any], waits: bool) -> bool:
    """Lock an open file or folder for this process.

    On a file system without locks this does nothing, and reports success.

    Args:
        file: The open file.
        waits: Whether to wait for another process that holds the lock.

    Returns:
        False if another process holds the lock, else True.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # This file system has no locks.
        pass
    return True
