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


def test_each_batch_is_counted_with_rate_time_left_loss_and_share_of_data(straight):
    counted = [line for line in straight.said if re.match(r"train: \d+/18 segments, ", line)]
    assert [int(line.split("/")[0].split()[1]) for line in counted] == list(range(2, 19, 2))
    form = r"train: 10/18 segments, [\d.]+/s, [\d:]+ left, epoch 2/3, loss [\d.]+, data \d+ %"
    assert re.fullmatch(form, counted[4])
    first, second, _ = (line for line in straight.said if line.startswith("epoch "))
    assert first.startswith("epoch 1/3: loss ") and "top-1" not in first
    assert re.search(r"action top-1 [\d.]+ %, [\d.]+ segments/s, \d+ % of the time waiting", second)


def test_mmengine_s_lines_stand_in_its_own_file_and_only_warnings_beside_ours(straight):
    assert not any("mmengine - INFO" in line for line in straight.said)
    (log,) = work_dir(straight.results).glob("*/*.log")
    assert f"MMEngine's own log: {log}" in straight.said
    assert "Epoch(train)" in log.read_text()


def test_each_epoch_is_a_row_and_figures_stand_where_it_was_validated(straight):
    folder = work_dir(straight.results)
    text = (straight.results / "training.tsv").read_text()
    assert text == (folder / "training.tsv").read_text()
    contract = (
        "epoch iter lr loss val_loss verb_top1 verb_top5 noun_top1 noun_top5 action_top1 "
        "action_top5 samples_per_s data_share seconds"
    )
    assert text.splitlines()[0] == contract.replace(" ", "\t") == "\t".join(COLUMNS)
    rows = pd.read_csv(straight.results / "training.tsv", sep="\t")
    assert rows["epoch"].tolist() == [1, 2, 3] and rows["iter"].tolist() == [3, 6, 9]
    # The rate warms up to that of two segments a step, then falls as a cosine.
    assert rows["lr"].iloc[0] == pytest.approx(0.003 * 2 / 8)
    assert rows["lr"].iloc[0] > rows["lr"].iloc[2]
    # The figures of a validation are missing for the first epoch, which is not validated.
    for column in COLUMNS[COLUMNS.index("val_loss") : COLUMNS.index("samples_per_s")]:
        assert rows[column].notna().tolist() == [False, True, True]
        assert rows[column].dropna().between(0, 100).all()
    assert (rows["samples_per_s"] * rows["seconds"]).round(3).tolist() == [6, 6, 6]
    assert rows["data_share"].between(0, 1).all()
    assert list(folder.glob("*/vis_data/events.out.tfevents.*"))
    (log,) = folder.glob("*/vis_data/scalars.json")
    lines = pd.read_json(log, lines=True)
    means = lines[lines["step"].isin([3, 6, 9]) & lines["loss"].notna()]["loss"]
    assert rows["loss"].tolist() == pytest.approx(means.tolist(), abs=1e-4)


def test_mmaction2_s_analyze_logs_reads_the_time_of_each_epoch(straight, monkeypatch, capsys):
    (log,) = work_dir(straight.results).glob("*/vis_data/scalars.json")
    # The tool needs seaborn for its curves only.
    monkeypatch.setitem(sys.modules, "seaborn", ModuleType("seaborn"))
    file = Path(mmaction.__file__).parent / ".mim/tools/analysis_tools/analyze_logs.py"
    tool = runpy.run_path(str(file))
    asked = Namespace(json_logs=[log], include_outliers=True)
    tool["cal_train_time"](tool["load_json_logs"]([log]), asked)
    text = capsys.readouterr().out
    assert re.search(r"slowest epoch \d, average time is \d+\.\d+", text)
    assert re.search(r"average iter time: \d+\.\d+ s/iter", text)


def test_the_best_checkpoint_is_that_of_the_best_val_action_top1(straight):
    folder = work_dir(straight.results)
    scores = pd.read_csv(folder / "training.tsv", sep="\t")["action_top1"]
    best = torch.load(folder / "best.pth", weights_only=True)
    assert best["meta"]["epoch"] == scores.idxmax() + 1


def test_the_model_file_says_what_it_was_trained_on(straight):
    model = load_model(straight.results / "model.pth")
    assert model.trained_on["segments"] == 6 and model.trained_on["epochs"] == 3
    assert model.pairs == read_pairs(straight.results / "clean/pairs.tsv")


@pytest.fixture
def results(straight, tmp_path):
    """A copy of the results of the finished training."""
    return shutil.copytree(straight.results, tmp_path / "results")


def test_the_model_of_settings_that_come_back_is_taken_and_nothing_is_trained(
    lab, straight, results, caplog
):
    folder = run_dir(results)
    outputs = [results / "model.pth", results / "training.tsv"]
    made = [path.read_bytes() for path in outputs]
    # Snakemake removes outputs, and a user may also write over them.
    for path in outputs:
        path.write_bytes(b"of other settings")
    assert same(run(lab, results, workers=0, **WHOLE), straight.weights)
    assert [path.read_bytes() for path in outputs] == made
    assert f"{folder} has the finished model of these settings and lists: taken" in caplog.text
    assert len(list(folder.rglob("*.log"))) == 1


