"""The record of the run that holds a working directory; only one call can hold it at a time.

It is created exclusively before any file is read, touched twice a minute, and removed at the end. A
run that dies by SIGKILL, or with its connection, leaves it behind: epic100.slurm.takeover.
"""

import getpass
import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.errors import EpicError
from epic100.slurm.commands import NoAnswerError, squeue

RECORD = Path(".snakemake/epic100-run.json")
TOUCH_SECONDS = 30.0
SILENT_SECONDS = 180.0  # an invisible run is dead if its record is untouched for so long

Show = Callable[[str], None]  # shows a line to the user


@dataclass(frozen=True)
class Run:
    """One call of Snakemake: its process, and the Slurm job that it runs in, if any."""

    host: str
    pid: int
    started: int  # clock ticks after boot, because process ids are reused
    clusters: tuple[str, ...] = ()  # for its jobs; empty: the machine's own
    slurm_job: str = ""
    slurm_cluster: str = ""
    user: str = ""
    submits: bool = True  # False until the first job may have been submitted

    @classmethod
    def this(cls, clusters: Sequence[str] = (), env: Mapping[str, str] = os.environ) -> "Run":
        """The run of this process.

        Args:
            clusters: Clusters of its jobs; empty means this machine's own.
            env: Environment variables.
        """
        pid = os.getpid()
        job, cluster = env.get("SLURM_JOB_ID", ""), env.get("SLURM_CLUSTER_NAME", "")
        host = socket.gethostname()
        return cls(host, pid, start_of(pid), tuple(clusters), job, cluster, getpass.getuser())

    def claim(self, folder: Path) -> bool:
        """Create the record in the working directory `folder`; False if there already is one."""
        (folder / RECORD).parent.mkdir(exist_ok=True)
        temporary = folder / RECORD.with_suffix(f".{secrets.token_hex(8)}")
        with temporary.open("x", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self)))
        try:
            os.link(temporary, folder / RECORD)  # atomic, and never replaces another record
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def write(self, folder: Path) -> None:
        """Update the record that this run holds."""
        write_text(folder / RECORD, json.dumps(asdict(self)))

    def is_same(self, other: "Run") -> bool:
        """Whether both are the same call of Snakemake."""
        mine, its = (self.host, self.pid, self.started), (other.host, other.pid, other.started)
        return mine == its

    def __str__(self) -> str:
        job = f", job {self.slurm_job}" if self.slurm_job else ""
        user = f" of {self.user}" if self.user else ""
        return f"process {self.pid}{user} on {self.host}{job}"


def read_run(folder: Path) -> Run | None:
    """The run that holds `folder`, or None.

    Raises:
        EpicError: The record is incomplete or of another version.
    """
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        run = Run(**values)
        return replace(run, clusters=tuple(run.clusters))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise EpicError(f"{folder / RECORD}: {error}; see `squeue`, then remove it") from None


def release(folder: Path, run: Run) -> bool:
    """Remove the record of `run`.

    Returns:
        False, without any change, if the record is gone or belongs to another run.
    """
    taken = folder / RECORD.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
    try:
        os.rename(folder / RECORD, taken)  # if two processes do this, only one succeeds
    except FileNotFoundError:
        return False
    values = json.loads(taken.read_text(encoding="utf-8"))
    if (values["host"], values["pid"], values["started"]) == (run.host, run.pid, run.started):
        taken.unlink()
        return True
    os.rename(taken, folder / RECORD)
    return False


def touch(folder: Path) -> None:
    """Update the record's time to show that this run is alive."""
    if (folder / RECORD).exists():
        os.utime(folder / RECORD)


def is_alive(run: Run, folder: Path, show: Show = print) -> bool:
    """Whether that run is still active.

    This is decided by its process, or by the Slurm job that it runs in. If neither is visible
    (another machine, or another user's hidden processes), it is decided by whether its record is
    still touched; this can take up to 180 s.

    Args:
        run: The run to check.
        folder: The working directory.
        show: Gets a line if the check has to wait.

    Raises:
        NoAnswerError: The run is in a Slurm job, and squeue does not answer.
    """
    if run.host == socket.gethostname() and start_of(run.pid) != -1:
        return lives(run.pid, run.started)
    if run.host != socket.gethostname() and run.slurm_job:
        return _job_is_alive(run)
    last, shown = (folder / RECORD).stat().st_mtime, False
    # A time in the future does not show how long ago the record was touched.
    silent = max(0.0, file_time(folder) - last)
    until = time.monotonic() + SILENT_SECONDS - silent
    while (left := until - time.monotonic()) > 0:
        if not shown:
            show(f"The last run here was {run}, which cannot be seen from here: waiting to see if")
            show("it lives.")
            shown = True
        time.sleep(min(5.0, left))
        if not (folder / RECORD).exists() or (folder / RECORD).stat().st_mtime != last:
            return (folder / RECORD).exists()
    return False


def file_time(folder: Path) -> float:
    """The current time on the clock of the file system, in seconds since 1970."""
    with tempfile.TemporaryFile(dir=folder / ".snakemake") as probe:
        return os.fstat(probe.fileno()).st_mtime


def _job_is_alive(run: Run) -> bool:
    where = [run.slurm_cluster] if run.slurm_cluster else []
    try:
        rows = squeue(["State"], where, ["--jobs", run.slurm_job])
    except NoAnswerError as error:
        if "Invalid job id" in str(error):  # too long ago for Slurm to remember
            return False
        raise
    return any(row["State"] in ("RUNNING", "COMPLETING", "SUSPENDED") for row in rows)


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
