"""Trainings that are killed, stopped or broken off, and how the same command goes on."""

import os
import re
import shutil
import signal

import pandas as pd
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.log import rule_log
from epic100.base.stop import SIGNALS, StopSignals
from epic100.data.segment_list import read_segments
from epic100.model.model_file import load_model
from epic100.training.resume import INSIDE_EPOCH, newest_checkpoint
from support.small_runs import (
    WHOLE,
    autocast_on_cpu,
    copy_results,
    end_of,
    run,
    run_dir,
    said,
    same,
    signal_at,
    start,
)

pytestmark = pytest.mark.slow

# It saves after each batch.
OFTEN = {"default_hooks.checkpoint.seconds": 0.0}


KILL, USR1, INT = signal.SIGKILL, signal.SIGUSR1, signal.SIGINT
COLUMNS = ["epoch", "iter", "lr", "loss", "val_loss", "verb_top1", "action_top5"]


# The training `straight` has three epochs of three batches. The signal comes in this iteration and
# this method of a hook, and the same command goes on after the iteration `resumed`.
@pytest.mark.parametrize(
    "number, iteration, resumed, more",
    [
        pytest.param(KILL, 5, 4, {"point": "before_save_checkpoint"}, id="killed inside a save"),
        pytest.param(KILL, 6, 5, {}, id="killed in the last batch of an epoch"),
        pytest.param(KILL, 7, 6, {"point": "before_val_iter"}, id="killed in a validation"),
        pytest.param(KILL, 10, 9, {"point": "after_val_epoch"}, id="killed after the last epoch"),
        pytest.param(USR1, 2, 2, {"workers": 2}, id="stopped with workers"),
        pytest.param(INT, 3, 3, {}, id="stopped in the last batch of an epoch"),
    ],
)
def test_a_training_that_is_cut_short_ends_equal(
    lab, straight, tmp_path, number, iteration, resumed, more
):
    results = copy_results(lab, tmp_path, segments=6)
    point, workers = more.get("point", "before_train_iter"), more.get("workers", 0)
    receiver = "itself" if number == KILL else "group"
    sent = signal_at(iteration, number, to=receiver, point=point)
    code = end_of(start(lab, results, OFTEN | sent, **WHOLE, workers=workers))
    assert code == (-KILL if number == KILL else 1), said(results)
    if number != KILL:
        words = f"{number.name} came: saved after {resumed} of 9 iterations in "
        assert words in said(results).splitlines()[-1]

    with rule_log(results / "resumed.txt"):
        weights = run(lab, results, OFTEN, **WHOLE)
    position = f"resumed epoch: {resumed // 3}, iter: {resumed}"
    assert position in (results / "resumed.txt").read_text()
    assert same(weights, straight.weights)
    rows, expected = (
        pd.read_csv(folder / "training.tsv", sep="\t")[COLUMNS]
        for folder in (results, straight.results)
    )
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


@pytest.mark.parametrize("broken", ["model.pth", "epoch_3.pth", INSIDE_EPOCH])
def test_a_cut_checkpoint_is_named_and_replaced(lab, straight, tmp_path, caplog, broken):
    results = shutil.copytree(straight.results, tmp_path / "results")
    folder = run_dir(results)
    # Without the model the training goes on from its newest checkpoint.
    (folder / "model.pth").rename(folder / "whole")
    shutil.copy(folder / "epoch_3.pth", folder / INSIDE_EPOCH)
    content = (folder / ("whole" if broken == "model.pth" else broken)).read_bytes()
    (folder / broken).write_bytes(content[:-100])
    assert same(run(lab, results, **WHOLE), straight.weights)
    assert f"{folder / broken}: " in caplog.text and "going on from " in caplog.text


# MMEngine's warm-up ends an iteration earlier, which is a part or a batch, so it is left out.
FALLING = {"type": "CosineAnnealingLR", "T_max": 1, "end": 1, "convert_to_iter_based": True}


