"""Slurm, as the library asks it (`epic100.base.scheduler`).

The jobs of a run are those of its name, which the executor gives to all of them, whoever submitted
them and under whatever path the folder is mounted. A job that is ending (COMPLETING) may still
write, so it counts.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from epic100.base.errors import EpicError
from epic100.base.scheduler import ASK_SECONDS, ClusterJob, Grant, Scheduler
from epic100.slurm.commands import message_of, on, run, squeue
from epic100.slurm.site import choose

FIELDS = (
    "JobID",
    "Cluster",
    "Partition",
    "State",
    "TimeUsed",
    "UserName",
    "Reason",
    "Comment",
    "StdOut",
)
# Each pattern matches the start of Slurm's reason for a pending job, and its text explains it.
REASONS = {
    "Priority": "other jobs come first",
    "Resources": "it is next, and waits for a place",
    "ReqNodeNotAvail|Nodes|Partition": "its nodes are down, reserved or closed now",
    r"Assoc\w*(Billing|Minutes)": "the account has no credits left",
    "Assoc|QOS|MaxJobs": "you or your account have as much as is allowed at once",
    "JobHeld": "held: `scontrol release` lets it go on",
    "Dependency|BeginTime|Licenses|Reserv": "not before another job, a time or a license",
    "Invalid|AccountNot|BadConstraints": "it can never start: cancel it, and mend the request",
}
# Older versions of Slurm write `NoDevFiles` for a job without GPUs.
NO_GPU = ("", "-1", "NoDevFiles")


class Slurm(Scheduler):
    """The jobs of one run on Slurm.

    Args:
        names: The run's name, and those of runs whose jobs it has adopted.
        clusters: Clusters of its jobs; empty means this machine's own.
    """

    name: ClassVar[str] = "slurm"

    def __init__(self, names: Sequence[str] = (), clusters: Sequence[str] = ()):
        super().__init__(names=list(names), clusters=list(clusters))

    @classmethod
    def look_up_site(cls, name: str) -> None:
        """As `Scheduler.look_up_site`: those of partitions.yaml."""
        choose(name)

    def jobs(self, seconds: float = ASK_SECONDS) -> list[ClusterJob]:
        """As `Scheduler.jobs`."""
        names, clusters = self.facts["names"], self.facts["clusters"]
        return [_job(row) for row in squeue(FIELDS, clusters, names, seconds=seconds)]

    def cancel(self, jobs: Iterable[ClusterJob]) -> None:
        """As `Scheduler.cancel`: each by its id on its own cluster."""
        by_cluster: defaultdict[str, list[ClusterJob]] = defaultdict(list)
        for job in jobs:
            by_cluster[job.cluster].append(job)
        for cluster, cluster_jobs in by_cluster.items():
            done = run(["scancel", *on([cluster]), *(job.id for job in cluster_jobs)])
            if done.returncode:
                users = ", ".join(sorted({job.user for job in cluster_jobs}))
                raise EpicError(
                    f"scancel on {cluster} failed ({message_of(done)}); the jobs are of user "
                    f"{users}: ask them to cancel, or wait for the jobs without "
                    "`--epic100-leftovers cancel`"
                )

    def granted(self, environment: Mapping[str, str] = os.environ) -> Grant:
        """As `Scheduler.granted`."""
        job, cluster = (environment.get(f"SLURM_{key}", "") for key in ("JOB_ID", "CLUSTER_NAME"))
        gpus = environment.get("SLURM_JOB_GPUS", "").strip()
        evidence = None if gpus.split(",")[0] in NO_GPU else f"SLURM_JOB_GPUS is {gpus}"
        return Grant(job and f"{job}@{cluster}", evidence)

    def on_nodes(self, count: int, wait: float) -> tuple[list[str], str]:
        """As `Scheduler.on_nodes`: a task on each, which keeps all cores of its node."""
        command = [
            "srun",
            f"--nodes={count}",
            f"--ntasks={count}",
            "--ntasks-per-node=1",
            "--cpu-bind=none",
            f"--wait={wait:.0f}",
        ]
        return command, "SLURM_PROCID"


HERE = Slurm


def _job(row: Mapping[str, str]) -> ClusterJob:
    reason = row["Reason"] if row["Reason"] != "None" else ""
    explanations = [
        explanation for pattern, explanation in REASONS.items() if re.match(pattern, reason)
    ]
    return ClusterJob(
        about=about_of(row),
        id=row["JobID"],
        where=f"{row['Cluster']}/{row['Partition']}",
        state=row["State"],
        pending=row["State"] == "PENDING",
        elapsed=row["TimeUsed"],
        user=row["UserName"],
        reason=": ".join([reason, *explanations[:1]]),
        cluster=row["Cluster"],
    )


def about_of(row: Mapping[str, str]) -> str:
    """Rule and wildcards: from the comment, or from the log's path where a site keeps none."""
    if row["Comment"] in ("", "(null)"):
        return " ".join(Path(row["StdOut"]).parts[-3:-1]).removeprefix("rule_")
    return about(row["Comment"])


def about(comment: str) -> str:
    """Rule and wildcards, taken from the comment that the executor gives a job."""
    return comment.removeprefix("rule_").replace("_wildcards_", " ") or "a job"
