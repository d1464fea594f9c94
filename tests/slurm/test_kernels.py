"""A GPU of the site is rejected before the submission if this torch has no kernels for it."""

import re

import pytest
import torch

from epic100.slurm.requests import Request, kernels_of_torch, partitions_without_kernels
from epic100.slurm.site import partitions_file, read_partitions

PARTITIONS = read_partitions(partitions_file())
# The builds for CUDA 13 and CUDA 12; the kernels were read out of PyPI's x86-64 wheels.
TORCH_2_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
TORCH_2_7 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


# A partition has GPUs of one compute capability: `sm_70` is 7.0.
P100, V100 = "genius/gpu_p100", "genius/gpu_v100"
A100, H100, B200 = "wice/gpu_a100", "wice/gpu_h100", "mindwell/gpu_b200"
# The report about a partition is empty if torch has kernels for its GPUs.
TAKEN = ""


def test_cuda_builds_of_torch_name_their_kernels():
    version, kernels = kernels_of_torch()
    assert version == (torch.__version__ if torch.version.cuda else "")
    assert bool(kernels) == bool(torch.version.cuda)


def request_for(partition: str, gpus: int) -> Request:
    """The request of a training with this number of GPUs in a partition, as `wice/batch`."""
    cluster, name = partition.split("/")
    resources = {"clusters": cluster, "slurm_partition": name, "gpu": gpus}
    return Request("train", "sbatch", resources)


@pytest.mark.parametrize(
    "kernels, partition, rejected",
    [
        (TORCH_2_13, V100, "genius/gpu_v100.* of sm_70.*CUDA=12`"),
        (TORCH_2_13, P100, "genius/gpu_p100.* of sm_60.*CUDA=12`"),
        (TORCH_2_7, B200, "mindwell/gpu_b200.* of sm_100.*CUDA=13`"),
        (TORCH_2_7, V100, TAKEN),
        (TORCH_2_13, A100, TAKEN),
        (TORCH_2_13, H100, TAKEN),
        (TORCH_2_13, B200, TAKEN),
        # A kernel runs on GPUs from its own version up to the next major one, PTX (`compute_`) on
        # all later GPUs.
        (["sm_90a"], H100, TAKEN),
        (["sm_100f"], B200, TAKEN),
        (["sm_86"], A100, "gpu_a100.* of sm_80"),
        (["sm_80"], H100, "gpu_h100.* of sm_90"),
        (["sm_70", "compute_80"], B200, TAKEN),
        (["sm_80", "compute_80"], V100, "gpu_v100.* of sm_70"),
        # A CPU build of torch has no kernels; its job fails at once with its own error.
        ([], V100, TAKEN),
    ],
    ids=[
        "CUDA 13, V100",
        "CUDA 13, P100",
        "CUDA 12, B200",
        "CUDA 12, V100",
        "CUDA 13, A100",
        "CUDA 13, H100",
        "CUDA 13, B200",
        "exactly this capability",
        "this capability and its family",
        "later minor version",
        "earlier major version",
        "PTX of an earlier version",
        "PTX of a later version",
        "CPU build",
    ],
)
def test_a_gpu_without_kernels_is_rejected(kernels, partition, rejected):
    requests = [request_for("wice/batch", gpus=0), request_for(partition, gpus=1)]
    lines = partitions_without_kernels(requests, PARTITIONS, ("2.0", kernels))
    assert bool(lines) == (rejected != TAKEN)
    assert re.search(rejected, "".join(lines))


def test_each_site_gpu_s_capability_is_known():
    # A partition with GPUs states both numbers in the file, and any other partition neither.
    unknown = [
        partition
        for partition in PARTITIONS.values()
        if bool(partition.cores_per_gpu) != bool(partition.sm)
    ]
    assert unknown == []
