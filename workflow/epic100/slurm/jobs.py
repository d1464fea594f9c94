"""Slurm's own commands, and the jobs of one working directory that are still in its queues.

Commands are called without the user's default options. A job is recognized by its working
directory, and by the name that the executor gives to all jobs of a run, whoever submitted it. A job
that is ending (COMPLETING) may still write, so it counts.
"""

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epic100.base.errors import EpicError

ASK_SECONDS = 60.0
# Variables that set a user's defaults. For example, SQUEUE_STATES=RUNNING hides pending jobs.
DEFAULTS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SLURM_TIME_FORMAT")
FIELD_END = "\x1f"  # comments and paths may contain any printable character


NAMED = {
    "id": "JobID", "cluster": "Cluster", "state": "State", "elapsed": "TimeUsed",
    "partition": "Partition", "user": "UserName", "reason": "Reason",
}  # fmt: skip
FIELDS = (*NAMED.values(), "Name", "Comment", "WorkDir", "StdOut")
NAME = re.compile(r"(?:[\w-]+_)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NoAnswerError(RuntimeError):
    """A Slurm command failed or timed out; the text is its own message."""


def run(command: Sequence[str], seconds: float = ASK_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a command and wait for it.

    Args:
        command: The command and its arguments.
        seconds: Timeout.

    Returns:
        Its result; exit status 124 after a timeout, 127 if it is not installed.
    """
    plain = {k: v for k, v in os.environ.items() if not k.startswith(DEFAULTS)}
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds,
            env=plain, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {seconds:.0f} s")
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"no {command[0]} here")


def squeue(
    fields: Sequence[str],
    clusters: Iterable[str] = (),
    options: Sequence[str] = (),
    seconds: float = ASK_SECONDS,
) -> list[dict[str, str]]:
    """List the jobs of all users that have not ended, each as a dictionary of `fields`.

    Args:
        fields: Names as in `squeue --Format`.
        clusters: Clusters to ask; empty means this machine's own.
        options: More options of squeue.
        seconds: Timeout.

    Raises:
        NoAnswerError: A cluster did not answer, or squeue failed.
    """
    form = ",".join(f"{field}:{FIELD_END}" for field in fields)
    done = run(["squeue", *on(clusters), "--noheader", "--Format", form, *options], seconds)
    # With several clusters, the exit status is 0 even if one of them does not answer.
    if done.returncode or "error:" in done.stderr:
        raise NoAnswerError(message_of(done))
    rows = (line.split(FIELD_END) for line in done.stdout.splitlines())
    return [dict(zip(fields, row, strict=False)) for row in rows if len(row) > len(fields)]


def on(clusters: Iterable[str]) -> list[str]:
    """The option that names clusters; empty for this machine's own cluster."""
    names = ",".join(clusters)
    return ["--clusters", names] if names else []


def message_of(done: subprocess.CompletedProcess[str]) -> str:
    """The error messages of a command as one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or f"exit status {done.returncode}"


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
