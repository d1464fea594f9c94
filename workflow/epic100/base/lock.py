"""The lock of a working folder: whose it is, and that a killed run's lock opens by itself.

Snakemake's own lock keeps two runs out of one folder, and outlives a run that was killed. So each
run leaves a note next to the lock, `HOST_PID.run`. Snakemake removes it together with the lock.
"""

import getpass
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from epic100.base.atomic import write_text
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
    if host != socket.gethostname():
        return False
    this_boot, this_namespace = process_space().split()
    if boot != this_boot:
        return True
    # In another namespace, e.g. in a container, the number belongs to another process. A run that
    # has started itself anew finds its own note.
    return namespace == this_namespace and (pid == os.getpid() or not psutil.pid_exists(pid))
