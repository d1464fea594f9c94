"""Hold the resources of jobs against what the site's partitions allow, before any is submitted.

Snakemake keeps a profile's expression that fails, and a variable that is not set, as text without
a word; Slurm takes more cores for more memory without a word. Both are found here.
"""

import os
import re
from collections.abc import Iterable, Mapping

from epic100.slurm.site import NO_ACCOUNT, Partition, read_partitions

WHOLE = ("runtime", "mem_mb", "mem_mb_per_cpu", "gpu", "cpus_per_task", "cpus_per_gpu", "tasks")
NAME = re.compile(r"[\w.-]+")


def faults(
    resources: Mapping, threads: int, partitions: Mapping[str, Mapping[str, Partition]]
) -> list[str]:
    """What is wrong with one job's resources, in sentences; none where it may be submitted.

    `resources`: as Snakemake resolved them, runtime in minutes, memory in MiB. `threads` is what
    the executor asks for where neither cpus_per_task nor cpus_per_gpu is set.
    """
    wrong = [
        f"{name} is {resources[name]!r}, not a whole number: an expression that fails stays text"
        for name in WHOLE
        if name in resources and type(resources[name]) is not int
    ]
    cluster = next((str(resources[n]) for n in ("cluster", "clusters") if resources.get(n)), "")
    account = resources.get("slurm_account")
    if not account or not NAME.fullmatch(str(account)):
        wrong.append(f"slurm_account is {account!r}, not the name of a credit account")
    elif account == NO_ACCOUNT:
        wrong.append(
            f"slurm_account is still {NO_ACCOUNT}: set yours, or EPIC100_ACCOUNT (`sam-balance` "
            "lists them)"
        )
    if cluster not in partitions:
        wrong.append(f"cluster {cluster!r} is none of {', '.join(partitions)}")
        return wrong
    name = str(resources.get("slurm_partition", ""))
    if name not in partitions[cluster]:
        known = ", ".join(partitions[cluster])
        wrong.append(f"partition {name!r} is none of {cluster}'s: {known}")
        return wrong
    return wrong or list(_over(resources, threads, partitions[cluster][name]))


def cores_of(resources: Mapping, threads: int) -> int:
    """Cores that the executor asks for (get_cpu_setting of snakemake-executor-plugin-slurm)."""
    if resources.get("cpus_per_task"):
        return resources["cpus_per_task"]
    if resources.get("gpu") and resources.get("cpus_per_gpu"):
        return resources["gpu"] * resources["cpus_per_gpu"]
    return threads


def _over(resources: Mapping, threads: int, at: Partition) -> Iterable[str]:
    cores, gpus = cores_of(resources, threads), resources.get("gpu", 0)
    per_core = resources.get("mem_mb_per_cpu", 0)
    memory = per_core * cores if per_core else resources.get("mem_mb", 0)
    where = f"{at.cluster}/{at.name}"
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


def complaint(jobs: Iterable[tuple[str, int, Mapping, int]], path: str | os.PathLike) -> str:
    """All faults of `jobs` in one text, or "" where all may be submitted.

    `jobs`: (name, attempt, resources, threads) each. A fault that many jobs share is said once.
    """
    partitions = read_partitions(path)
    found: dict[str, dict[str, int]] = {}
    for name, attempt, resources, threads in jobs:
        for fault in faults(resources, threads, partitions):
            found.setdefault(fault, {}).setdefault(name, attempt)
    if not found:
        return ""
    lines = [f"{_some(names)}: {fault}" for fault, names in found.items()]
    return "\n".join([f"Nothing was submitted: the site ({path}) would not have it.", *lines])


def _some(names: Mapping[str, int]) -> str:
    told = [f"{name} (retry {first - 1})" if first > 1 else name for name, first in names.items()]
    return ", ".join(told[:3]) + (f" and {len(told) - 3} more" if len(told) > 3 else "")