@pytest.mark.parametrize("lost", [(), ("iter_9.pth", "best.pth")])
def test_a_run_killed_before_its_model_or_best_checkpoint_was_written_ends_as_it_should(
    lab, straight, results, lost
):
    (results / "model.pth").unlink()
    folder = run_dir(results)
    kept = folder / "model.pth"
    kept.write_bytes(kept.read_bytes()[:-100])
    # Without these files it looks as if the run was killed between the save after iteration 6 and
    # the copy of this checkpoint as the best one.
    for name in lost:
        (work_dir(results) / name).unlink()
    assert same(run(lab, results, **WHOLE), straight.weights)
    assert (folder / "model.broken").is_file() and (work_dir(results) / "best.pth").is_file()
    assert [path.name for path in folder.glob("attempt_*")] == ["attempt_2"]
    assert kept.read_bytes() == (results / "model.pth").read_bytes()


def test_another_seed_is_another_run_with_other_weights_and_it_is_said(
    lab, straight, results, monkeypatch, caplog
):
    before = run_dir(results)
    options = {"default_hooks.telemetry.enough": 1, "default_hooks.telemetry.limit": 0}
    monkeypatch.setattr(loop, "LOG_VALUES", 4)
    assert not same(run(lab, results, options, seed=1, **WHOLE), straight.weights)
    # Each of three epochs warns once.
    assert caplog.text.count("the loader is the limit: of ") == 3
    assert f"starting from the first batch: {before} is another run, which differs in " in (
        caplog.text
    )
    assert "randomness.seed (0 there, 1 here)" in caplog.text
    # A run must not copy all that it ever logged: 630,000 values of one figure take 14 ms.
    logged = MessageHub.get_current_instance().log_scalars
    assert max(len(buffer.data[0]) for buffer in logged.values()) == 4


def test_training_on_train_and_val_validates_on_nothing_and_a_frozen_batch_norm_stays(
    lab, tmp_path
):
    results = copy_results(lab, tmp_path)
    clean = results / "clean"
    (clean / "val.txt").write_text("".join((clean / "val.txt").open().readlines()[:2]))
    join_train_and_val(
        clean / "train.txt",
        clean / "val.txt",
        clean / "trainval.txt",
        str(clean / "trainval_pairs.tsv"),
    )
    weights = run(lab, results, split="trainval", bn="frozen", epochs=1, validate={"every": 1})
    model = load_model(results / "model.pth")
    assert model.trained_on["split"] == "trainval" and model.trained_on["segments"] == 10
    assert model.pairs == read_pairs(clean / "trainval_pairs.tsv")
    log = "".join(path.read_text() for path in work_dir(results).glob("*/*.log"))
    assert "Epoch(train)" in log and "Epoch(val)" not in log
    layers = [name.removesuffix(".running_var") for name in weights if "running_var" in name]
    assert len(layers) > 20
    for layer in layers:
        assert not weights[f"{layer}.running_mean"].any()
        assert (weights[f"{layer}.running_var"] == 1).all()
        assert not weights[f"{layer}.bias"].any()
        assert weights[f"{layer}.weight"].unique().numel() == 1
    # The last layer still learns.
    assert weights["cls_head.fc2.bias"].any()


@pytest.mark.thorough
def test_mmaction2s_own_tool_trains_the_config_and_resumes_inside_an_epoch(lab, tmp_path):
    """The tool knows nothing of the workflow: its process imports only what the config names."""
    tool = Path(mmaction.__file__).parent / ".mim/tools/train.py"
    folder = tmp_path / "own"
    options = {
        **SMALL,
        "train_dataloader.batch_size": 2,
        "train_cfg.max_epochs": 1,
        "train_cfg.val_interval": 1,
        "default_hooks.checkpoint.iterations": 2,
    }
    chosen = [f"{key}={value}".replace(" ", "") for key, value in options.items()]
    results = copy_results(lab, tmp_path)
    (tmp_path / "videos").symlink_to(lab.root)
    # The config finds videos and results in the folder of the call.
    assert results == tmp_path / "results"

    def train(*more):
        done = python(
            tool,
            Path(DEMO).absolute(),
            "--work-dir",
            folder,
            *more,
            "--cfg-options",
            *chosen,
            cwd=tmp_path,
        )
        return torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"], done

    whole, _ = train()
    (folder / "iter_4.pth").unlink()
    again, done = train("--resume")
    assert "resumed epoch: 0, iter: 2" in said(done)
    assert same(again, whole)


def test_checkpoints_that_are_there_are_not_written_over_by_a_run_that_does_not_resume(
    lab, results
):
    config = built(lab, results, options=SMALL, **WHOLE)
    config.default_hooks.checkpoint.go_on = False
    config.work_dir = str(work_dir(results))
    with pytest.raises(EpicError, match="holds checkpoints already; resume them"):
        Runner.from_cfg(config).train()
