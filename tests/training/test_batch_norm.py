"""BatchNorm that is frozen, and statistics that two real processes pool."""

import subprocess
import sys

import pytest

from epic100.model.model_file import load_model
from support.small_runs import copy_results, run

pytestmark = pytest.mark.slow

PROCESS = """
import sys, types, torch
from mmengine.hooks import SyncBuffersHook
from epic100.training.batch_norm import PooledStatisticsHook
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
x = torch.randn(2, 8, 3, 2, 5, 5) * torch.tensor([1.0, 3.0])[:, None, None, None, None, None]
x[1] += 5  # what the two processes see differs
net = torch.nn.Sequential(torch.nn.BatchNorm3d(3))
net[0].running_mean = x[rank].mean((0, 2, 3, 4))
net[0].running_var = x[rank].var((0, 2, 3, 4), unbiased=False)
runner = types.SimpleNamespace(model=net)
PooledStatisticsHook().after_train_epoch(runner)
SyncBuffersHook().after_train_epoch(runner)
both = x.flatten(0, 1)
assert torch.allclose(net[0].running_mean, both.mean((0, 2, 3, 4)), atol=1e-5)
assert torch.allclose(net[0].running_var, both.var((0, 2, 3, 4), unbiased=False), atol=1e-4)
torch.distributed.destroy_process_group()  # without it torch may abort when the process ends
"""


def test_statistics_of_two_processes_are_those_of_their_batches_together(tmp_path):
    command = [sys.executable, "-c", PROCESS]
    ends = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in ends:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said[-2000:]


def test_a_frozen_batch_norm_stays_as_it_starts(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    run(lab, results, epochs=1, bn="frozen")
    weights = load_model(results / "model.pth").state_dict
    layers = [name.removesuffix(".running_var") for name in weights if "running_var" in name]
    assert len(layers) > 20
    for layer in layers:
        assert not weights[f"{layer}.running_mean"].any()
        assert (weights[f"{layer}.running_var"] == 1).all()
        assert not weights[f"{layer}.bias"].any()
        assert weights[f"{layer}.weight"].unique().numel() == 1
    assert weights["cls_head.fc2.bias"].any()  # the rest learns
