"""Check, before a job waits for a GPU, whether this environment's torch has kernels for it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable

from epic100.slurm.limits import Resources, partition_of
from epic100.slurm.site import Partition, read_partitions

# CUDA builds answer this without a GPU; `torch.cuda.get_arch_list` needs one.
_ASK = "import torch; print(torch.__version__, torch._C._cuda_getArchFlags() or '')"


def kernels_of_torch() -> tuple[str, list[str]]:
    """torch's version, and the architectures it has kernels for (`sm_80`, `compute_90`).

    Returns:
        Version and architectures, or ("", []) if this Python has no CUDA build of torch. Such a job
        needs no check here, because it fails at once with its own error.
    """
    done = subprocess.run([sys.executable, "-P", "-c", _ASK], capture_output=True, text=True)
    version, *kernels = done.stdout.split() or [""]
    return (version, kernels) if done.returncode == 0 and kernels else ("", [])


def serve(kernels: list[str], sm: int) -> bool:
    """Whether one of these kernels runs on a GPU of compute capability `sm` (70 means 7.0).

    Rule: CUDA C++ Programming Guide, "Compute Capabilities". Machine code (`sm_`) runs on its own
    major version from its minor version up. PTX (`compute_`) also runs on everything newer. A
    letter, as in `sm_90a`, limits a kernel to exactly that capability.
    """
    for kind, number, letter in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(kernels)):
        built = int(number)
        lasts = kind == "compute" or built // 10 == sm // 10
        if built == sm or (not letter and lasts and built <= sm):
            return True
    return False


def unserved(
    jobs: Iterable[tuple[str, int, Resources, int]],
    path: str | os.PathLike[str],
    torch: Callable[[], tuple[str, list[str]]] = kernels_of_torch,
) -> str:
    """Report which jobs would get a GPU that this environment's torch cannot use.

    Args:
        jobs: (name, attempt, resources, threads) of each job.
        path: The file of partitions; `sm` is the compute capability of a partition's GPUs.
        torch: Returns torch's version and kernels; called only if a job requests a GPU.

    Returns:
        A text with one line per partition, or "" if no problem is known.
    """
    partitions = read_partitions(path)
    wanted: dict[str, Partition] = {}
    for _, _, resources, _ in jobs:
        at = partition_of(resources, partitions)
        if at and at.sm and resources.get("gpu"):
            wanted[f"{at.cluster}/{at.name}"] = at
    version, kernels = torch() if wanted else ("", [])
    lines = [
        f"{where} has GPUs of sm_{at.sm}, for which torch {version} of this environment has no "
        f"kernels (it has {' '.join(kernels)}): `make install CUDA={12 if at.sm < 75 else 13}` "
        "installs one that has them (docs/platforms.md)"
        for where, at in wanted.items()
        if kernels and not serve(kernels, at.sm)
    ]
    return "\n".join(["Nothing was submitted.", *lines]) if lines else ""
