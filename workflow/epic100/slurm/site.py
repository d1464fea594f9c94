"""Slurm partitions: their cores, GPUs and limits, and the choice of those that a run uses.

`scontrol show partition` gives most of it, as the plugin reads it. The rest is in
profiles/partitions.yaml, of the folder where snakemake is called or else of this repository.
profiles/vsc/config.yaml calls `choose`.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from snakemake_executor_plugin_slurm import partitions as plugin
from snakemake_executor_plugin_slurm.utils import parse_time_to_minutes

from epic100.base.disk import read_text
from epic100.base.errors import EpicError, did_you_mean
from epic100.base.shipped import ROOT, reject_untrusted
from epic100.slurm.queue import option_of, run

PARTITIONS_FILE = Path("profiles/partitions.yaml")
# These two keys of the file list the clusters whose jobs take no `--clusters`, or no account.
NO_OPTION, NO_PAYMENT = "without_clusters_option", "without_account"
# Snakemake waits this long for scontrol when it reads the profile, also in a dry run.
ASK_SECONDS = 20.0
# The examples in the site's documentation use this account.
NO_ACCOUNT = "lp_myproject"


@dataclass(frozen=True)
class Partition:
    """One partition of one cluster: limits per node, per core and per GPU. Memory is in MiB.

    A number of 0 means unknown: neither the file nor Slurm has it.

    `clusters` is the value of sbatch's `--clusters`: the cluster's name, or "" if jobs of that site
    do not use this option. `pays` is whether its jobs name a credit account.
    """

    cluster: str
    name: str
    cores: int = 0
    mem_mb_per_core: int = 0
    hours: float = 0
    cores_per_gpu: int = 0
    # The compute capability of the GPUs: 70 means 7.0.
    sm: int = 0
    clusters: str = ""
    pays: bool = True

    def __str__(self) -> str:
        per_gpu = f"{self.cores_per_gpu} a GPU, " if self.cores_per_gpu else ""
        return (
            f"{self.cluster}/{self.name}, which has {self.cores} cores a node, {per_gpu}"
            f"{self.mem_mb_per_core} MiB a core and {self.hours:g} hours"
        )

    def minutes(self, with_gpu: float, without: float) -> int:
        """Wall time in minutes of a job that needs these hours, up to the limit of the partition.

        Args:
            with_gpu: Hours on a partition with GPUs.
            without: Hours on any other.
        """
        hours = with_gpu if self.cores_per_gpu else without
        return round(60 * min(hours, self.hours or hours))

    def cores_for(self, wanted: str) -> str:
        """Limit the cores of a job to the cores of a node, in an expression: `min(72, 2 *
        attempt)`.

        Args:
            wanted: The cores wanted, also as an expression, which Snakemake evaluates.
        """
        return f"min({self.cores}, {wanted})" if self.cores else wanted

    def completed(self) -> "Partition":
        """A copy of this partition in which numbers of Slurm replace those that are 0."""
        limits = _limits_from_slurm(self.clusters).get(self.name, {})
        return replace(
            self, **{key: limit for key, limit in limits.items() if not getattr(self, key)}
        )


# The keys are `cluster/name`.
Partitions = Mapping[str, Partition]


@dataclass(frozen=True)
class Site:
    """The partitions that one run uses, and the account that pays."""

    account: str
    cpu: Partition
    gpu: Partition


def partitions_file(folder: str | os.PathLike[str] = "") -> str:
    """The path of the partitions file that a call of snakemake in `folder` uses.

    A file in the folder itself comes first; snakedeploy puts one there to edit.
    """
    path = Path(folder) / PARTITIONS_FILE
    return str(path if path.is_file() else ROOT / PARTITIONS_FILE)


def read_partitions(path: str | os.PathLike[str]) -> Partitions:
    """Read the partitions of a file, by `cluster/name`.

    Raises:
        EpicError: An entry is wrong; the error names it.
    """
    content = _read(path)
    by_cluster: dict[str, Any] = content["clusters"]
    # Clusters that the file excepts, by the key that lists them.
    exceptions = {key: content.get(key, []) for key in (NO_OPTION, NO_PAYMENT)}
    for key, clusters in exceptions.items():
        for cluster in set(clusters) - set(by_cluster):
            raise EpicError(
                f"{path}: {key}: {cluster!r} is none of {', '.join(by_cluster)}; correct it"
            )
    partitions: dict[str, Partition] = {}
    for cluster, entries in by_cluster.items():
        name_for_sbatch = "" if cluster in exceptions[NO_OPTION] else cluster
        pays = cluster not in exceptions[NO_PAYMENT]
        for name, values in entries.items():
            try:
                partitions[f"{cluster}/{name}"] = Partition(
                    cluster, name, clusters=name_for_sbatch, pays=pays, **(values or {})
                )
            except (TypeError, AttributeError) as error:
                raise EpicError(f"{path}: {cluster}/{name}: {error}") from None
    return partitions


def choose(
    where: str,
    account: str = NO_ACCOUNT,
    path: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] = os.environ,
) -> Site:
    """Choose the CPU partition, the GPU partition and the account of a run.

    The variables EPIC100_SITE and EPIC100_ACCOUNT override the arguments. EPIC100_GPU and
    EPIC100_CPU name other partitions, as `cluster/partition`.

    Args:
        where: The name of a site: a key of the file's `choices`.
        account: The account that pays.
        path: The partitions file, if not that of `partitions_file`.
        env: Environment variables.

    Raises:
        EpicError: A name is not in the file; the error lists those that are.
    """
    path = path or partitions_file()
    where = env.get("EPIC100_SITE") or where
    choices = _read(path)["choices"]
    if where not in choices:
        hint = did_you_mean(where, choices) or f"; known: {', '.join(choices)}"
        raise EpicError(f"EPIC100_SITE, or `site:`: no Slurm site {where!r} in {path}{hint}")
    partitions = read_partitions(path)
    partition_names = [
        env.get("EPIC100_CPU") or choices[where]["cpu"],
        env.get("EPIC100_GPU") or choices[where]["gpu"],
    ]
    for name in partition_names:
        if name not in partitions:
            raise EpicError(f"no partition {name!r} in {path}; known: {', '.join(partitions)}")
    # Slurm is asked for the limits that the file does not state.
    cpu, gpu = (partitions[name].completed() for name in partition_names)
    paying_account = (env.get("EPIC100_ACCOUNT") or account) if cpu.pays else ""
    return Site(paying_account, cpu, gpu)


@functools.cache
def _limits_from_slurm(cluster: str) -> dict[str, dict[str, Any]]:
    """Ask scontrol once for the partitions of a cluster; {} if it does not answer.

    Args:
        cluster: The cluster's name, or "" for this machine's own.

    Returns:
        The known numbers of each partition by the fields of `Partition`, by the partition's name.
    """
    done = run(["scontrol", *option_of([cluster]), "show", "partition"], ASK_SECONDS)
    partitions = plugin.parse_scontrol_partition_output(done.stdout)
    return {name: numbers_of(partition) for name, partition in partitions.items()}


def numbers_of(partition: dict[str, str]) -> dict[str, Any]:
    """The cores, memory and hours of a partition of Slurm, those that are known.

    Args:
        partition: The words of scontrol by their names, e.g. {"MaxTime": "3-00:00:00"}.
    """
    limits = plugin.extract_partition_limits(partition)
    # The plugin takes no notice of these two limits.
    limited = [partition.get(key, "") for key in ("MaxCPUsPerNode", "MaxMemPerCPU")]
    cores, memory = (int(text) if text.isdecimal() else 0 for text in limited)
    numbers = {
        "cores": min(filter(None, [cores, limits.get("max_threads")]), default=0),
        "mem_mb_per_core": memory or limits.get("max_mem_mb_per_cpu", 0),
        "hours": parse_time_to_minutes(limits.get("max_runtime", "0")) / 60,
    }
    return {key: number for key, number in numbers.items() if number}


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a partitions file.

    Raises:
        EpicError: Another user can write the file, or it cannot be read.
    """
    # The repository's own file belongs to whoever installed it.
    if Path(path).absolute() != ROOT / PARTITIONS_FILE:
        reject_untrusted(path)
    content: dict[str, Any] = yaml.safe_load(read_text(path))
    return content
