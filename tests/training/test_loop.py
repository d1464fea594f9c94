"""Trainings that a signal, an error or a bad loss cuts short, and how they go on."""

import contextlib
import os
import re
import shutil
import signal
import socket
import time
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

# Each kind of loader has the signal that cuts the training, the iteration (of 9) in which it comes,
# the iteration after which the training goes on, and settings.
CUTS = {
    "no workers": (signal.SIGKILL, 5, 4, {"workers": 0}),
    "workers": (
        signal.SIGTERM,
        7,
        7,
        {"workers": 2, "options": {"train_dataloader.persistent_workers": False}},
    ),
    "persistent workers": (signal.SIGUSR1, 2, 2, {"workers": 2, "options": LATE}),
}


PERSISTENT = pytest.param("persistent workers", marks=pytest.mark.thorough)
PAGE_OF_CUT, THEN_SAID = "page_of_cut.txt", "then_said.txt"


@pytest.fixture(scope="module")
def cut(lab, tmp_path_factory):
    """Cut the training `straight` short and let it go on, once for each kind of loader.

    The fixture is a function of the kind of loader. It returns the folder of the results, the exit
    code of the training that was cut, and the final weights. The folder also has the page that the
    first training left (`PAGE_OF_CUT`) and the log of the second (`THEN_SAID`).
    """

    @lru_cache
    def made(loader: str) -> tuple[Path, int, dict[str, torch.Tensor]]:
        number, at, _, changes = CUTS[loader]
        results = copy_results(lab, tmp_path_factory.mktemp("cut"), segments=6)
        chosen = {"options": {}} | changes | WHOLE
        chosen["options"] = {"default_hooks.checkpoint.iterations": 2} | chosen["options"]
        ended = signal_at(at, number, to="itself" if number == signal.SIGKILL else "group")
        options = chosen.pop("options")
        code = end_of(start(lab, results, options | ended, **chosen))
        (results / PAGE).rename(results / PAGE_OF_CUT)
        with pytest.MonkeyPatch.context() as patch, rule_log(results / THEN_SAID):
            patch.setattr(log, "PLAIN_SECONDS", 0.0)
            return results, code, run(lab, results, options, **chosen)

    return made


@pytest.mark.parametrize("loader", ["no workers", "workers", PERSISTENT])
def test_a_run_cut_inside_an_epoch_ends_in_the_same_weights_rows_and_average(straight, cut, loader):
    number, _, after, _ = CUTS[loader]
    results, code, weights = cut(loader)
    assert code == (-number if number == signal.SIGKILL else 1)
    assert same(weights, straight.weights)
    log = "".join(path.read_text() for path in work_dir(results).glob("*/*.log"))
    assert f"resumed epoch: {after // 3}, iter: {after}" in log
    rows, expected = (
        pd.read_csv(folder / "training.tsv", sep="\t")[
            ["epoch", "iter", "lr", "loss", "verb_top1", "action_top5"]
        ]
        for folder in (results, straight.results)
    )
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


def test_the_model_is_the_average_and_not_the_last_weights(straight):
    state = torch.load(work_dir(straight.results) / "iter_9.pth", weights_only=True)
    last = {name.removeprefix("module."): value for name, value in state["ema_state_dict"].items()}
    key = "backbone.conv1_s.conv.weight"
    assert torch.equal(straight.weights[key], state["state_dict"][key])
    assert not torch.equal(straight.weights[key], last[key])


@pytest.mark.parametrize("loader", ["workers", PERSISTENT])
def test_a_signal_to_the_whole_group_saves_in_the_same_iteration_and_stops(cut, loader):
    (number, at, _, _), (results, _, _) = CUTS[loader], cut(loader)
    *_, counted, words = said(results).strip().splitlines()
    saved = run_dir(results) / f"attempt_1/iter_{at}.pth"
    assert words == (
        f"error: {signal.Signals(number).name} came: saved {saved} after {at} of 9 iterations and "
        "stopped; the same command goes on from there"
    )
    assert re.fullmatch(rf"train: {2 * at} segments in [\d.]+ s", counted)


def test_a_run_that_goes_on_counts_what_is_left(cut):
    shown = (cut("workers")[0] / THEN_SAID).read_text()
    assert re.findall(r"(?m)^train: (\d+)/4 segments, ", shown) == ["2", "4"]
    # MMEngine would say this if weights and model differed.
    assert "do not match" not in shown


def test_a_training_that_is_stopped_leaves_a_page_without_paths_or_names(cut):
    results = cut("workers")[0]
    page = (results / PAGE_OF_CUT).read_text()
    for words in (
        "schedule: 3 epochs of 3 steps",
        "GPU: none",
        "torch: ",
        "\nepoch 3/3: loss ",
        " segments/s, ",
    ):
        assert words in page
    private = [getuser(), socket.gethostname(), "P01", "work_dirs", results.parent.name]
    assert [name for name in private if re.search(rf"\b{re.escape(name)}\b", page)] == []
    assert re.findall(r"(?<!\S)[~.]*/\S*|\S+\.(?:py|pth|txt|tsv|MP4)\b", page) == []


