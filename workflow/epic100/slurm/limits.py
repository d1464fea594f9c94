"""Compare the resources of jobs with the limits of the site's partitions before submitting any job.

Snakemake silently keeps a profile's expression as text if it fails or uses an unset variable. Slurm
silently allocates more cores if a job requests more memory. Both are detected here.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from epic100.slurm.site import NO_ACCOUNT, Partition, Partitions, read_partitions

Resources = Mapping[str, Any]  # one job's resources, resolved by Snakemake

# Every rule but one is a process on one node and starts others itself; more would idle but be
# charged. A training over several nodes has `mpi` and as many tasks as nodes.
SINGLE = ("nodes", "tasks", "tasks_per_gpu", "tasks_per_node")
WHOLE = (
    "runtime", "mem_mb", "mem_mb_per_cpu", "gpu", "cpus_per_task", "cpus_per_gpu", *SINGLE,
)  # fmt: skip
NAME = re.compile(r"[\w.-]+")


def cluster_of(resources: Resources) -> str:
    """The cluster that the executor passes to sbatch; "" if it passes none."""
    names = (resources.get(key) for key in ("cluster", "clusters", "slurm_cluster"))
    return str(next(filter(None, names), ""))


def cores_of(resources: Resources, threads: int) -> int:
    """Cores that the executor requests (get_cpu_setting of snakemake-executor-plugin-slurm).

    Args:
        resources: Resources of the job.
        threads: Threads of the job, used if neither cpus_per_task nor cpus_per_gpu is set.
    """
    if resources.get("cpus_per_task"):
        return int(resources["cpus_per_task"])
    if resources.get("gpu") and resources.get("cpus_per_gpu"):
        return int(resources["gpu"] * resources["cpus_per_gpu"])
    return threads


def excesses(resources: Resources, threads: int, partitions: Partitions) -> list[str]:
    """Describe what is wrong with one job's resources.

    Args:
        resources: Resources of the job; runtime in minutes, memory in MiB.
        threads: Cores requested if neither cpus_per_task nor cpus_per_gpu is set.
        partitions: Partitions by cluster and name.

    Returns:
        One sentence per problem; empty if the job may be submitted.
    """
    wrong = [
        f"{name} is {resources[name]!r}, not a whole number: an expression that fails stays text"
        for name in WHOLE
        if name in resources and type(resources[name]) is not int
    ]
    cluster, name = cluster_of(resources), str(resources.get("slurm_partition"))
    # Without a name of a cluster it is the machine's own.
    here = [p for named in partitions.values() for p in named.values() if p.clusters == cluster]
    at = next((partition for partition in here if partition.name == name), None)
    if at is None or at.pays:
        wrong += _account(resources.get("slurm_account"))
    if not here:
        return [*wrong, f"cluster {cluster!r} is none of {', '.join(partitions)}"]
    if at is None:
        known = ", ".join(partition.name for partition in here)
        return [*wrong, f"partition {name!r} is none of {here[0].cluster}'s: {known}"]
    return wrong or list(_over(resources, threads, at))


def _account(account: object) -> Iterator[str]:
    if not account or not NAME.fullmatch(str(account)):
        yield f"slurm_account is {account!r}, not the name of a credit account"
    elif account == NO_ACCOUNT:
        yield (
            f"slurm_account is still {NO_ACCOUNT}: set yours, or EPIC100_ACCOUNT (`sam-balance` "
            "lists them)"
        )


def _over(resources: Resources, threads: int, at: Partition) -> Iterator[str]:
    several = resources.get("mpi") and resources.get("tasks") == resources.get("nodes")
    nodes = resources.get("nodes", 1) if several else 1
    gpus, uneven = divmod(resources.get("gpu", 0), nodes)  # on each node, like all below
    if uneven:
        yield f"{resources['gpu']} GPUs on {nodes} nodes; expected as many on each"
    cores = cores_of({**resources, "gpu": gpus}, threads)
    per_core = resources.get("mem_mb_per_cpu", 0)
    memory = per_core * cores if per_core else resources.get("mem_mb", 0)
    where = f"{at.cluster}/{at.name}"
    for name in SINGLE:
        if not several and resources.get(name, 1) > 1:
            yield f"{name} is {resources[name]}: each rule is one task on one node, the rest idles"
    if resources.get("runtime", 0) > at.hours * 60:
        yield f"{resources['runtime']} minutes on {where}, which gives {at.hours * 60:.0f}"
    if cores > at.cores:
        yield f"{cores} cores on {where}, whose nodes have {at.cores}"
    if gpus > at.gpus:
        yield f"{gpus} GPUs on {where}, whose nodes have {at.gpus or 'none'}"
        return
    if at.gpus and not gpus:
        yield f"no GPU on {where}, which wants at least one"
        return
    if gpus and cores > gpus * at.cores_per_gpu:
        yield f"{cores} cores with {gpus} GPUs on {where}, which gives {at.cores_per_gpu} a GPU"
    if gpus and memory > gpus * at.mem_mb_per_gpu:
        yield f"{memory} MiB with {gpus} GPUs on {where}, which gives {at.mem_mb_per_gpu} a GPU"
    elif memory > cores * at.mem_mb_per_core:
        need = -(-memory // at.mem_mb_per_core)
        yield (
            f"{memory} MiB with {cores} cores on {where}, which gives {at.mem_mb_per_core} a core: "
            f"Slurm would take, and charge, {need} cores"
        )


def refusal(jobs: Iterable[tuple[str, int, Resources, int]], path: str | os.PathLike[str]) -> str:
    """Describe everything that is wrong with `jobs` in one text, or return "".

    Args:
        jobs: (name, attempt, resources, threads) of each job. A problem of several jobs is one
            line.
        path: The file of partitions.
    """
    partitions = read_partitions(path)
    found: dict[str, dict[str, int]] = {}
    # Snakemake holds its jobs in a set: their order differs from one run to the next.
    for name, attempt, resources, threads in sorted(jobs, key=lambda job: job[:2]):
        for excess in excesses(resources, threads, partitions):
            found.setdefault(excess, {}).setdefault(name, attempt)
    if not found:
        return ""
    lines = [f"{_some(names)}: {excess}" for excess, names in found.items()]
    return "\n".join([f"Nothing was submitted: the site ({path}) would not have it.", *lines])


def _some(jobs: Mapping[str, int]) -> str:
    names = [f"{name} (retry {first - 1})" if first > 1 else name for name, first in jobs.items()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
