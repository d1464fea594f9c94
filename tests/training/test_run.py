"""The files that a training leaves behind, and trainings with other settings after it."""

import re
import runpy
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import mmaction
import pandas as pd
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from epic100.model.model_file import load_model
from epic100.scoring.epoch_table import COLUMNS
from epic100.segments.cleaning import join_train_and_val
from epic100.segments.pairs import read_pairs
from epic100.training import loop
from support.checkout import python, said
from support.small_runs import (
    DEMO,
    SMALL,
    WHOLE,
    built,
    copy_results,
    run,
    run_dir,
    same,
    work_dir,
)

pytestmark = pytest.mark.slow

TOOLS = Path(mmaction.__file__).parent / ".mim/tools"


def test_each_batch_is_counted_on_the_screen(straight):
    lines = [line for line in straight.said if re.match(r"train: \d+/18 segments, ", line)]
    # Three epochs have 9 batches of 2 segments. The fifth batch is the second of epoch 2.
    assert len(lines) == 9
    form = r"train: 10/18 segments, [\d.]+/s, [\d:]+ left, epoch 2/3, loss [\d.]+, data \d+ %"
    assert re.fullmatch(form, lines[4])


def test_each_epoch_is_a_line_on_the_screen(straight):
    first, second, _ = (line for line in straight.said if line.startswith("epoch "))
    # A validation follows the second epoch and the last one.
    assert first.startswith("epoch 1/3: loss ") and "top-1" not in first
    assert re.search(r"action top-1 [\d.]+ %, [\d.]+ segments/s, \d+ % of the time waiting", second)


def test_mmengine_writes_its_lines_to_its_own_file(straight):
    assert not any("mmengine - INFO" in line for line in straight.said)
    (log,) = work_dir(straight.results).glob("*/*.log")
    assert f"MMEngine's own log: {log}" in straight.said
    assert "Epoch(train)" in log.read_text()
    assert list(log.parent.glob("vis_data/events.out.tfevents.*"))


def test_each_epoch_is_a_row_of_the_table(straight):
    folder = work_dir(straight.results)
    text = (straight.results / "training.tsv").read_text()
    assert text == (folder / "training.tsv").read_text()
    contract = (
        "epoch iter lr loss val_loss verb_top1 verb_top5 noun_top1 noun_top5 action_top1 "
        "action_top5 samples_per_s data_share seconds"
    )
    assert text.splitlines()[0].split("\t") == contract.split() == list(COLUMNS)
    rows = pd.read_csv(straight.results / "training.tsv", sep="\t")
    # An epoch has 3 iterations of 2 segments.
    assert rows["epoch"].tolist() == [1, 2, 3] and rows["iter"].tolist() == [3, 6, 9]
    assert (rows["samples_per_s"] * rows["seconds"]).round(3).tolist() == [6, 6, 6]
    assert rows["data_share"].between(0, 1).all()
    # The rate of the recipe, 0.003 for a batch of 8, is scaled to a batch of 2. It falls after an
    # epoch.
    assert rows["lr"][0] == pytest.approx(0.003 * 2 / 8) and rows["lr"][2] < rows["lr"][0]
    # The first epoch is not validated.
    figures = rows.loc[:, "val_loss":"action_top5"]
    assert figures.iloc[0].isna().all()
    assert ((figures.iloc[1:] >= 0) & (figures.iloc[1:] <= 100)).all(axis=None)


def test_mmengine_s_own_log_has_the_losses_of_the_table(straight):
    folder = work_dir(straight.results)
    (log,) = folder.glob("*/vis_data/scalars.json")
    lines = pd.read_json(log, lines=True)
    # The log averages over the 3 iterations of an epoch.
    means = lines[lines["step"].isin([3, 6, 9]) & lines["loss"].notna()]["loss"]
    losses = pd.read_csv(folder / "training.tsv", sep="\t")["loss"]
    assert losses.tolist() == pytest.approx(means.tolist(), abs=1e-4)


def test_mmaction2_s_analyze_logs_reads_the_time_of_each_epoch(straight, monkeypatch, capsys):
    (log,) = work_dir(straight.results).glob("*/vis_data/scalars.json")
    # The tool needs seaborn for its curves only.
    monkeypatch.setitem(sys.modules, "seaborn", ModuleType("seaborn"))
    tool = runpy.run_path(str(TOOLS / "analysis_tools/analyze_logs.py"))
    arguments = Namespace(json_logs=[log], include_outliers=True)
    tool["cal_train_time"](tool["load_json_logs"]([log]), arguments)
    text = capsys.readouterr().out
    assert re.search(r"slowest epoch \d, average time is \d+\.\d+", text)
    assert re.search(r"average iter time: \d+\.\d+ s/iter", text)


def test_the_best_checkpoint_is_that_of_the_best_val_action_top1(straight):
    folder = work_dir(straight.results)
    scores = pd.read_csv(folder / "training.tsv", sep="\t")["action_top1"]
    best = torch.load(folder / "best.pth", weights_only=True)
    # The index of the first row is 0, its epoch 1.
    assert best["meta"]["epoch"] == scores.idxmax() + 1


@pytest.fixture
def results(straight, tmp_path):
    """A copy of the results of the finished training."""
    return shutil.copytree(straight.results, tmp_path / "results")


