"""Whether this environment's torch has kernels for a GPU, known before a job waits for one."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable

from epic100.slurm.limits import Resources, cluster_of
from epic100.slurm.site import Partition, Partitions, read_partitions

# Answered by CUDA builds without a GPU; `torch.cuda.get_arch_list` answers on a GPU alone.
_ASK = "import torch; print(torch.__version__, torch._C._cuda_getArchFlags() or '')"


def kernels_of_torch() -> tuple[str, list[str]]:
    """torch's version, and the architectures that it has kernels for (`sm_80`, `compute_90`).

    Returns:
        ("", []) where this Python has no CUDA build of torch. Such a job is no case for the site's
        facts: it stops by itself, at once.
    """
    done = subprocess.run([sys.executable, "-P", "-c", _ASK], capture_output=True, text=True)
    version, *kernels = done.stdout.split() or [""]
    return (version, kernels) if done.returncode == 0 and kernels else ("", [])


def serve(kernels: list[str], sm: int) -> bool:
    """Whether a GPU of compute capability `sm` (70 is 7.0) runs one of these kernels.

    CUDA C++ Programming Guide, "Compute Capabilities": machine code (`sm_`) runs on its own major
    version from its own minor version on, PTX (`compute_`) on everything newer. The letter of
    `sm_90a` binds a kernel to exactly that one.
    """
    for kind, number, letter in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(kernels)):
        built = int(number)
        if built == sm or (not letter and kind == "compute" and built <= sm):
            return True
        if not letter and kind == "sm" and built // 10 == sm // 10 and built <= sm:
            return True
    return False


def unserved(
    jobs: Iterable[tuple[str, int, Resources, int]],
    path: str | os.PathLike[str],
    torch: Callable[[], tuple[str, list[str]]] = kernels_of_torch,
) -> str:
    """Say which jobs would get a GPU that this environment's torch cannot use.

    Args:
        jobs: (name, attempt, resources, threads) each.
        path: the file of partitions, whose `sm` is the compute capability of a partition's GPUs.
        torch: the version and kernels of the torch in use. Asked for only where a job needs them.

    Returns:
        A text with a line a partition, or "" where nothing is known to be wrong.
    """
    partitions = read_partitions(path)
    wanted: dict[str, Partition] = {}
    for _, _, resources, _ in jobs:
        at = _partition(partitions, resources)
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


def _partition(partitions: Partitions, resources: Resources) -> Partition | None:
    """Where a job goes; None where the site's facts do not have the place."""
    cluster, name = cluster_of(resources), str(resources.get("slurm_partition"))
    asked = [partitions.get(cluster, {})] if cluster else partitions.values()
    return next((own[name] for own in asked if name in own), None)
