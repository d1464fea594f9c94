"""Slurm partitions: what they have and allow, and which of them a run uses.

`scontrol show partition` tells most of it. The rest is in profiles/partitions.yaml, of the folder
where snakemake is called or else of this repository. profiles/vsc/config.yaml calls `choose`.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.base.folders import refuse_foreign
from epic100.base.names import did_you_mean
from epic100.base.shipped import ROOT
from epic100.slurm.commands import on, run

FACTS = Path("profiles/partitions.yaml")
# These keys of the file have lists of clusters.
WITHOUT = ("without_clusters_option", "without_account")
ASK_SECONDS = 20.0
# The examples in the site's documentation use this account.
NO_ACCOUNT = "lp_myproject"


@dataclass(frozen=True)
class Partition:
    """One partition of one cluster: limits per node, per core and per GPU. Memory is in MiB.

    A number that is 0 is not known: neither the file nor Slurm tells it.

    `clusters` is the value of sbatch's `--clusters`: the cluster's name, or "" if jobs of that site
    do not use this option. `pays` is whether its jobs name a credit account.
    """

    cluster: str
    name: str
    cores: int = 0
    mem_mb_per_core: int = 0
    hours: float = 0
    gpus: int = 0
    cores_per_gpu: int = 0
    # It is the compute capability of the GPUs: 70 means 7.0.
    sm: int = 0
    clusters: str = ""
    pays: bool = True

    def __str__(self) -> str:
        return (
            f"{self.cluster}/{self.name} has {self.cores} cores and {self.gpus or 'no'} GPUs a "
            f"node, {self.mem_mb_per_core} MiB a core, {self.hours:g} hours"
        )

    def minutes(self, hours: float) -> int:
        """Wall time in minutes of a job that needs `hours`, at most the partition's limit."""
        return round(60 * min(hours, self.hours or hours))

    def cores_for(self, wanted: str) -> str:
        """An expression for the cores of a job: those wanted, at most a node's."""
        return f"min({self.cores}, {wanted})" if self.cores else wanted

    def completed(self) -> "Partition":
        """This partition, with what Slurm tells and the file does not."""
        facts = _told(self.clusters).get(self.name, {})
        return replace(self, **{key: v for key, v in facts.items() if not getattr(self, key)})


# The keys are `cluster/name`.
Partitions = Mapping[str, Partition]


@dataclass(frozen=True)
class Site:
    """The partitions that one run uses, and the account that pays."""

    account: str
    cpu: Partition
    gpu: Partition


def facts_file(folder: str | os.PathLike[str] = "") -> str:
    """The file of partitions that a call of snakemake in `folder` uses.

    A file in the folder itself comes first; snakedeploy puts one there to edit.
    """
    path = Path(folder) / FACTS
    return str(path if path.is_file() else ROOT / FACTS)


def read_partitions(path: str | os.PathLike[str]) -> Partitions:
    """Read the partitions by `cluster/name`.

    Raises:
        EpicError: An entry is wrong; the error names it.
    """
    facts = _read(path)
    by_cluster, without = facts["clusters"], {name: facts.get(name, []) for name in WITHOUT}
    for key, clusters in without.items():
        for cluster in set(clusters) - set(by_cluster):
            raise EpicError(
                f"{path}: {key}: {cluster!r} is none of {', '.join(by_cluster)}; correct it"
            )
    partitions: dict[str, Partition] = {}
    for cluster, entries in by_cluster.items():
        option, pays = (cluster not in clusters for clusters in without.values())
        for name, values in entries.items():
            try:
                partitions[f"{cluster}/{name}"] = Partition(
                    cluster, name, clusters=cluster if option else "", pays=pays, **(values or {})
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
    """Choose the partitions and the account of a run.

    The variables EPIC100_SITE and EPIC100_ACCOUNT override the arguments. EPIC100_GPU and
    EPIC100_CPU name other partitions, as `cluster/partition`.

    Args:
        where: One of the file's `choices`.
        account: The account that pays.
        path: The file of partitions, if not `facts_file`.
        env: Environment variables.

    Raises:
        EpicError: A name is not in the file; the error lists those that are.
    """
    path = path or facts_file()
    where = env.get("EPIC100_SITE") or where
    choices = _read(path)["choices"]
    if where not in choices:
        hint = did_you_mean(where, choices) or f"; known: {', '.join(choices)}"
        raise EpicError(f"EPIC100_SITE, or `site:`: no Slurm site {where!r} in {path}{hint}")
    partitions = read_partitions(path)
    names = [env.get(f"EPIC100_{key.upper()}") or choices[where][key] for key in ("cpu", "gpu")]
    for name in names:
        if name not in partitions:
            raise EpicError(f"no partition {name!r} in {path}; known: {', '.join(partitions)}")
    cpu, gpu = (partitions[name].completed() for name in names)
    return Site((env.get("EPIC100_ACCOUNT") or account) if cpu.pays else "", cpu, gpu)


@functools.cache
def _told(cluster: str) -> dict[str, dict[str, Any]]:
    """What Slurm tells of the partitions of a cluster, by name; nothing if it does not answer."""
    arguments = [*on(filter(None, [cluster])), "--oneliner", "show", "partition"]
    done = run(["scontrol", *arguments], ASK_SECONDS)
    return dict(map(facts_of, filter(str.strip, done.stdout.splitlines())))


def facts_of(line: str) -> tuple[str, dict[str, Any]]:
    """Name and facts of a partition, of a line of `scontrol --oneliner show partition`."""
    fields = dict(field.partition("=")[::2] for field in line.split())
    trackable = dict(item.partition("=")[::2] for item in fields.get("TRES", "").split(","))
    nodes, cores = _number(fields.get("TotalNodes")) or 1, _number(fields.get("TotalCPUs"))
    cores_per_node = min(
        filter(None, [cores // nodes, _number(fields.get("MaxCPUsPerNode"))]), default=0
    )
    memory = _number(fields.get("MaxMemPerCPU")) or _number(fields.get("DefMemPerCPU"))
    days, _, clock = fields.get("MaxTime", "").rpartition("-")
    hours = re.fullmatch(r"(\d+):(\d+):\d+", clock)
    facts = {
        "cores": cores_per_node,
        "mem_mb_per_core": memory,
        "hours": 24 * _number(days) + int(hours[1]) + int(hours[2]) / 60 if hours else 0,
        "gpus": _number(trackable.get("gres/gpu")) // nodes,
    }
    return fields.get("PartitionName", ""), {key: value for key, value in facts.items() if value}


def _number(text: str | None) -> int:
    """A number of Slurm's; 0 for UNLIMITED, and for what is no number."""
    return int(text) if text and text.isdecimal() else 0


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    # The repository's own file belongs to whoever installed it.
    if Path(path).absolute() != ROOT / FACTS:
        refuse_foreign(path)
    facts: dict[str, Any] = yaml.safe_load(read_text(path))
    return facts
