"""Slurm partitions: what they have and allow, and which of them a run uses.

They are described in profiles/partitions.yaml, of the folder where snakemake is called or else of
this repository. profiles/vsc/config.yaml calls `choose`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.base.names import did_you_mean
from epic100.base.private import refuse_foreign
from epic100.base.shipped import ROOT

FACTS = Path("profiles/partitions.yaml")
WITHOUT = ("without_clusters_option", "without_account")  # lists of clusters
NO_ACCOUNT = "lp_myproject"  # as in the examples of the site's documentation


@dataclass(frozen=True)
class Partition:
    """One partition of one cluster: limits per node, per core and per GPU. Memory is in MiB.

    `clusters` is the value of sbatch's `--clusters`: the cluster's name, or "" if jobs of that site
    do not use this option. `pays` is whether its jobs name a credit account.
    """

    cluster: str
    name: str
    cores: int
    mem_mb_per_core: int
    hours: float
    gpus: int = 0
    cores_per_gpu: int = 0
    sm: int = 0  # compute capability of its GPUs, 70 means 7.0; 0 if unknown
    clusters: str = ""
    pays: bool = True

    def __str__(self) -> str:
        return (
            f"{self.cluster}/{self.name} has {self.cores} cores and {self.gpus or 'no'} GPUs a "
            f"node, {self.mem_mb_per_core} MiB a core, {self.hours:g} hours"
        )

    def minutes(self, hours: float) -> int:
        """Wall time in minutes of a job that needs `hours`, at most the partition's limit."""
        return round(60 * min(hours, self.hours))


Partitions = Mapping[str, Partition]  # by `cluster/name`


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
    own = Path(folder) / FACTS
    return str(own if own.is_file() else ROOT / FACTS)


def read_partitions(path: str | os.PathLike[str]) -> Partitions:
    """Read the partitions by `cluster/name`.

    Raises:
        EpicError: An entry is wrong; the error names it.
    """
    facts = _read(path)
    known, without = facts["clusters"], {name: facts.get(name, []) for name in WITHOUT}
    for key, clusters in without.items():
        for cluster in set(clusters) - set(known):
            raise EpicError(f"{path}: {key}: {cluster!r} is none of {', '.join(known)}; correct it")
    found: dict[str, Partition] = {}
    for cluster, named in known.items():
        option, pays = (cluster not in clusters for clusters in without.values())
        for name, values in named.items():
            try:
                found[f"{cluster}/{name}"] = Partition(
                    cluster, name, clusters=cluster if option else "", pays=pays, **values
                )
            except TypeError as error:
                raise EpicError(f"{path}: {cluster}/{name}: {error}") from None
    return found


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
        known = did_you_mean(where, choices) or f"; known: {', '.join(choices)}"
        raise EpicError(f"EPIC100_SITE, or `site:`: no Slurm site {where!r} in {path}{known}")
    partitions = read_partitions(path)
    cpu = _named(partitions, env.get("EPIC100_CPU") or choices[where]["cpu"], path)
    gpu = _named(partitions, env.get("EPIC100_GPU") or choices[where]["gpu"], path)
    return Site((env.get("EPIC100_ACCOUNT") or account) if cpu.pays else "", cpu, gpu)


def _named(partitions: Partitions, name: str, path: str | os.PathLike[str]) -> Partition:
    if name not in partitions:
        raise EpicError(f"no partition {name!r} in {path}; known: {', '.join(partitions)}")
    return partitions[name]


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    if not Path(path).is_absolute():  # The one that ships belongs to whoever installed it.
        refuse_foreign(path)
    facts: dict[str, Any] = yaml.safe_load(read_text(path))
    return facts
