import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.training.device import Placement, compile_backbone, fit_device, place

DEFAULTS = {"precision": "fp32", "channels_last": True, "compile": False, "accumulate": 1}


def config():
    loader = {"batch_size": 8}
    return Config({
        "train_dataloader": loader, "val_dataloader": loader, "test_dataloader": loader,
        "optim_wrapper": {"type": "OptimWrapper"}, "model": {"type": "ChannelsLastRecognizer3D"},
    })  # fmt: skip


def fitted(processes=1, **settings):
    made = config()
    off = fit_device(made, SimpleNamespace(**{**DEFAULTS, **settings}), Placement("cpu", processes))
    return made, off


@pytest.mark.parametrize("device, gpus, there, expected", [
    ("auto", None, 0, ("cpu", 1)),
    ("auto", None, 4, ("cuda", 1)),
    ("auto", 0, 4, ("cpu", 1)),
    ("auto", 2, 4, ("cuda", 2)),
    ("cuda", None, 1, ("cuda", 1)),
    ("cpu", None, 4, ("cpu", 1)),
    ("cpu", 2, 0, ("cpu", 2)),
])  # fmt: skip
def test_a_training_goes_where_the_two_keys_say(device, gpus, there, expected):
    assert place(device, gpus, there) == Placement(*expected)


@pytest.mark.parametrize("device, gpus, there, words", [
    ("auto", 2, 0, r"^train.gpus is 2, but torch \S+ sees 0 GPUs here; expected at least 2: set"),
    ("auto", 4, 2, r"^train.gpus is 4, .* 2 GPUs here; expected at least 4"),
    ("cuda", None, 0, r"^train.device is cuda, but .* 0 GPUs here; expected at least 1"),
    ("cuda", 0, 4, r"^train.gpus is 0 and train.device is cuda"),
])  # fmt: skip
def test_gpus_that_are_not_there_are_one_line_that_names_the_key(device, gpus, there, words):
    with pytest.raises(EpicError, match=words):
        place(device, gpus, there)


def test_the_batch_is_shared_among_processes_and_parts_and_stays_the_same_batch():
    made, _ = fitted(processes=2, accumulate=2)
    assert made.train_dataloader.batch_size == 4  # of a process; the hook splits it again
    assert {"type": "AccumulateHook", "parts": 2} in made.custom_hooks
    assert made.launcher == "pytorch"
    with pytest.raises(EpicError, match="^train.batch_size is 8; expected a multiple of 6"):
        fitted(processes=2, accumulate=3)


def test_autocast_is_off_on_a_cpu_and_it_is_said():
    made, off = fitted(precision="bf16")
    assert made.optim_wrapper.type == "OptimWrapper"
    assert off == ["precision bf16 is off, fp32 instead: MMEngine's autocast needs a GPU"]


def test_channels_last_can_be_switched_off():
    assert fitted()[0].model.type == "ChannelsLastRecognizer3D"
    assert fitted(channels_last=False)[0].model.type == "Recognizer3D"


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
