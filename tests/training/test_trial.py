"""The trial of a training: what it finds, when it is made again, and what it leaves."""

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import distribution

import pytest

from epic100.base.errors import EpicError
from epic100.cli import start
from epic100.cli.start import LOG, PASSED, request_of, try_training
from epic100.settings.config import read_settings
from support.checkout import ROOT
from support.small_runs import DEMO, SMALL

pytestmark = pytest.mark.slow


@pytest.fixture
def requested(tmp_path, monkeypatch):
    """Make the request for the trial of a section `train:`, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def request(options=None, remote=False, modules=None, **train):
        section = {"config": DEMO, "from_scratch": True, "device": "cpu"} | train
        section["options"] = (SMALL if section["config"] == DEMO else {}) | (options or {})
        config = read_settings({"train": section, "modules": modules or {}})
        return request_of(config, None, ROOT, remote=remote)

    return request


def files(folder):
    """List the files that a trial has left in the working folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_training_that_works_passes_once(requested, tmp_path):
    """The loss has a weight for each of the run's five pairs; a trial's own table has two."""
    (tmp_path / "results/clean").mkdir(parents=True)
    rows = [f"{pair}\t{pair}\t{pair}\t1\n" for pair in range(5)]
    table = "results/clean/pairs.tsv"
    (tmp_path / table).write_text("".join(["pair_id\tverb\tnoun\tcount\n", *rows]))
    loss = {"type": "CrossEntropyLoss", "class_weight": [1.0] * 5}
    options = {"model.cls_head.head.loss_cls": loss}
    lines = []
    assert try_training(requested(options), lines.append) and "works" in lines[1]
    assert files(tmp_path) == [table, LOG, PASSED]
    # The second training goes on from the first of two checkpoints.
    assert "epoch_1.pth" in (tmp_path / LOG).read_text()
    # These only change what a trial sets by itself.
    assert try_training(requested(options, seed=3, epochs=9, batch_size=4), lines.append)
    assert len(lines) == 2


def module(tmp_path, text):
    """Write a module of the user, and return the section `modules:` that imports it."""
    (tmp_path / "mine").mkdir(exist_ok=True)
    (tmp_path / "mine/my_parts.py").write_text(text)
    return {"folder": "mine", "imports": ["my_parts"]}


# A hook of the user, whose methods are to be added.
HOOK = """
from mmaction.registry import HOOKS, MODELS
from mmaction.models.heads import I3DHead
from mmengine.hooks import Hook
import torch

@HOOKS.register_module()
class MyHook(Hook):
    pass

"""
UNRESUMED = (
    HOOK
    + """
    def after_load_checkpoint(self, runner, checkpoint):
        raise KeyError("my_state")
"""
)
# The model of this head trains to its end, but cannot be built from its file.
GROWING = (
    HOOK
    + """
@MODELS.register_module()
class GrowingHead(I3DHead):
    def forward(self, x, **kwargs):
        if not hasattr(self, "late"):
            self.late = torch.nn.Linear(self.num_classes, self.num_classes)
        return self.late(super().forward(x, **kwargs))
"""
)
HEAD = {
    "_delete_": True,
    "type": "GrowingHead",
    "in_channels": 432,
    "num_classes": 2,
    "average_clips": "prob",
}


@pytest.mark.parametrize(
    "mistake, text, words",
    [
        pytest.param(
            {"options": {"default_hooks.mine": {"type": "MyHook"}}},
            UNRESUMED,
            ["in its trial (KeyError: 'my_state')", "correct `train: options:` or "],
            id="a training that cannot be resumed",
        ),
        pytest.param(
            {"options": {"model.cls_head": HEAD}},
            GROWING,
            ['Unexpected key(s) in state_dict: "cls_head.late'],
            marks=pytest.mark.thorough,
            id="a model that cannot be predicted with",
        ),
        pytest.param(
            {"precision": "bf16", "gpus": 0, "remote": True},
            "",
            ["bf16", "expected fp32"],
            id="bf16 on another machine's CPU",
        ),
    ],
)
def test_a_training_that_cannot_work_is_one_line(requested, tmp_path, mistake, text, words):
    modules = module(tmp_path, text) if text else None
    with pytest.raises(EpicError) as failed:
        try_training(requested(modules=modules, **mistake), print)
    assert [word for word in words if word not in str(failed.value)] == []
    assert "\n" not in str(failed.value) and PASSED not in files(tmp_path)


def test_gpu_only_parts_wait_for_the_job(requested):
    request = requested(remote=True, device="cuda", gpus=4, precision="bf16", bn="sync", nodes=2)
    train = request["settings"]["train"]
    assert train["device"] == "cpu" and not {"gpus", "precision", "bn", "nodes"} & set(train)
    assert request["environment"] == {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("changed", ["rate", "base.py", "mine/my_parts.py", "version"])
def test_a_trial_is_made_again_after_a_change(requested, tmp_path, monkeypatch, changed):
    (tmp_path / "base.py").write_text("")
    (tmp_path / "recipe.py").write_text("_base_ = [\n    'base.py',\n]\n")
    answers = ["passed", "passed"]
    monkeypatch.setattr(start, "_answer", lambda request: answers.pop())
    change = {"config": "recipe.py", "modules": module(tmp_path, "")}
    for _ in range(2):
        try_training(requested(**change), print)
    assert len(answers) == 1
    if changed == "rate":
        change["options"] = {"optim_wrapper.optimizer.lr": 0.1}
    elif changed == "version":
        monkeypatch.setattr(
            start, "distributions", lambda name: [distribution("torch")][: name == "torch"]
        )
    else:
        (tmp_path / changed).write_text("# changed")
    try_training(requested(**change), print)
    assert answers == []


@pytest.mark.parametrize("broken", ["no Python", "too long"])
def test_an_unfinished_trial_stops_no_run(requested, tmp_path, monkeypatch, broken):
    # No Python starts with this value.
    monkeypatch.setenv("PYTHONHASHSEED", "none" if broken == "no Python" else "0")
    monkeypatch.setattr(start, "LIMIT_SECONDS", 1)
    lines = []
    assert not try_training(requested(), lines.append)
    assert lines[1] == f"Trial: it did not finish; {LOG} has the details"
    assert files(tmp_path) == [LOG]


def test_a_signal_ends_a_trial_without_a_trace(requested, tmp_path):
    code = (
        "import json, sys; from epic100.cli.start import *\n"
        "try_training(json.loads(sys.argv[1]), print)"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, json.dumps(requested())], stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("results/.trial_*/P00_00.MP4")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert files(tmp_path) == [LOG] and not list(tmp_path.glob("results/.trial_*"))
