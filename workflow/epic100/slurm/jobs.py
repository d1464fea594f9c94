"""The jobs of one working directory that are still in Slurm, whoever submitted them.

A job is recognized by its working directory, and by the name that the executor gives to all jobs of
a run. A job that is ending (COMPLETING) may still write, so it counts.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.slurm.commands import ASK_SECONDS, message_of, on, run, squeue

NAMED = {
    "id": "JobID", "cluster": "Cluster", "state": "State", "elapsed": "TimeUsed",
    "partition": "Partition", "user": "UserName", "reason": "Reason",
}  # fmt: skip
FIELDS = (*NAMED.values(), "Name", "Comment", "WorkDir", "StdOut")
NAME = re.compile(r"(?:[\w-]+_)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
    return [
        SlurmJob(_about(row), **{own: row[name] for own, name in NAMED.items()})
        for row in squeue(FIELDS, clusters, options, seconds)
        if row["WorkDir"] == str(folder.resolve()) and NAME.fullmatch(row["Name"])
    ]


def _about(row: dict[str, str]) -> str:
    """Rule and wildcards: from the comment, or from the log's path where a site keeps none."""
    if row["Comment"] in ("", "(null)"):
        return " ".join(Path(row["StdOut"]).parts[-3:-1]).removeprefix("rule_")
    return about(row["Comment"])


def about(comment: str) -> str:
    """Rule and wildcards, taken from the comment that the executor gives a job."""
    return comment.removeprefix("rule_").replace("_wildcards_", " ") or "a job"


def cancel(jobs: Iterable[SlurmJob]) -> None:
    """Cancel each job by id on its own cluster.

    Raises:
        EpicError: Slurm refuses; for example, only the owner can cancel a job.
    """
    by_cluster: defaultdict[str, list[SlurmJob]] = defaultdict(list)
    for job in jobs:
        by_cluster[job.cluster].append(job)
    for cluster, some in by_cluster.items():
        done = run(["scancel", *on([cluster]), *(job.id for job in some)])
        if done.returncode:
            users = ", ".join(sorted({job.user for job in some}))
            raise EpicError(
                f"scancel on {cluster} failed ({message_of(done)}); the jobs are of user {users}: "
                "ask them to cancel, or wait for the jobs without EPIC100_LEFTOVERS=cancel"
            )
