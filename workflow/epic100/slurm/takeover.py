"""Take over a working directory from a killed run, so that no file ever has two writers.

Jobs and submissions of the killed run may still be active. The new run waits for them or cancels
them before it reads any file. If their state cannot be determined, the new run ends and explains
how to continue.

A run on this machine alone leaves Snakemake's locks behind if it is killed; they do not say whose
they are. So each run leaves a note with its process while it is active. If all runs with a note are
dead, the locks are of no one. Runs on Slurm have a record of their own.
"""

import atexit
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from epic100.base.errors import EpicError
from epic100.slurm import jobs
from epic100.slurm.commands import NoAnswerError
from epic100.slurm.record import (
    RECORD,
    Run,
    Show,
    file_time,
    is_alive,
    lives,
    read_run,
    release,
    start_of,
)
from epic100.slurm.submission import MARKERS, NAMES, STOP, Marker

T = TypeVar("T")
LOCKS = Path(".snakemake/locks")
NOTES = Path(".snakemake/epic100-runs")  # empty files, HOST.PID.START
CHOICE = "EPIC100_LEFTOVERS"  # variable: wait (default) or cancel
GONE = "EPIC100_GONE_CLUSTERS"  # variable: clusters that no longer exist
JUDGE_SECONDS = float(os.environ.get("EPIC100_JUDGE_SECONDS", 300))
ARRIVAL_SECONDS = 30.0  # by then, a killed sbatch's request is in the queue or lost


def take_over(
    folder: Path, mine: Run, show: Show, choice: str = "", patience: float = 10.0
) -> None:
    """Make `mine` the only run of the working directory `folder`.

    Args:
        folder: The working directory.
        mine: The run of this process.
        show: Gets a line for each thing that happens.
        choice: "wait" for jobs that are left, or "cancel" them; "" means wait.
        patience: Seconds between two queries to Slurm.

    Raises:
        EpicError: Another run is active, or it cannot be determined whether jobs are left.
    """
    choice = choice or "wait"
    if choice not in ("wait", "cancel"):
        raise EpicError(f"{CHOICE} is {choice!r}; expected wait or cancel")
    left = False
    while not mine.claim(folder):
        other = read_run(folder)
        if other is None:
            continue
        if other.is_same(mine):
            return
        _end_of(other, folder, show, choice, patience)
        release(folder, other)  # or another waiting call has done it
        left = True
    for path in (folder / STOP, folder / NAMES, *(folder / MARKERS).glob("*.json")):
        path.unlink(missing_ok=True)
    if left:  # Snakemake's locks are the dead run's: this record keeps every other run out
        for lock in (folder / LOCKS).glob("*.lock"):
            lock.unlink(missing_ok=True)


def _end_of(run: Run, folder: Path, show: Show, choice: str, patience: float) -> None:
    """Return when `run` and everything that it started have ended."""
    gone = os.environ.get(GONE, "").replace(",", " ").split()
    elsewhere = run.host != socket.gethostname()
    if not (elsewhere and run.slurm_cluster in gone) and _ask(
        lambda: is_alive(run, folder, show), run, folder, show, patience
    ):
        raise EpicError(f"another run of this workflow is at work here: {run}")
    if not run.submits:
        return
    _wait_for_submissions(folder, show)
    clusters = [name for name in run.clusters if name not in gone]
    if run.clusters and not clusters:
        return
    left = _ask(lambda: jobs.jobs_of(folder, clusters), run, folder, show, patience)
    if not left:
        return
    show(f"The last run here ({run}) was cut short. Of its jobs, these have not ended:")
    for job in left:
        show(f"  {job}")
    if choice == "cancel":
        show(f"Cancelling them, since {CHOICE} is cancel.")
        jobs.cancel(left)
    else:
        show(f"Waiting for them ({CHOICE}=cancel cancels them instead; Ctrl-C leaves them).")
    jobs.wait_until_gone(folder, clusters, show, patience, lambda: read_run(folder) != run)


def _ask(question: Callable[[], T], run: Run, folder: Path, show: Show, patience: float) -> T:
    """Ask Slurm a question, and repeat it for a while if there is no answer.

    Raises:
        EpicError: There is no answer; the error explains how to continue.
    """
    end, shown = time.monotonic() + JUDGE_SECONDS, ""
    while True:
        try:
            return question()
        except FileNotFoundError:
            raise EpicError(
                f"jobs of an earlier run here ({run}) may still be in Slurm's queue, and there is "
                f"no squeue to ask: go on where Slurm is, or remove {folder / RECORD} and --unlock"
            ) from None
        except NoAnswerError as error:
            message = str(error)
        removed = "known by database" in message or "invalid entry for --cluster" in message
        if time.monotonic() > end or ("known by database" in message):
            way_out = f"; a cluster that no longer exists is left out by {GONE}=NAME" * removed
            raise EpicError(
                f"squeue does not tell whether jobs of the last run here ({run}) go on "
                f"({message}): give the same command when it answers{way_out}"
            )
        if message != shown:
            show(f"{message}; asking again, since jobs of a run that was cut short may be left")
            shown = message
        time.sleep(min(patience, max(end - time.monotonic(), 0.1)))


def _wait_for_submissions(folder: Path, show: Show) -> None:
    """Wait until no sbatch of an earlier run is active and killed ones have had time to arrive."""
    shown = False
    while waiting := [m for path, m in Marker.all_of(folder) if _may_arrive(path, m, folder)]:
        if not shown:
            show(f"Waiting for submissions of the last run: {', '.join(m.job for m in waiting)}")
            shown = True
        time.sleep(1.0)


def _may_arrive(path: Path, marker: Marker, folder: Path) -> bool:
    try:
        silent = file_time(folder) - path.stat().st_mtime
    except FileNotFoundError:
        return False
    here = marker.host == socket.gethostname()
    recent = abs(silent) < ARRIVAL_SECONDS  # a time far in the future is not evidence
    return recent or (here and lives(marker.pid, marker.started))


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
