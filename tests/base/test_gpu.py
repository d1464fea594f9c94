"""A GPU that was granted or asked for is used, or nothing runs."""

import logging

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.gpu import Gpus, gpus_to_use, look_for_gpus, unusable
from epic100.settings import TrainSettings
from epic100.training.launch import launch

OLD = "The NVIDIA driver on your system is too old (found version 11040)"
NO_KERNELS = "CUDA error: no kernel image is available for execution on the device"


def gpus(visible=0, granted=None, nodes=False, why_not=None):
    return Gpus(visible, granted, nodes, lambda: why_not)


@pytest.mark.parametrize(
    "asked, environment, words",
    [
        (0, {}, None),
        (0, {"CUDA_VISIBLE_DEVICES": ""}, None),
        (0, {"CUDA_VISIBLE_DEVICES": "-1"}, None),
        (0, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, None),
        (0, {"CUDA_VISIBLE_DEVICES": "0,1"}, "CUDA_VISIBLE_DEVICES is 0,1"),
        (0, {"CUDA_VISIBLE_DEVICES": "MIG-3f"}, "CUDA_VISIBLE_DEVICES is MIG-3f"),
        (0, {"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}, "SLURM_JOB_GPUS is 0"),
        (0, {"SLURM_JOB_ID": "7"}, None),
        (2, {"SLURM_JOB_ID": "7"}, "the rule's resource `gpu` is 2 in job 7@"),
        (2, {}, None),
    ],
)
def test_slurm_or_cuda_s_variable_or_a_rule_that_asked_slurm_grants_a_gpu(
    asked, environment, words
):
    assert look_for_gpus(asked, environment).granted == words


@pytest.mark.parametrize(
    "device, number, available, expected",
    [
        ("auto", None, gpus(0), 0),
        ("auto", None, gpus(4), 1),
        ("auto", 0, gpus(4, "SLURM_JOB_GPUS is 0"), 0),
        ("auto", 2, gpus(4), 2),
        ("cuda", None, gpus(1), 1),
        ("cpu", None, gpus(4, "SLURM_JOB_GPUS is 0"), 0),
        ("cpu", 2, gpus(0, "SLURM_JOB_GPUS is 0"), 0),
    ],
)
def test_the_two_keys_say_how_many_gpus_are_used(device, number, available, expected):
    assert gpus_to_use("train", device, number, available) == expected


@pytest.mark.parametrize(
    "device, number, available, words",
    [
        (
            "auto",
            2,
            gpus(0),
            r"^train.gpus is 2, but torch \S+ sees 0 GPUs here; expected at least 2",
        ),
        ("auto", 4, gpus(2), r"^train.gpus is 4, .* 2 GPUs here; expected at least 4"),
        ("cuda", None, gpus(0), r"^train.device is cuda, but .* 0 GPUs here"),
        (
            "auto",
            None,
            gpus(0, "SLURM_JOB_GPUS is 0"),
            r"^SLURM_JOB_GPUS is 0, but torch .* 0 GPUs",
        ),
        (
            "auto",
            None,
            gpus(0, "SLURM_JOB_GPUS is 0", why_not=OLD),
            r"cannot use one \(The NVIDIA dri",
        ),
        (
            "auto",
            None,
            gpus(1, "SLURM_JOB_GPUS is 0", why_not=NO_KERNELS),
            r"1 GPUs .*no kernel image",
        ),
        ("cuda", None, gpus(1, why_not=NO_KERNELS), r"^train.device is cuda, .*no kernel image"),
        ("auto", 1, gpus(1, why_not=NO_KERNELS), r"^train.gpus is 1, .*no kernel image"),
    ],
)
def test_what_was_granted_or_asked_for_and_cannot_be_used_ends_it(device, number, available, words):
    with pytest.raises(EpicError, match=words):
        gpus_to_use("train", device, number, available)


def test_a_gpu_that_nobody_asked_for_and_torch_cannot_use_is_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "epic100"):
        assert gpus_to_use("predict", "auto", None, gpus(0, nodes=True, why_not=OLD)) == 0
        assert gpus_to_use("predict", "auto", None, gpus(1, why_not=NO_KERNELS)) == 0
        assert gpus_to_use("predict", "auto", None, gpus(0)) == 0
    old, no_kernels = caplog.messages
    assert "too old" in old and "no kernel image" in no_kernels


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_torch_gives_its_own_reason():
    assert unusable() and unusable("cpu") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_a_training_with_a_granted_gpu_never_falls_back_to_the_cpu(monkeypatch):
    """`SLURM_JOB_GPUS=0` with a torch that has no GPU, as in a paid job whose driver is too old."""
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    with pytest.raises(EpicError, match="SLURM_JOB_GPUS is 0, but torch"):
        launch(
            TrainSettings(config="none.py", load_from=None),
            model_path="m.pth",
            results="r",
            video_root="v",
            num_verbs=1,
            num_nouns=1,
        )