def test_a_step_reads_nothing_of_the_device_and_is_read_when_the_next_is_on_its_way(
    lab, tmp_path, caplog
):
    """A step read its loss, each logged figure and the norm of its gradients, and so waited for the
    device each time."""
    results, LateHook.reads[:] = copy_results(lab, tmp_path, segments=6), []
    clip = {"optim_wrapper.clip_grad": {"_delete_": True, "max_norm": 40, "norm_type": 2}}
    sgd = {"optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.01}}
    judged = {"default_hooks.telemetry.enough": 3, "default_hooks.telemetry.limit": 0}
    run(lab, results, LATE | clip | sgd | LOGGED | judged, epochs=1)
    # MMEngine's `stack_batch` compares sizes as tensors that are never on a GPU.
    assert [read for read in LateHook.reads if "in stack_batch" not in read] == []
    log = "".join(path.read_text() for path in work_dir(results).glob("*/*.log"))
    assert "grad_norm: " in log and "loss: " in log
    # The first of three iterations starts the loader, so it does not count.
    assert "the loader is the limit" not in caplog.text


def test_a_signal_while_the_run_is_tried_says_so_and_names_no_file(lab, tmp_path):
    """The message said that preflight/iter_1.pth was saved, but this file was removed at once."""
    results = copy_results(lab, tmp_path, segments=4)
    ended = signal_at(1, signal.SIGTERM, to="group", tried=True)
    assert end_of(start(lab, results, ended, epochs=1)) == 1
    assert said(results).strip().splitlines()[-1] == (
        "error: SIGTERM came while the run was tried: stopped before its first step; the same "
        "command goes on from what is done"
    )
    assert not list(results.glob("work_dirs/*/*/*.pth"))


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


@pytest.mark.thorough
def test_a_hook_of_the_user_that_raises_shows_its_own_error_and_loses_no_batch_that_was_saved(
    lab, straight, tmp_path, caplog
):
    results = copy_results(lab, tmp_path, segments=6)
    raising = {"default_hooks.mine": {"type": "RaisingHook", "at": 3}}
    with pytest.raises(KeyError, match="my_figure"):
        run(lab, results, OFTEN | raising, **WHOLE)
    assert [path.name for path in checkpoints(work_dir(results))] == ["iter_2.pth", "iter_1.pth"]
    assert same(run(lab, results, OFTEN, **WHOLE), straight.weights)
    assert "attempt_2/iter_2.pth" in caplog.text


def test_a_hook_of_the_user_that_raises_at_once_is_found_before_the_first_step(lab, tmp_path):
    results = copy_results(lab, tmp_path, segments=4)
    raising = {"default_hooks.mine": {"type": "RaisingHook", "at": 1, "tried": True}}
    with pytest.raises(EpicError, match=r"these settings fails \(KeyError: 'my_figure'\)") as error:
        run(lab, results, raising, epochs=1)
    assert "\n" not in str(error.value) and not list(results.glob("work_dirs/*/*/*"))


BAD_LOSS = r"iteration \d: the loss is (nan|inf); the batch is (\S+), (\S+); the last good check"


@pytest.mark.parametrize(
    "optimizer, options, words",
    [
        ({"lr": 1e30}, OFTEN, BAD_LOSS),
        # The loss is read when the next step is on its way.
        ({"lr": 1e30}, OFTEN | LATE, BAD_LOSS),
        (
            {"lr": 1e30},
            LATE,
            "2: the loss is (nan|inf); the batch is .*; nothing was saved before;",
        ),
        (
            {"type": "SGD", "lr": 1e20, "weight_decay": 1e30},
            OFTEN,
            "1: weights are NaN or infinite, and so not saved; nothing was saved before;",
        ),
    ],
    ids=["loss", "loss read late", "loss not saved", "weight"],
)
def test_a_loss_or_weight_that_is_not_finite_stops_before_it_is_saved(
    lab, tmp_path, optimizer, options, words
):
    results = copy_results(lab, tmp_path)
    wrong = {"optim_wrapper.optimizer": optimizer, "param_scheduler": []}
    with pytest.raises(EpicError, match=words) as error:
        run(lab, results, options | wrong)
    if words == BAD_LOSS:
        named = re.search(BAD_LOSS, str(error.value)).groups()[1:]
        batches = read_segments(results / "clean/train.txt")["narration_id"].tolist()
        assert len(set(named)) == 2 and set(named) < set(batches)
    for path in work_dir(results).glob("iter_*.pth"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.thorough
def test_a_run_in_fp16_that_mixes_clips_and_was_killed_ends_in_the_same_bits(
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


def test_another_precision_is_another_run(lab, straight, tmp_path, monkeypatch, caplog):
    """The precision was not in the stamp of a run.

    So bf16 after a finished run in fp32 trained nothing, and fp16 after bf16 died in its scaler.
    """
    autocast_on_cpu(monkeypatch.setattr)
    results = shutil.copytree(straight.results, tmp_path / "results")
    chosen = WHOLE | {"options": LOGGED, "precision": "bf16", "accumulate": 2}
    assert not same(run(lab, results, **chosen), straight.weights)
    losses = pd.read_csv(results / "training.tsv", sep="\t")["loss"]
    assert losses.iloc[-1] < losses.iloc[0] and "bfloat16" in caplog.text
    assert len(list(results.glob("work_dirs/*"))) == 2
    assert "is another run, which differs in optim_wrapper.type (OptimWrapper there" in caplog.text
    assert same(run(lab, results, **WHOLE), straight.weights)
    assert "has the finished model" in caplog.text


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_while_entered_and_means_what_it_did_before_afterwards(number):
    before = [signal.getsignal(one) for one in SIGNALS]
    signals = StopSignals()
    with signals.noting():
        assert signals.requested is None
        os.kill(os.getpid(), number)
        assert signals.requested == signal.Signals(number).name
        os.kill(os.getpid(), signal.SIGUSR1)
        # The first signal counts.
        assert signals.requested == signal.Signals(number).name
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals().noting():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
