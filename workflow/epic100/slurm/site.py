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

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT

FACTS = Path("profiles/partitions.yaml")
NO_ACCOUNT = "lp_myproject"  # as in the examples of the site's documentation


@dataclass(frozen=True)
class Partition:
    """One partition of one cluster: limits per node, per core and per GPU. Memory is in MiB.

    `clusters` is the value of sbatch's `--clusters`: the cluster's name, or "" if jobs of that site
    do not use this option.
    """

    cluster: str
    name: str
    cores: int
    mem_mb_per_core: int
    hours: float
    gpus: int = 0
    cores_per_gpu: int = 0
    mem_mb_per_gpu: int = 0
    sm: int = 0  # compute capability of its GPUs, 70 means 7.0; 0 if unknown
    clusters: str = ""

    def minutes(self, hours: float) -> int:
        """Wall time in minutes of a job that needs `hours`, at most the partition's limit."""
        return round(60 * min(hours, self.hours))


Partitions = Mapping[str, Mapping[str, Partition]]  # by cluster and name


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
    """Read the partitions by cluster and name.

    Raises:
        EpicError: An entry is wrong; the error names it.
    """
    facts, unnamed = _read(path), unnamed_clusters(path)
    return {
        cluster: {
            name: _partition(path, cluster, name, "" if cluster in unnamed else cluster, values)
            for name, values in named.items()
        }
        for cluster, named in facts["clusters"].items()
    }


def unnamed_clusters(path: str | os.PathLike[str]) -> list[str]:
    """Clusters that are used without `--clusters`.

    Raises:
        EpicError: The file does not describe one of them.
    """
    facts = _read(path)
    unnamed = list(facts.get("without_clusters_option", []))
    for cluster in unnamed:
        if cluster not in facts["clusters"]:
            known = ", ".join(facts["clusters"])
            raise EpicError(f"{path}: without_clusters_option: {cluster!r} is none of {known}")
    return unnamed


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
        raise EpicError(f"no Slurm site {where!r} in {path}; known: {', '.join(choices)}")
    partitions = read_partitions(path)
    return Site(
        env.get("EPIC100_ACCOUNT") or account,
        _named(partitions, env.get("EPIC100_CPU") or choices[where]["cpu"], path),
        _named(partitions, env.get("EPIC100_GPU") or choices[where]["gpu"], path),
    )


def _named(partitions: Partitions, name: str, path: str | os.PathLike[str]) -> Partition:
    cluster, _, partition = name.partition("/")
    try:
        return partitions[cluster][partition]
    except KeyError:
        known = ", ".join(f"{c}/{p}" for c, named in partitions.items() for p in named)
        raise EpicError(f"no partition {name!r} in {path}; known: {known}") from None


def _partition(
    path: str | os.PathLike[str], cluster: str, name: str, clusters: str, facts: dict[str, Any]
) -> Partition:
    try:
        return Partition(cluster, name, clusters=clusters, **facts)
    except TypeError as error:
        raise EpicError(f"{path}: {cluster}/{name}: {error}") from None


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return facts
