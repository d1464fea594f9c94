"""Who runs the workflow in a working directory, and what to do when that one was killed.

A run that submits jobs leaves a record of itself and touches it twice a minute. A run that dies by
SIGKILL, or with its connection, leaves the record, Snakemake's locks, and jobs that go on: the next
one waits for those jobs or cancels them before it looks at any file, so that no two jobs ever write
the same one.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.slurm import queue
from epic100.slurm.wrappers import real

RECORD = Path(".snakemake/epic100-run.json")
LOCKS = Path(".snakemake/locks")
CHOICE = "EPIC100_LEFTOVERS"  # variable: wait (default) or cancel
TOUCH_SECONDS = 30.0
SILENT_SECONDS = 180.0  # a run on another machine that has not touched its record is dead

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One call of Snakemake: the process, and the Slurm job it runs in, if in one."""

    host: str
    pid: int
    started: int  # clock ticks after boot: a process id alone may be another process by now
    clusters: tuple[str, ...]
    slurm_job: str = ""
    slurm_cluster: str = ""

    @classmethod
    def this(cls, clusters: Sequence[str], env: Mapping[str, str] = os.environ) -> "Run":
        """The run of this process, whose jobs go to `clusters`."""
        pid = os.getpid()
        job, cluster = env.get("SLURM_JOB_ID", ""), env.get("SLURM_CLUSTER_NAME", "")
        return cls(socket.gethostname(), pid, _started(pid), tuple(clusters), job, cluster)

    def write(self, folder: Path) -> None:
        """Put the record into the working directory `folder`."""
        with atomic_path(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def __str__(self) -> str:
        job = f", job {self.slurm_job}" if self.slurm_job else ""
        return f"process {self.pid} on {self.host}{job}"


def read_run(folder: Path) -> Run | None:
    """The run that `folder` was left with, or None."""
    try:
        fields = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Run(**{**fields, "clusters": tuple(fields["clusters"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise EpicError(f"{folder / RECORD}: {error}; see `squeue`, then remove it") from None


def settle(folder: Path, tell: Tell, choice: str = "", patience: float = 10.0) -> None:
    """Make sure that no job of an earlier run is left, then let this run have the directory.

    `choice`: "wait" for such jobs or "cancel" them. Does nothing where no run was cut short. Raises
    EpicError where the other run is alive.
    """
    choice = choice or "wait"
    if choice not in ("wait", "cancel"):
        raise EpicError(f"{CHOICE} is {choice!r}; expected wait or cancel")
    run = read_run(folder)
    if run is None:
        return
    if shutil.which("squeue") is None:
        raise EpicError(
            f"jobs of an earlier run here ({run}) may still be in Slurm's queue, and there is no "
            f"squeue to ask: go on where Slurm is, or remove {folder / RECORD} and --unlock"
        )
    if alive(run, folder, tell):
        raise EpicError(f"another run of this workflow is at work here: {run}")
    jobs = _ask(run, folder, tell, patience)
    if jobs:
        tell(f"The last run here ({run}) was cut short. Of its jobs, these have not ended:")
        for job in jobs:
            tell(f"  {job}")
        if choice == "cancel":
            tell(f"Cancelling them, since {CHOICE} is cancel.")
            queue.cancel(jobs)
        else:
            tell(f"Waiting for them ({CHOICE}=cancel cancels them instead; Ctrl-C leaves them).")
        queue.wait_until_gone(folder, run.clusters, tell, patience)
    claimed = folder / RECORD.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
    try:
        os.rename(folder / RECORD, claimed)  # of two that waited, one gets it
    except FileNotFoundError:
        return
    for lock in (folder / LOCKS).glob("*.lock"):
        lock.unlink(missing_ok=True)
    claimed.unlink()


def alive(run: Run, folder: Path, tell: Tell = print) -> bool:
    """Whether that run is still at work. On another machine, only its silence can tell."""
    if run.host == socket.gethostname():
        return _started(run.pid) == run.started
    if run.slurm_job:
        where = ["--clusters", run.slurm_cluster] if run.slurm_cluster else []
        ask = [real("squeue"), *where, "--noheader", "--jobs", run.slurm_job, "--format", "%T"]
        done = subprocess.run(ask, capture_output=True, text=True, timeout=queue.ASK_SECONDS)
        return any(word in done.stdout for word in ("RUNNING", "COMPLETING", "SUSPENDED"))
    last, said = (folder / RECORD).stat().st_mtime, False
    while (silent := _file_time(folder) - last) < SILENT_SECONDS:
        if not said:
            tell(f"The last run here was {run}, not this machine: waiting to see if it lives.")
            said = True
        time.sleep(min(5.0, SILENT_SECONDS - silent))
        if not (folder / RECORD).exists() or (folder / RECORD).stat().st_mtime > last:
            return (folder / RECORD).exists()
    return False


def forget(folder: Path) -> None:
    """Take the record away: this run has ended and left no job."""
    (folder / RECORD).unlink(missing_ok=True)


def touch(folder: Path) -> None:
    """Say that this run is alive."""
    if (folder / RECORD).exists():
        os.utime(folder / RECORD)


def _ask(run: Run, folder: Path, tell: Tell, patience: float) -> list[queue.Job]:
    while True:
        try:
            return queue.jobs_of(folder, run.clusters)
        except EpicError as error:
            tell(f"{error}; asking again, since jobs of a run that was cut short may be left")
            time.sleep(patience)


def _started(pid: int) -> int:
    """Start of a process in clock ticks after boot (field 22 of proc/pid/stat); 0 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    state, *fields = stat.rpartition(")")[2].split()
    return 0 if state == "Z" else int(fields[18])


def _file_time(folder: Path) -> float:
    """Now, on the clock of the file system."""
    probe = folder / f".snakemake/epic100-now.{socket.gethostname()}.{os.getpid()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
