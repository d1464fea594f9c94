"""Slurm as a scheduler of the library (`epic100.base.scheduler`): list and cancel jobs, and more.

The executor gives all jobs of a run the same name. By it they are found whoever submitted them, and
under whatever path the folder is mounted. A job that is ending (COMPLETING) may still write, so it
is listed.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from epic100.base.errors import EpicError
from epic100.base.scheduler import ASK_SECONDS, ClusterJob, Grant, Scheduler
from epic100.slurm.commands import clusters_option, message_of, run, squeue
from epic100.slurm.site import choose

# The fields of squeue of which a `ClusterJob` is made.
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
        names: The name of the run, and the names of runs whose jobs it has adopted.
        clusters: The clusters of these jobs; empty means this machine's own.
    """

    name: ClassVar[str] = "slurm"

    def __init__(self, names: Sequence[str] = (), clusters: Sequence[str] = ()):
        """Begin with lists, since the executor adds the names and clusters of an adopted run."""
        super().__init__(names=list(names), clusters=list(clusters))

    @classmethod
    def look_up_site(cls, name: str) -> None:
        """Check that partitions.yaml has this site. Raises EpicError if not."""
        choose(name)

    def jobs(self, seconds: float = ASK_SECONDS) -> list[ClusterJob]:
        """The jobs of the run that are in the queue. Raises NoAnswerError if squeue fails."""
        rows = squeue(FIELDS, self.facts["clusters"], self.facts["names"], seconds=seconds)
        return [_job(row) for row in rows]

    def cancel(self, jobs: Iterable[ClusterJob]) -> None:
        """Cancel these jobs by their ids, with one call of scancel for each cluster.

        Raises:
            EpicError: scancel failed; the error names the users of the jobs.
        """
        by_cluster: defaultdict[str, list[ClusterJob]] = defaultdict(list)
        for job in jobs:
            by_cluster[job.cluster].append(job)
        for cluster, cluster_jobs in by_cluster.items():
            done = run(["scancel", *clusters_option([cluster]), *(job.id for job in cluster_jobs)])
            if done.returncode:
                users = ", ".join(sorted({job.user for job in cluster_jobs}))
                raise EpicError(
                    f"scancel on {cluster} failed ({message_of(done)}); the jobs are of user "
                    f"{users}: ask them to cancel, or wait for the jobs without "
                    "`--epic100-leftovers cancel`"
                )

    def granted(self, environment: Mapping[str, str] = os.environ) -> Grant:
        """The Slurm job and the GPUs that a process with these variables has, as `4711@wice`."""
        job = environment.get("SLURM_JOB_ID", "")
        gpus = environment.get("SLURM_JOB_GPUS", "").strip()
        evidence = None if gpus.split(",")[0] in NO_GPU else f"SLURM_JOB_GPUS is {gpus}"
        return Grant(f"{job}@{environment.get('SLURM_CLUSTER_NAME', '')}" if job else "", evidence)

    def on_nodes(self, count: int, wait: float) -> tuple[list[str], str]:
        """The srun command that starts one task on each node, with all cores of the job there.

        Args:
            count: Nodes.
            wait: Seconds after which all tasks are ended once one has ended.

        Returns:
            The command, and the variable with the number of the node.
        """
        tasks = [f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1"]
        return ["srun", *tasks, "--cpu-bind=none", f"--wait={wait:.0f}"], "SLURM_PROCID"


# The library looks for its schedulers under this name (`epic100.base.scheduler.known_schedulers`).
HERE = Slurm


def _job(row: Mapping[str, str]) -> ClusterJob:
    """Read a job from a row of squeue, with its reason as in `Priority: other jobs come first`."""
    reason = row["Reason"] if row["Reason"] != "None" else ""
    explanations = [
        explanation for pattern, explanation in REASONS.items() if re.match(pattern, reason)
    ]
    return ClusterJob(
        about=job_name_in_row(row),
        id=row["JobID"],
        where=f"{row['Cluster']}/{row['Partition']}",
        state=row["State"],
        pending=row["State"] == "PENDING",
        elapsed=row["TimeUsed"],
        user=row["UserName"],
        reason=": ".join([reason, *explanations[:1]]),
        cluster=row["Cluster"],
    )


def job_name_in_row(row: Mapping[str, str]) -> str:
    """Rule and wildcards of the job in a row of squeue, as `scan P01`.

    They are read from the comment. If the site keeps no comments, the path of the log has them.
    """
    if row["Comment"] in ("", "(null)"):
        # The executor writes the log of a job to `.../rule_scan/P01/4711.log`.
        return " ".join(Path(row["StdOut"]).parts[-3:-1]).removeprefix("rule_")
    return job_name_in_comment(row["Comment"])


def job_name_in_comment(comment: str) -> str:
    """Rule and wildcards in a job's comment: `scan P01` for `rule_scan_wildcards_P01`."""
    return comment.removeprefix("rule_").replace("_wildcards_", " ") or "a job"
