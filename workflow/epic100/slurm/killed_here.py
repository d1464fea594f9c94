"""Go on after a run on this machine was killed, with the same command.

Snakemake locks a folder and leaves its locks behind if it is killed; they do not say whose they
are. So each run leaves a note with its process while it is active. If all runs with a note are
dead, the locks are of no one. Runs on Slurm have a record of their own (`record`).
"""

import atexit
import contextlib
import os
import socket
from pathlib import Path

import psutil

from epic100.base.errors import EpicError
from epic100.slurm.record import Show, start_of
from epic100.slurm.takeover import LOCKS

NOTES = Path(".snakemake/epic100-runs")  # empty files, HOST.PID.START


def go_on_here(folder: Path, show: Show) -> None:
    """Note this run, and remove the locks of a run that was killed.

    Several runs can be active in a folder; Snakemake refuses one that would write the same files.
    A run on another machine cannot be judged, so its locks stay.

    Args:
        folder: The working directory.
        show: Gets a line if locks are removed.

    Raises:
        EpicError: Jobs of the killed run are still active.
    """
    notes = list((folder / NOTES).glob("*"))
    dead = [note for note in notes if _is_dead(note)]
    locks = list((folder / LOCKS).glob("*.lock"))
    if locks and dead and len(dead) == len(notes):
        if left := _jobs_in(folder):
            raise EpicError(
                f"{folder}: the last run here was killed, but jobs of it are still active "
                f"({', '.join(left)}); wait until they end, or end them with `kill`, then give "
                "the same command"
            )
        show("The last run here was killed; this one goes on from what it finished.")
        for lock in locks:
            lock.unlink(missing_ok=True)
    for note in notes:
        if note in dead or (not locks and not _is_here(note)):  # of another machine, long ago
            note.unlink(missing_ok=True)
    pid = os.getpid()
    mine = folder.resolve() / NOTES / f"{socket.gethostname()}.{pid}.{start_of(pid)}"
    with contextlib.suppress(OSError):  # a full disk, say: the run itself reports it
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.touch()
    atexit.register(lambda: mine.unlink(missing_ok=True))


def _is_here(note: Path) -> bool:
    return note.name.rsplit(".", 2)[0] == socket.gethostname()


def _is_dead(note: Path) -> bool:
    _, pid, started = note.name.rsplit(".", 2)
    return _is_here(note) and start_of(int(pid)) not in (-1, int(started))


def _jobs_in(folder: Path) -> list[str]:
    """Scripts of Snakemake that run in the folder, as `RULE'S SCRIPT, process 123`."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        scripts = [word for word in process.info["cmdline"] or () if "snakemake/scripts/" in word]
        if scripts and process.info["cwd"] == str(folder.resolve()):
            name = Path(scripts[0]).name.partition(".")[2]
            found.append(f"{name}, process {process.info['pid']}")
    return found
