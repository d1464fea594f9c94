"""Which GPUs a build of torch can use."""

import pytest
import torch

from epic100.slurm.kernels import kernels_of_torch, serve

# As read out of PyPI's x86-64 wheels.
TORCH_2_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
TORCH_2_7 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
P100, V100, A100, L40, H100, B200 = 60, 70, 80, 89, 90, 100


@pytest.mark.parametrize("kernels, served", [
    (TORCH_2_13, {A100, L40, H100, B200}),
    (TORCH_2_7, {P100, V100, A100, L40, H100}),
    (["sm_90a"], {H100}),
    (["sm_100f"], {B200}),
    (["sm_70", "compute_80"], {V100, A100, L40, H100, B200}),
    ([], set()),
])  # fmt: skip
def test_kernels_run_on_their_own_major_version_and_ptx_on_all_later_ones(kernels, served):
    assert {sm for sm in (P100, V100, A100, L40, H100, B200) if serve(kernels, sm)} == served


def test_torch_itself_says_what_it_was_built_for():
    version, kernels = kernels_of_torch()
    if torch.version.cuda is None:
        assert (version, kernels) == ("", [])
    else:
        assert version == torch.__version__ and kernels
