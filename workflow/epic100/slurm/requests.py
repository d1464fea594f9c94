"""Checks before any job is submitted: would Slurm take each request, and can torch use its GPU?

Slurm answers the first question itself (`sbatch --test-only`). Two things it would take without a
word: memory for which it charges more cores, and GPUs for which torch has no kernels.
"""

import functools
import math
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from epic100.slurm.queue import message_of, option_of, run
from epic100.slurm.site import NO_ACCOUNT, Partition, Partitions

# Slurm never takes a request with one of these errors (src/common/slurm_errno.c, slurm_opt.c).
NEVER = re.compile(
    r"Invalid (account|qos|partition|feature|generic resource|node name|license|job array|Trackable"
    r"|reservation|wckey|cluster|dependency|--|argument)"
    r"|[iI]nvalid (partition|account|option|number)|unrecognized option|requires an argument"
    r"|Requested (node configuration|time limit|reservation) |Node count specification invalid"
    r"|More processors requested|Memory specification can not|known by database"
    r"|not permitted to use this partition|configuration source"
)
# Slurm also says this while nodes are down.
NO_NODE = "Requested node configuration is not available"
# The queue is full until a job has ended: AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit, ...
QUEUE_FULL = re.compile(r"SubmitJobs?\w*Limit")
# The builds of torch for CUDA 13 have no kernels for GPUs below this compute capability.
FIRST_OF_CUDA_13 = 75
# A CUDA build of torch answers this program without a GPU; `torch.cuda.get_arch_list` needs one.
TORCH_PROGRAM = "import torch; print(torch.__version__, torch._C._cuda_getArchFlags() or '')"


@dataclass(frozen=True)
class Request:
    """A request to Slurm: the job's name, the call of sbatch, and the job's resources."""

    job: str
    call: str
    resources: Mapping[str, Any]


def cluster_of(resources: Mapping[str, Any]) -> str:
    """The cluster of a job, by the three names that the plugin knows; "" for none."""
    names = (resources.get(key) for key in ("cluster", "clusters", "slurm_cluster"))
    return str(next(filter(None, names), ""))


def is_never_taken(message: str) -> bool:
    """Whether sbatch will reject the request of this error message again."""
    return bool(NEVER.search(message)) and not QUEUE_FULL.search(message)


def rejections(requests: Sequence[Request], partitions: Partitions) -> list[str]:
    """Find the requests that Slurm would not take, or that would waste what is charged.

    Slurm is asked only on a machine that has it, for an account that is set. Requests that differ
    only in their wall time are asked about once, with the longest.

    Args:
        requests: The requests of all jobs.
        partitions: The site's partitions.

    Returns:
        A line for each of them, or for what Slurm cannot be asked without; empty if the run may
        begin.
    """
    lines: list[str] = []
    if any(request.resources.get("slurm_account") == NO_ACCOUNT for request in requests):
        lines.append(f"{NO_ACCOUNT} is an example of an account: set yours, or EPIC100_ACCOUNT")
    if not shutil.which("sbatch"):
        lines.append("no sbatch on this machine: call from a login node of the cluster")
    if lines:
        return lines
    longest: dict[str, Request] = {}
    for request in sorted(requests, key=_minutes):
        longest[re.sub(r" -t \S+", "", request.call)] = request
    with ThreadPoolExecutor(8) as pool:
        lines += pool.map(_rejection, longest.values())
    for request in longest.values():
        lines.append(_waste(request, partitions))
    lines += partitions_without_kernels(longest.values(), partitions)
    return list(filter(None, lines))


def _minutes(request: Request) -> float:
    """The wall time of a request; 0 if it states none, or will know it only later."""
    minutes = request.resources.get("runtime")
    return minutes if isinstance(minutes, int) else 0


def _rejection(request: Request) -> str:
    """Ask Slurm whether it would take a request; return its reason to reject it, or ""."""
    message = message_of(run(f"{request.call} --test-only --wrap true"))
    if not is_never_taken(message):
        return ""
    if NO_NODE in message:
        # Slurm tests with the nodes that are up. A node that is away may be what the job needs.
        place = [*option_of([cluster_of(request.resources)]), "--partition"]
        place.append(str(request.resources.get("slurm_partition")))
        states = run(["sinfo", "--noheader", "-N", "--format", "%T", *place]).stdout
        if re.search("down|drain|fail|unknown", states) or not states:
            return ""
    keys = ("slurm_account", "clusters", "slurm_partition", "runtime", "gpu", "nodes", "qos")
    asked = (f"{key}={request.resources[key]}" for key in keys if request.resources.get(key))
    return f"{request.job}: {message} ({', '.join(asked)})"


