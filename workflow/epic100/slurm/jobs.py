"""The jobs of one working directory that Slurm still holds, whoever submitted them.

A job is known by its name, which a run gives to all its jobs and epic100.slurm.submission notes in
the working directory, or by the place of its log below that directory.
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
    """A job that waits or runs; `about` is its rule and wildcards."""

    about: str
    id: str
    cluster: str
    state: str
    elapsed: str
    partition: str
    user: str
    reason: str  # why it waits, in Slurm's word

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
    """Jobs of the working directory `folder` that have not ended, on the named clusters.

    Args:
        folder: The working directory.
        clusters: None of them means the machine's own.
        options: More options of squeue.
        seconds: How long squeue may take.

    Raises:
        NoAnswerError: Slurm does not tell.
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
    """Cancel each job on its own cluster, by id.

    Raises:
        EpicError: Slurm refuses; a job of another user can be cancelled by that user alone.
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
    """Return when Slurm holds no job of `folder`, or when `is_over`.

    Args:
        folder: The working directory.
        clusters: None of them means the machine's own.
        show: Gets a line for each job that ends.
        seconds: Between two questions.
        is_over: Whether there is nothing more to wait for, since another run has the folder.
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
