"""Trainings that a signal, an error or a bad loss cuts short, and how they go on."""

import contextlib
import os
import re
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from getpass import getuser
from pathlib import Path

import pandas as pd
import pytest
import torch

from epic100.base import log
from epic100.base.errors import EpicError
from epic100.base.log import rule_log
from epic100.base.stop import SIGNALS, StopSignals
from epic100.segments.segment_list import read_segments
from epic100.training.report import PAGE
from epic100.training.run import checkpoints
from support.small_runs import (
    LATE,
    LOGGED,
    WHOLE,
    LateHook,
    autocast_on_cpu,
    copy_results,
    end_of,
    run,
    run_dir,
    said,
    same,
    signal_at,
    start,
    work_dir,
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Cut:
    """A training that a signal cuts short.

    Attributes:
        signal: The signal.
        iteration: The iteration (of 9) in which it comes.
        resumed_after: The iteration after which the training goes on.
        settings: Settings of the training.
    """

    signal: signal.Signals
    iteration: int
    resumed_after: int
    settings: dict


RESTARTED = {"train_dataloader.persistent_workers": False}
CUTS = {
    # The last save before iteration 5 is that after iteration 4.
    "no workers": Cut(signal.SIGKILL, 5, 4, {"workers": 0}),
    "workers": Cut(signal.SIGTERM, 7, 7, {"workers": 2, "options": RESTARTED}),
    "persistent workers": Cut(signal.SIGUSR1, 2, 2, {"workers": 2, "options": LATE}),
}
PERSISTENT = pytest.param("persistent workers", marks=pytest.mark.thorough)
# The fixture `cut` leaves the page of the first training and the log of the second in these files.
PAGE_OF_CUT, LOG_OF_RESUMED = "page_of_cut.txt", "log_of_resumed.txt"


@pytest.fixture(scope="module")
def cut(lab, tmp_path_factory):
    """Cut the training `straight` short and let it go on, once for each kind of loader.

    The fixture is a function of the kind of loader (a key of `CUTS`). It returns the folder of the
    results, the exit code of the training that was cut, and the final weights.
    """

    @lru_cache
    def made(loader: str) -> tuple[Path, int, dict[str, torch.Tensor]]:
        cut = CUTS[loader]
        results = copy_results(lab, tmp_path_factory.mktemp("cut"), segments=6)
        chosen = WHOLE | cut.settings
        saves = {"default_hooks.checkpoint.iterations": 2}
        options = saves | chosen.pop("options", {})
        receiver = "itself" if cut.signal == signal.SIGKILL else "group"
        ended = signal_at(cut.iteration, cut.signal, to=receiver)
        code = end_of(start(lab, results, options | ended, **chosen))
        (results / PAGE).rename(results / PAGE_OF_CUT)
        with pytest.MonkeyPatch.context() as patch, rule_log(results / LOG_OF_RESUMED):
            patch.setattr(log, "PLAIN_SECONDS", 0.0)
            return results, code, run(lab, results, options, **chosen)

    return made


@pytest.mark.parametrize("loader", ["no workers", "workers", PERSISTENT])
def test_a_training_cut_inside_an_epoch_ends_in_the_same_weights_and_table(straight, cut, loader):
    number, after = CUTS[loader].signal, CUTS[loader].resumed_after
    results, code, weights = cut(loader)
    assert code == (-number if number == signal.SIGKILL else 1)
    assert same(weights, straight.weights)
    # An epoch has 3 iterations.
    assert f"resumed epoch: {after // 3}, iter: {after}" in mmengine_log(results)
    columns = ["epoch", "iter", "lr", "loss", "verb_top1", "action_top5"]
    rows, expected = (
        pd.read_csv(folder / "training.tsv", sep="\t")[columns]
        for folder in (results, straight.results)
    )
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


def mmengine_log(results):
    """Read MMEngine's logs of all attempts of the only run."""
    return "".join(path.read_text() for path in work_dir(results).glob("*/*.log"))


def test_the_model_is_the_average_and_not_the_last_weights(straight):
    key = "backbone.conv1_s.conv.weight"
    state = torch.load(work_dir(straight.results) / "iter_9.pth", weights_only=True)
    # EMAHook saves the average as the model, and the last weights beside it.
    assert torch.equal(straight.weights[key], state["state_dict"][key])
    assert not torch.equal(straight.weights[key], state["ema_state_dict"][f"module.{key}"])


@pytest.mark.parametrize("loader", ["workers", PERSISTENT])
def test_a_signal_saves_in_the_same_iteration_and_stops(cut, loader):
    signal_number, iteration = CUTS[loader].signal, CUTS[loader].iteration
    # The fixture sends the signal.
    results, _, _ = cut(loader)
    *_, counted, words = said(results).strip().splitlines()
    saved = run_dir(results) / f"attempt_1/iter_{iteration}.pth"
    assert words == (
        f"error: {signal_number.name} came: saved {saved} after {iteration} of 9 iterations and "
        "stopped; the same command goes on from there"
    )
    # An iteration trains on 2 segments.
    assert re.fullmatch(rf"train: {2 * iteration} segments in [\d.]+ s", counted)


def test_a_training_that_goes_on_counts_what_is_left(cut):
    results, _, _ = cut("workers")
    shown = (results / LOG_OF_RESUMED).read_text()
    # Two iterations of 2 segments are left after iteration 7 of 9.
    assert re.findall(r"(?m)^train: (\d+)/4 segments, ", shown) == ["2", "4"]
    # MMEngine would write this if weights and model differed.
    assert "do not match" not in shown


def test_a_training_that_is_stopped_leaves_a_page_without_paths_or_names(cut):
    results, _, _ = cut("workers")
    page = (results / PAGE_OF_CUT).read_text()
    words = [
        "schedule: 3 epochs of 3 steps",
        "GPU: none",
        "torch: ",
        "\nepoch 3/3: loss ",
        " segments/s, ",
    ]
    assert [word for word in words if word not in page] == []
    private = [getuser(), socket.gethostname(), "P01", "work_dirs", results.parent.name]
    assert [name for name in private if re.search(rf"\b{re.escape(name)}\b", page)] == []
    assert re.findall(r"(?<!\S)[~.]*/\S*|\S+\.(?:py|pth|txt|tsv|MP4)\b", page) == []


def test_a_step_does_not_wait_for_the_device(lab, tmp_path, caplog):
    """A step read its loss, each logged figure and the norm of its gradients, and so waited for the
    device each time."""
    results = copy_results(lab, tmp_path, segments=6)
    LateHook.reads.clear()
    options = {
        "optim_wrapper.clip_grad": {"_delete_": True, "max_norm": 40, "norm_type": 2},
        "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.01},
        # With this limit, any share of waiting would be warned of.
        "default_hooks.telemetry.enough": 3,
        "default_hooks.telemetry.limit": 0,
    }
    run(lab, results, LATE | LOGGED | options, epochs=1)
    # MMEngine's `stack_batch` compares sizes as tensors that are never on a GPU.
    assert [read for read in LateHook.reads if "in stack_batch" not in read] == []
    logged = mmengine_log(results)
    assert "grad_norm: " in logged and "loss: " in logged
    # The first of three iterations starts the loader, so it does not count.
    assert "the loader is the limit" not in caplog.text


@pytest.mark.thorough
def test_signals_that_go_on_coming_do_not_keep_a_training_from_its_last_line(lab, tmp_path):
    """A second signal ended the process between its save and its message."""
    results = copy_results(lab, tmp_path, segments=6)
    training = start(lab, results, signal_at(2, signal.SIGTERM), epochs=1)
    while not list(results.glob("work_dirs/*/attempt_1/iter_2.pth")):
        assert training.is_alive()
        time.sleep(0.001)
    while training.is_alive():
        # The training may have ended just now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(training.pid, signal.SIGTERM)
        time.sleep(0.001)
    assert end_of(training) == 1
    saved = run_dir(results) / "attempt_1/iter_2.pth"
    words = f"error: SIGTERM came: saved {saved} after 2 of 3 iterations and stopped; "
    assert said(results).strip().splitlines()[-1].startswith(words)


# A checkpoint is saved after each batch.
OFTEN = {"default_hooks.checkpoint.iterations": 1}


# The error names both segments of the batch.
BAD_LOSS = r"iteration \d: the loss is (?:nan|inf); the batch is (?P<first>\S+), (?P<second>\S+); "
DIVERGING = {"optim_wrapper.optimizer.lr": 1e30}
BAD_WEIGHTS = {
    "optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 1e20, "weight_decay": 1e30}
}


@pytest.mark.parametrize(
    "options, words",
    [
        pytest.param(OFTEN | DIVERGING, f"{BAD_LOSS}the last good checkpoint is ", id="loss"),
        pytest.param(
            OFTEN | LATE | DIVERGING,
            f"{BAD_LOSS}the last good checkpoint is ",
            id="loss read while the next step is computed",
        ),
        pytest.param(
            LATE | DIVERGING, f"{BAD_LOSS}nothing was saved before;", id="loss before a save"
        ),
        pytest.param(
            OFTEN | BAD_WEIGHTS,
            "1: weights are NaN or infinite, and so not saved; nothing was saved before;",
            id="weights",
        ),
    ],
)
def test_a_loss_or_weight_that_is_not_finite_ends_a_training_before_it_is_saved(
    lab, tmp_path, options, words
):
    results = copy_results(lab, tmp_path)
    with pytest.raises(EpicError, match=words) as error:
        run(lab, results, options | {"param_scheduler": []})
    if named := re.search(BAD_LOSS, str(error.value)):
        segments = read_segments(results / "clean/train.txt")["narration_id"]
        assert named["first"] != named["second"]
        assert {named["first"], named["second"]} < set(segments)
    for path in checkpoints(work_dir(results)):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.thorough
def test_a_killed_training_in_fp16_that_mixes_clips_ends_in_the_same_weights(
    lab, tmp_path, monkeypatch, caplog
):
    """The mix of clips is drawn from NumPy, and no checkpoint has NumPy's state."""
    autocast_on_cpu(monkeypatch.setattr)
    results = copy_results(lab, tmp_path)
    mixing = {"type": "MixClips", "num_classes": 0}
    options = OFTEN | {"model.data_preprocessor.blending": mixing}
    chosen = {"precision": "fp16", "epochs": 3, "batch_size": 4}
    straight = run(lab, results, options, **chosen)
    assert "float16" in caplog.text and "clips mixed by MixClips" in caplog.text
    assert torch.load(checkpoints(work_dir(results))[0])["optimizer"]["loss_scaler"]["scale"] > 1

    shutil.rmtree(results / "work_dirs")
    killed = options | signal_at(3, signal.SIGKILL)
    assert end_of(start(lab, results, killed, autocast=True, **chosen)) == -signal.SIGKILL
    assert same(run(lab, results, options, **chosen), straight)
    assert f"resuming from {work_dir(results)}/iter_2.pth" in caplog.text


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_to_stop_is_noted(number):
    handlers = [signal.getsignal(one) for one in SIGNALS]
    signals = StopSignals()
    with signals.noting():
        assert signals.requested is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.requested == signal.Signals(number).name
    assert [signal.getsignal(one) for one in SIGNALS] == handlers


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals().noting():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
