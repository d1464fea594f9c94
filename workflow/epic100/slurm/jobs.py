"""The jobs of one working directory that are still in Slurm, whoever submitted them.

A job is recognized by its name, which a run gives to all its jobs and epic100.slurm.submission
records in the working directory, or by the path of its log below that directory.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.slurm.commands import ASK_SECONDS, NoAnswerError, message_of, on, real, run, squeue
from epic100.slurm.submission import NAMES, about
from epic100.slurm.wrappers import LOGS

NAMED = {
    "id": "JobID", "cluster": "Cluster", "state": "State", "elapsed": "TimeUsed",
    "partition": "Partition", "user": "UserName", "reason": "Reason",
}  # fmt: skip
FIELDS = (*NAMED.values(), "Name", "Comment", "StdOut")


@dataclass(frozen=True)
class SlurmJob:
    """A pending or running job; `about` is its rule and wildcards."""

    about: str
    id: str
    cluster: str
    state: str
    elapsed: str
    partition: str
    user: str
    reason: str  # why it is pending, as Slurm reports it

    def __str__(self) -> str:
        where = f"{self.cluster}/{self.partition}"
        return (
            f"{self.about}: job {self.id} of {self.user} on {where}, {self.state.lower()}, "
            f"{self.elapsed}"
        )


def jobs_of(
    folder: Path,
    clusters: Sequence[str],
    options: Sequence[str] = (),
    seconds: float = ASK_SECONDS,
) -> list[SlurmJob]:
    """List the jobs of a working directory that have not ended.

    Args:
        folder: The working directory.
        clusters: Clusters to ask; empty means this machine's own.
        options: More options of squeue.
        seconds: Timeout of squeue.

    Raises:
        NoAnswerError: Slurm does not answer.
    """
    names = set((folder / NAMES).read_text().split()) if (folder / NAMES).exists() else set()
    logs = folder.resolve() / LOGS
    found = []
    for row in squeue(FIELDS, clusters, options, seconds):
        log = Path(row["StdOut"])
        if row["Name"] in names or log.is_relative_to(logs):
            place = log.relative_to(logs).parts[:-1] if log.is_relative_to(logs) else ()
            what = about(" ".join(place) if row["Comment"] in ("", "(null)") else row["Comment"])
            found.append(SlurmJob(what, **{own: row[name] for own, name in NAMED.items()}))
    return found


def cancel(jobs: Iterable[SlurmJob]) -> None:
    """Cancel each job by id on its own cluster.

    Raises:
        EpicError: Slurm refuses; for example, only the owner can cancel a job.
    """
    by_cluster: dict[str, list[SlurmJob]] = {}
    for job in jobs:
        by_cluster.setdefault(job.cluster, []).append(job)
    for cluster, some in by_cluster.items():
        done = run([real("scancel"), *on([cluster]), *(job.id for job in some)])
        if done.returncode:
            users = ", ".join(sorted({job.user for job in some}))
            raise EpicError(
                f"scancel on {cluster} failed ({message_of(done)}); the jobs are of user {users}: "
                "ask them to cancel, or wait for the jobs without EPIC100_LEFTOVERS=cancel"
            )


def wait_until_gone(
    folder: Path,
    clusters: Sequence[str],
    show: Callable[[str], None],
    seconds: float,
    is_over: Callable[[], bool],
) -> None:
    """Wait until Slurm has no more jobs of `folder`, or until `is_over`.

    Args:
        folder: The working directory.
        clusters: Clusters to ask; empty means this machine's own.
        show: Gets a line for each job that ends.
        seconds: Interval between two queries.
        is_over: Whether waiting is pointless, because another run has taken the folder over.
    """
    left: dict[str, SlurmJob] = {}
    while True:
        try:
            now = {job.id: job for job in jobs_of(folder, clusters)}
        except NoAnswerError as error:
            show(f"squeue does not tell which jobs have ended ({error}); asking again")
            time.sleep(seconds)
            continue
        for job in left.keys() - now.keys():
            show(f"{left[job].about}: job {job} has ended")
        if not now or is_over():
            return
        left = now
        time.sleep(seconds)
