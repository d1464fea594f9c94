"""Cores, signals and GPUs of a process, on this system and on one that tells less."""

import logging
import os
import re
import signal
import subprocess

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.machine import note, usable_cores, wait_for_signal_of
from epic100.base.processes import Gpus, Placement, choose_device, look_for_gpus
from epic100.settings.training import TrainSettings
from epic100.training.train import train
from support.this_process import fork


@pytest.mark.parametrize(
    "text, cores",
    [
        pytest.param("max 100000", 8, id="no quota"),
        pytest.param("250000 100000", 2, id="2.5 cores"),
        pytest.param("50000 100000", 1, id="half a core"),
        pytest.param("nonsense", 8, id="no numbers"),
    ],
)
def test_a_container_s_quota_limits_the_cores(tmp_path, monkeypatch, text, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert usable_cores(tmp_path) == cores


def test_without_affinity_all_cores_count(tmp_path, monkeypatch, capsys):
    note.cache_clear()
    monkeypatch.delattr(os, "sched_getaffinity")
    for _ in range(2):
        assert usable_cores(tmp_path) == os.cpu_count()
    assert capsys.readouterr().out.count("note: this system knows no affinity") == 1


def wait_for_parent(system):
    """Wait for SIGUSR2 of the parent; macOS has no `sigwaitinfo`."""
    if system == "macos":
        del signal.sigwaitinfo
    wait_for_signal_of(os.getppid(), signal.SIGUSR2)


@pytest.mark.parametrize("system", ["linux", "macos"])
def test_a_wait_ends_with_the_sender_s_signal(system):
    # A forked process inherits the blocked signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    waiter = fork.Process(target=wait_for_parent, args=(system,))
    waiter.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    if system == "linux":
        # Linux tells the sender of a signal, so that of another process does not end the wait.
        subprocess.run(["kill", "-USR2", str(waiter.pid)], check=True)
        waiter.join(0.2)
        assert waiter.exitcode is None
    os.kill(waiter.pid, signal.SIGUSR2)
    waiter.join(10)
    assert waiter.exitcode == 0


SLURM = "SLURM_JOB_GPUS is 0"
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040)"
NO_KERNELS = "CUDA error: no kernel image is available for execution on the device"


def gpus(visible=0, granted=None, nodes=False, why_not=None):
    """GPUs of a process: `why_not` is torch's reason why it cannot compute on one."""
    return Gpus(visible, granted, nodes, lambda: why_not)


@pytest.mark.parametrize(
    "requested, environment, evidence",
    [
        (0, {}, None),
        (0, {"CUDA_VISIBLE_DEVICES": ""}, None),
        (0, {"CUDA_VISIBLE_DEVICES": "-1"}, None),
        (0, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, None),
        (0, {"CUDA_VISIBLE_DEVICES": "0,1"}, "CUDA_VISIBLE_DEVICES is 0,1"),
        (0, {"CUDA_VISIBLE_DEVICES": "MIG-3f"}, "CUDA_VISIBLE_DEVICES is MIG-3f"),
        (0, {"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": ""}, SLURM),
        (0, {"SLURM_JOB_ID": "7"}, None),
        (2, {"SLURM_JOB_ID": "7"}, "the rule's resource `gpu` is 2 in job 7"),
        (2, {}, None),
    ],
)
def test_a_gpu_counts_as_granted_by_these_variables(requested, environment, evidence):
    assert look_for_gpus(requested, environment).granted == evidence


@pytest.mark.parametrize(
    "device, number, available, used, processes",
    [
        ("auto", None, gpus(visible=0), "cpu", 1),
        ("auto", None, gpus(visible=4), "cuda", 1),
        ("auto", 0, gpus(visible=4, granted=SLURM), "cpu", 1),
        ("auto", 2, gpus(visible=4), "cuda", 2),
        ("cuda", None, gpus(visible=1), "cuda", 1),
        ("cpu", None, gpus(visible=4, granted=SLURM), "cpu", 1),
        ("cpu", 2, gpus(visible=0, granted=SLURM), "cpu", 2),
    ],
)
def test_device_and_gpus_decide_how_many_are_used(device, number, available, used, processes):
    expected = Placement(used, processes)
    assert choose_device("train", device, number, available) == expected


@pytest.mark.parametrize(
    "device, number, available, words",
    [
        (
            "auto",
            2,
            gpus(visible=0),
            r"^train.gpus is 2, but torch \S+ sees 0 GPUs here; expected at least 2",
        ),
        ("auto", 4, gpus(visible=2), r"^train.gpus is 4, .* 2 GPUs here; expected at least 4"),
        ("cuda", None, gpus(visible=0), r"^train.device is cuda, but .* 0 GPUs here"),
        ("auto", None, gpus(visible=0, granted=SLURM), rf"^{SLURM}, but torch .* 0 GPUs"),
        (
            "auto",
            None,
            gpus(visible=0, granted=SLURM, why_not=OLD_DRIVER),
            r"cannot use one \(The NVIDIA driver",
        ),
        (
            "auto",
            None,
            gpus(visible=1, granted=SLURM, why_not=NO_KERNELS),
            r"1 GPUs .*no kernel image",
        ),
        (
            "cuda",
            None,
            gpus(visible=1, why_not=NO_KERNELS),
            r"^train.device is cuda, .*no kernel image",
        ),
        ("auto", 1, gpus(visible=1, why_not=NO_KERNELS), r"^train.gpus is 1, .*no kernel image"),
    ],
)
def test_an_unusable_granted_gpu_is_an_error(device, number, available, words):
    with pytest.raises(EpicError, match=words):
        choose_device("train", device, number, available)


@pytest.mark.parametrize(
    "available, warning",
    [
        pytest.param(gpus(visible=0, nodes=True, why_not=OLD_DRIVER), "too old", id="old driver"),
        pytest.param(gpus(visible=1, why_not=NO_KERNELS), "no kernel image", id="no kernels"),
        # Without any sign of a GPU, nothing is logged.
        pytest.param(gpus(visible=0), "^$", id="no GPU"),
    ],
)
def test_an_unusable_gpu_nobody_requested_is_a_warning(available, warning, caplog):
    with caplog.at_level(logging.WARNING, "epic100"):
        assert choose_device("predict", "auto", None, available) == Placement("cpu", 1)
    assert re.search(warning, "".join(caplog.messages))


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without a GPU")
def test_training_never_falls_back_from_a_gpu(monkeypatch):
    """A paid job whose driver is too old for torch must not train on its CPU."""
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    with pytest.raises(EpicError, match=f"{SLURM}, but torch"):
        train(
            TrainSettings(config="none.py", load_from=None),
            model_path="m.pth",
            results="r",
            video_root="v",
            num_verbs=1,
            num_nouns=1,
        )
