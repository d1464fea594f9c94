"""The jobs of one working directory that Slurm still holds, whoever submitted them.

The executor writes each job's output to `.snakemake/slurm_logs/rule_{rule}/{wildcards}/{id}.log`
of the working directory: by that path a job is known as ours, and its rule with it.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.slurm.wrappers import LOGS, real

ASK_SECONDS = 60.0
FORMAT = "JobID:20,Cluster:60,State:20,TimeUsed:20,Partition:60,StdOut:4096"


@dataclass(frozen=True)
class Job:
    """A job that waits or runs; `about` is its rule and wildcards."""

    id: str
    cluster: str
    state: str
    elapsed: str
    partition: str
    about: str

    def __str__(self) -> str:
        where = f"{self.cluster}/{self.partition}"
        return f"{self.about}: job {self.id} on {where}, {self.state.lower()}, {self.elapsed}"


def jobs_of(folder: str | os.PathLike, clusters: Sequence[str]) -> list[Job]:
    """Jobs of the working directory `folder` that have not ended, on the named clusters.

    Raises EpicError where squeue cannot tell.
    """
    where = ["--clusters", ",".join(clusters)] if clusters else []
    command = [real("squeue"), *where, "--me", "--noheader", "--Format", FORMAT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        raise EpicError(f"squeue did not answer within {ASK_SECONDS:.0f} s") from None
    if done.returncode or "error:" in done.stderr:
        raise EpicError(f"squeue cannot tell which jobs still run: {done.stderr.strip()}")
    return list(_parse(done.stdout, (Path(folder).resolve() / LOGS)))


def cancel(jobs: Iterable[Job]) -> None:
    """scancel each job on its own cluster, by id."""
    by_cluster: dict[str, list[str]] = {}
    for job in jobs:
        by_cluster.setdefault(job.cluster, []).append(job.id)
    for cluster, ids in by_cluster.items():
        command = [real("scancel"), "--clusters", cluster, *ids]
        subprocess.run(command, timeout=ASK_SECONDS, check=False)


def wait_until_gone(
    folder: Path, clusters: Sequence[str], tell: Callable[[str], None], seconds: float = 10.0
) -> None:
    """Return when Slurm holds no job of `folder` any more; `tell` hears of every one that ends."""
    left: dict[str, Job] = {}
    while True:
        try:
            now = {job.id: job for job in jobs_of(folder, clusters)}
        except EpicError as error:
            tell(f"{error}; asking again")
            time.sleep(seconds)
            continue
        for job in left.keys() - now.keys():
            tell(f"{left[job].about}: job {job} has ended")
        if not now:
            return
        left = now
        time.sleep(seconds)


def _parse(text: str, logs: Path) -> Iterable[Job]:
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and Path(fields[5].strip()).is_relative_to(logs):
            number, cluster, state, elapsed, partition, out = fields
            rule, *wildcards = Path(out.strip()).relative_to(logs).parts[:-1]
            about = " ".join([rule.removeprefix("rule_"), *wildcards])
            yield Job(number, cluster, state, elapsed, partition, about)