# Six segments are a batch of four, and a smaller one that ends the epoch. Eight are two batches,
# with rates that fall.
@pytest.mark.parametrize("segments", [6, 8])
def test_batch_parts_learn_what_the_batch_learns(lab, tmp_path, segments):
    """An update saw the rate of its last part."""
    # BatchNorm keeps its statistics, and no Adam makes large differences from rounding.
    options = {
        "model.backbone.norm_eval": True,
        "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.05},
        "param_scheduler": [] if segments == 6 else [FALLING],
    }
    whole, parts = (
        run(
            lab,
            copy_results(lab, tmp_path / str(count), segments=segments),
            options,
            epochs=1,
            batch_size=4,
            accumulate=count,
        )
        for count in (1, 2)
    )
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-6, rtol=0)


def test_mixing_and_fp16_resume_to_the_same_weights(lab, tmp_path, monkeypatch):
    """The mix of clips is drawn from NumPy, and no checkpoint has NumPy's state."""
    autocast_on_cpu(monkeypatch.setattr)
    options = OFTEN | {"model.data_preprocessor.blending": {"type": "MixClips", "num_classes": 0}}
    chosen = {"precision": "fp16", "epochs": 2, "batch_size": 4}
    straight = run(lab, copy_results(lab, tmp_path / "straight"), options, **chosen)
    results = copy_results(lab, tmp_path / "killed")
    killed = options | signal_at(4, KILL)
    assert end_of(start(lab, results, killed, autocast=True, **chosen)) == -KILL
    state = torch.load(newest_checkpoint(run_dir(results)), weights_only=True)
    assert state["optimizer"]["loss_scaler"]["scale"] > 1 and state["meta"]["iter"] == 3
    assert same(run(lab, results, options, **chosen), straight)


# The error names both segments of the batch.
BAD_LOSS = r"iteration \d: the loss is (?:nan|inf); .* is (?P<first>\S+), (?P<second>\S+); "
DIVERGING = {"optim_wrapper.optimizer.lr": 1e30, "param_scheduler": []}
BAD_WEIGHTS = DIVERGING | {
    "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 1e20, "weight_decay": 1e30}
}


@pytest.mark.parametrize(
    "options, words",
    [
        pytest.param(OFTEN | DIVERGING, f"{BAD_LOSS}the last good checkpoint is ", id="loss"),
        pytest.param(DIVERGING, f"{BAD_LOSS}nothing was saved before;", id="before a save"),
        pytest.param(
            OFTEN | BAD_WEIGHTS, "1: .* NaN or infinite .*; nothing was saved before;", id="weights"
        ),
    ],
)
def test_what_is_not_finite_ends_a_training_unsaved(lab, tmp_path, options, words):
    results = copy_results(lab, tmp_path)
    with pytest.raises(EpicError, match=words) as error:
        run(lab, results, options)
    if named := re.search(BAD_LOSS, str(error.value)):
        segments = read_segments(results / "clean/train.txt")["narration_id"]
        assert named["first"] != named["second"]
        assert {named["first"], named["second"]} < set(segments)
    for path in run_dir(results).glob("*.pth"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


def test_frozen_batch_norm_trains_on_train_and_val(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    clean = results / "clean"
    shutil.copy(clean / "train.txt", clean / "trainval.txt")
    shutil.copy(clean / "pairs.tsv", clean / "trainval_pairs.tsv")
    weights = run(lab, results, split="trainval", bn="frozen", epochs=1, validate={"every": 1})
    assert load_model(results / "model.pth").trained_on["split"] == "trainval"
    assert pd.read_csv(results / "training.tsv", sep="\t")["action_top1"].isna().all()
    # BatchNorm is as it was made, and the last layer learned.
    frozen = [value for key, value in weights.items() if key.endswith(("running_mean", "bn.bias"))]
    assert len(frozen) > 40 and not any(value.any() for value in frozen)
    assert weights["cls_head.fc2.bias"].any()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_ctrl_c_interrupts(number):
    handlers = [signal.getsignal(one) for one in SIGNALS]
    signals = StopSignals()
    with signals.noting():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.requested == signal.Signals(number).name
        if number == INT:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), INT)
    assert [signal.getsignal(one) for one in SIGNALS] == handlers
