"""Which GPUs a build of torch can use."""

import re

import pytest
import torch

from epic100.slurm.limits import Request, kernels_of_torch, unserved
from epic100.slurm.site import facts_file, read_partitions

PARTITIONS = read_partitions(facts_file())
# These kernels were read out of PyPI's x86-64 wheels.
TORCH_2_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
TORCH_2_7 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


def test_torch_itself_says_what_it_was_built_for():
    version, kernels = kernels_of_torch()
    if torch.version.cuda is None:
        assert (version, kernels) == ("", [])
    else:
        assert version == torch.__version__ and kernels


def job(cluster: str, partition: str, gpu: int = 1) -> Request:
    """The request of a training in this partition, for so many GPUs."""
    resources = {"clusters": cluster, "slurm_partition": partition, "gpu": gpu}
    return Request("train", attempt=1, resources=resources, threads=1)


@pytest.mark.parametrize(
    "kernels, where, words",
    [
        (TORCH_2_13, ("genius", "gpu_v100"), "genius/gpu_v100 has GPUs of sm_70.*CUDA=12`"),
        (TORCH_2_13, ("genius", "gpu_p100"), "genius/gpu_p100 has GPUs of sm_60.*CUDA=12`"),
        (TORCH_2_7, ("mindwell", "gpu_b200"), "mindwell/gpu_b200 has GPUs of sm_100.*CUDA=13`"),
        (TORCH_2_7, ("genius", "gpu_v100"), ""),
        (TORCH_2_13, ("wice", "gpu_a100"), ""),
        (TORCH_2_13, ("wice", "gpu_h100"), ""),
        (TORCH_2_13, ("mindwell", "gpu_b200"), ""),
        # A kernel runs on GPUs from its own version up to the next major one, PTX on all later
        # GPUs.
        (["sm_90a"], ("wice", "gpu_h100"), ""),
        (["sm_100f"], ("mindwell", "gpu_b200"), ""),
        (["sm_86"], ("wice", "gpu_a100"), "gpu_a100 has GPUs of sm_80"),
        (["sm_80"], ("wice", "gpu_h100"), "gpu_h100 has GPUs of sm_90"),
        (["sm_70", "compute_80"], ("mindwell", "gpu_b200"), ""),
        (["sm_80", "compute_80"], ("genius", "gpu_v100"), "gpu_v100 has GPUs of sm_70"),
        # A CPU build of torch says so in the job, at once.
        ([], ("genius", "gpu_v100"), ""),
    ],
)
def test_a_gpu_that_torch_has_no_kernels_for_is_refused_with_what_to_install(kernels, where, words):
    jobs = [job("wice", "batch", 0), job(*where)]
    refusal = unserved(jobs, PARTITIONS, lambda: ("2.0", kernels))
    assert refusal.startswith("Nothing was submitted.") == bool(words)
    assert re.search(words, refusal)


def test_the_capability_of_every_gpu_of_the_site_is_known():
    assert all(bool(at.cores_per_gpu) == bool(at.sm) for at in PARTITIONS.values())