def test_the_finished_model_of_the_same_settings_is_taken_without_a_training(
    lab, straight, results, caplog
):
    folder = run_dir(results)
    outputs = [results / "model.pth", results / "training.tsv"]
    contents = [path.read_bytes() for path in outputs]
    # Snakemake removes outputs, and a user may also write over them.
    for path in outputs:
        path.write_bytes(b"of other settings")
    # The number of workers makes no other run.
    assert same(run(lab, results, workers=0, **WHOLE), straight.weights)
    assert [path.read_bytes() for path in outputs] == contents
    assert f"{folder} has the finished model of these settings and lists: taken" in caplog.text
    assert len(list(folder.rglob("*.log"))) == 1


@pytest.mark.parametrize(
    "lost_files",
    [
        pytest.param([], id="killed while it wrote the model"),
        # The checkpoint of iteration 6 is the best one, and is not copied yet.
        pytest.param(["iter_9.pth", "best.pth"], id="killed between two checkpoints"),
    ],
)
def test_a_training_without_an_intact_model_goes_on_to_the_same_weights(
    lab, straight, results, lost_files
):
    (results / "model.pth").unlink()
    folder = run_dir(results)
    finished = folder / "model.pth"
    finished.write_bytes(finished.read_bytes()[:-100])
    for name in lost_files:
        (work_dir(results) / name).unlink()
    assert same(run(lab, results, **WHOLE), straight.weights)
    assert (folder / "model.broken").is_file() and (work_dir(results) / "best.pth").is_file()
    assert [path.name for path in folder.glob("attempt_*")] == ["attempt_2"]
    assert finished.read_bytes() == (results / "model.pth").read_bytes()


def test_another_seed_makes_another_run_and_is_named(lab, straight, results, caplog):
    before = run_dir(results)
    assert not same(run(lab, results, seed=1, **WHOLE), straight.weights)
    other = f"starting from the first batch: {before} is another run, which differs in "
    assert other in caplog.text and "randomness.seed (0 there, 1 here)" in caplog.text


def test_a_slow_loader_is_warned_of_once_an_epoch(lab, tmp_path, monkeypatch, caplog):
    # With these values, any share of waiting is too large after one iteration.
    options = {"default_hooks.telemetry.enough": 1, "default_hooks.telemetry.limit": 0}
    monkeypatch.setattr(loop, "LOG_VALUES", 4)
    run(lab, copy_results(lab, tmp_path, segments=6), options, epochs=2)
    assert caplog.text.count("the loader is the limit: of ") == 2
    # A run must not copy all that it ever logged: 630,000 values of one figure take 14 ms.
    logged = MessageHub.get_current_instance().log_scalars
    assert max(len(buffer.data[0]) for buffer in logged.values()) == 4


def test_a_training_on_train_and_val_with_frozen_batch_norm_is_not_validated(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    clean = results / "clean"
    val_lines = (clean / "val.txt").read_text().splitlines(keepends=True)
    (clean / "val.txt").write_text("".join(val_lines[:2]))
    pairs = clean / "trainval_pairs.tsv"
    join_train_and_val(clean / "train.txt", clean / "val.txt", clean / "trainval.txt", str(pairs))
    weights = run(lab, results, split="trainval", bn="frozen", epochs=1, validate={"every": 1})
    model = load_model(results / "model.pth")
    # The lists have 8 segments of train and 2 of val.
    assert model.trained_on["split"] == "trainval" and model.trained_on["segments"] == 10
    assert model.pairs == read_pairs(pairs)
    (log,) = work_dir(results).glob("*/*.log")
    assert "Epoch(train)" in log.read_text() and "Epoch(val)" not in log.read_text()
    # BatchNorm is as it was made, and the last layer learned.
    frozen = [value for key, value in weights.items() if key.endswith(("running_mean", "bn.bias"))]
    assert len(frozen) > 40 and not any(value.any() for value in frozen)
    assert weights["cls_head.fc2.bias"].any()


@pytest.mark.thorough
def test_mmaction2s_own_tool_trains_the_config_and_resumes_inside_an_epoch(lab, tmp_path):
    """The tool knows nothing of the workflow: its process imports only what the config names."""
    # The config finds `videos` and `results` in the folder of the call.
    copy_results(lab, tmp_path)
    (tmp_path / "videos").symlink_to(lab.root)
    folder = tmp_path / "own"
    options = {
        **SMALL,
        "train_dataloader.batch_size": 2,
        "train_cfg.max_epochs": 1,
        "train_cfg.val_interval": 1,
        "default_hooks.checkpoint.iterations": 2,
    }
    chosen = [f"{key}={value}".replace(" ", "") for key, value in options.items()]
    command = [TOOLS / "train.py", Path(DEMO).absolute(), "--work-dir", folder]

    def train(*more):
        done = python(*command, *more, "--cfg-options", *chosen, cwd=tmp_path)
        return torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"], said(done)

    whole, _ = train()
    (folder / "iter_4.pth").unlink()
    resumed, output = train("--resume")
    assert "resumed epoch: 0, iter: 2" in output
    assert same(resumed, whole)


def test_a_runner_that_does_not_resume_writes_over_no_checkpoint(lab, results):
    config = built(lab, results, options=SMALL, **WHOLE)
    config.default_hooks.checkpoint.go_on = False
    config.work_dir = str(work_dir(results))
    with pytest.raises(EpicError, match="holds checkpoints already; resume them"):
        Runner.from_cfg(config).train()