def partition_of(request: Request, partitions: Partitions) -> Partition | None:
    """The partition of a request, with Slurm's own numbers; None if the site's file lacks it."""
    place = cluster_of(request.resources), request.resources.get("slurm_partition")
    for partition in partitions.values():
        if (partition.clusters, partition.name) == place:
            return partition.completed()
    return None


def _waste(request: Request, partitions: Partitions) -> str:
    """Say what a request would waste: a node's GPUs, or cores that come with its memory; or ""."""
    partition = partition_of(request, partitions)
    gpus = request.resources.get("gpu") or 0
    if partition and partition.cores_per_gpu and not gpus:
        return (
            f"{request.job}: asks for no GPU, on {partition}: take a site whose GPU rules are on "
            "CPUs, such as EPIC100_SITE=wice_cpu"
        )
    cores = re.search(r" --cpus-per-(?P<per>task|gpu)=(?P<count>\d+)", request.call)
    memory = re.search(r" --mem(?P<per_core>-per-cpu)? (?P<mib>\d+)", request.call)
    if partition is None or not partition.mem_mb_per_core or cores is None or memory is None:
        return ""
    count = int(cores["count"]) * (gpus if cores["per"] == "gpu" else 1)
    mib = int(memory["mib"]) * (count if memory["per_core"] else 1)
    # Slurm gives a job more cores until each has no more than its usual memory.
    charged = math.ceil(mib / partition.mem_mb_per_core)
    if charged <= count:
        return ""
    return (
        f"{request.job}: {mib} MiB with {count} cores on {partition}: Slurm would take {charged} "
        "cores, and charge them"
    )


def partitions_without_kernels(
    requests: Iterable[Request], partitions: Partitions, torch: tuple[str, list[str]] | None = None
) -> list[str]:
    """Find the partitions with GPUs that jobs would get, but torch cannot use.

    Args:
        requests: The requests of all jobs.
        partitions: The site's partitions; `sm` is the compute capability of a partition's GPUs.
        torch: Torch's version and kernels; None asks the torch of this Python.

    Returns:
        A line for each partition.
    """
    lines: list[str] = []
    gpu_jobs = (request for request in requests if request.resources.get("gpu"))
    # Each partition once, in the order of the requests.
    with_gpus = dict.fromkeys(partition_of(request, partitions) for request in gpu_jobs)
    for partition in with_gpus:
        if not partition or not partition.sm:
            continue
        version, kernels = torch or kernels_of_torch()
        if kernels and not any_runs_on(kernels, partition.sm):
            cuda = 12 if partition.sm < FIRST_OF_CUDA_13 else 13
            lines.append(
                f"{partition} of sm_{partition.sm}, for which torch {version} has no kernels (it "
                f"has {' '.join(kernels)}): `make install CUDA={cuda}` installs one that has them "
                "(docs/platforms.md)"
            )
    return lines


@functools.cache
def kernels_of_torch() -> tuple[str, list[str]]:
    """Ask torch for its version, and for the architectures it has kernels for (`sm_80`, ...).

    Returns:
        Version and architectures, or ("", []) if this Python has no CUDA build of torch. A job on a
        GPU then needs no check here, because it fails at once with its own error.
    """
    # A separate process imports torch, so that Snakemake does not hold its memory.
    done = run([sys.executable, "-P", "-c", TORCH_PROGRAM])
    # The program prints the version first, and then the architectures.
    version, *kernels = done.stdout.split() or [""]
    return (version, kernels) if done.returncode == 0 and kernels else ("", [])


def any_runs_on(kernels: list[str], sm: int) -> bool:
    """Whether one of these kernels runs on a GPU of compute capability `sm` (70 means 7.0).

    Rule: CUDA C++ Programming Guide, "Compute Capabilities". Machine code (`sm_`) runs on its own
    major version from its minor version up. PTX (`compute_`) also runs on everything newer. A
    letter, as in `sm_90a`, limits a kernel to exactly that capability.
    """
    for code, number, letter in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(kernels)):
        built_for = int(number)
        # The capability 86 is version 8.6, so `// 10` gives the major version.
        runs_on_newer = code == "compute" or built_for // 10 == sm // 10
        if built_for == sm or (not letter and runs_on_newer and built_for <= sm):
            return True
    return False
