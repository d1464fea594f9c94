import shutil

import pytest
import torch

from epic100.base.gpu import Gpus
from epic100.training.device import (
    Placement,
    choose_device,
    compile_backbone,
)


@pytest.mark.parametrize("device, gpus, visible, expected", [
    ("auto", None, 0, ("cpu", 1)),
    ("auto", None, 4, ("cuda", 1)),
    ("auto", 0, 4, ("cpu", 1)),
    ("auto", 2, 4, ("cuda", 2)),
    ("cpu", None, 4, ("cpu", 1)),
    ("cpu", 2, 0, ("cpu", 2)),
])  # fmt: skip
def test_a_training_goes_where_the_two_keys_say(device, gpus, visible, expected):
    assert choose_device(device, gpus, Gpus(visible, why_not=lambda: None)) == Placement(*expected)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile wants a C++ compiler")
def test_compilation_changes_the_time_and_not_the_sums():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.ReLU())
    x = torch.randn(2, 3, 5, 8, 8)
    expected = net(x)
    net[1].reset_running_stats()
    compile_backbone(net)
    assert torch.allclose(net(x), expected, atol=1e-6)
    assert set(net.state_dict()) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
        "1.num_batches_tracked",
    }  # fmt: skip
