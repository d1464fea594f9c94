import re
import signal

import numpy as np
import pandas as pd
import pytest
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub

from epic100.base import progress
from epic100.training.epoch_table import COLUMNS
from epic100.training.telemetry import KEPT, epoch_line, loader_advice
from support.small_runs import copy_results, end_of, run, said, signal_at, start, work_dir

pytestmark = pytest.mark.slow


@pytest.fixture
def every_batch(monkeypatch):
    """Progress is said at each batch, not every ten seconds."""
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)


def test_each_batch_is_counted_with_rate_time_left_loss_and_share_of_data(
    lab, tmp_path, every_batch, caplog
):
    run(lab, copy_results(lab, tmp_path), epochs=2, validate={"every": 2})
    lines = caplog.messages
    counted = [line for line in lines if re.match(r"train: \d+/16 segments, ", line)]
    assert [int(line.split("/")[0].split()[1]) for line in counted] == [2, 4, 6, 8, 10, 12, 14, 16]
    form = r"train: 10/16 segments, [\d.]+/s, [\d:]+ left, epoch 2/2, loss [\d.]+, data \d+ %"
    assert re.fullmatch(form, counted[4])
    first, second = (line for line in lines if line.startswith("epoch "))
    assert first.startswith("epoch 1/2: loss ") and "top-1" not in first
    assert re.search(r"action top-1 [\d.]+ %, [\d.]+ segments/s, \d+ % of the time waiting", second)


def test_mmengine_s_lines_stand_in_its_own_file_and_only_warnings_beside_ours(
    lab, tmp_path, capsys, caplog
):
    results = copy_results(lab, tmp_path)
    run(lab, results, epochs=1)
    shown = capsys.readouterr()
    assert "mmengine - INFO" not in shown.out + shown.err
    (log,) = work_dir(results).glob("*/*.log")
    assert f"MMEngine's own log: {log}" in caplog.messages
    assert "Epoch(train)" in log.read_text()


def test_a_run_that_goes_on_counts_what_is_left(lab, tmp_path, every_batch, caplog):
    results = copy_results(lab, tmp_path)
    process = start(lab, results, signal_at(3, signal.SIGUSR1))
    assert end_of(process) == 1
    assert re.search(r"(?m)^train: 6 segments in [\d.]+ s$", said(results))  # before the error
    run(lab, results)
    shown = "\n".join(caplog.messages)
    assert re.findall(r"(?m)^train: (\d+)/10 segments, ", shown) == ["2", "4", "6", "8", "10"]
    assert "do not match" not in shown  # of weights and model, which MMEngine would say


def test_a_row_without_validation_says_no_accuracy():
    row = {
        "epoch": 3,
        "loss": 1.25,
        "action_top1": None,
        "samples_per_s": 310.04,
        "data_share": 0.04,
    }
    assert epoch_line(row, 30) == (
        "epoch 3/30: loss 1.25, 310.0 segments/s, 4 % of the time waiting for data"
    )
    row |= {"verb_top1": 50.0, "noun_top1": 40.123, "action_top1": 30.0}
    assert "verb top-1 50.00 %, noun top-1 40.12 %, action top-1 30.00 %" in epoch_line(row, 30)


def test_each_epoch_is_a_row_and_figures_stand_where_it_was_validated(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    logged = {"default_hooks.logger.interval": 1, "log_processor.window_size": 4}
    run(lab, results, logged, epochs=3, validate={"every": 2})
    text = (results / "training.tsv").read_text()
    assert text == (work_dir(results) / "training.tsv").read_text()
    contract = (
        "epoch iter lr loss verb_top1 verb_top5 noun_top1 noun_top5 action_top1 action_top5 "
        "samples_per_s data_share seconds"
    )
    assert text.splitlines()[0] == contract.replace(" ", "\t") == "\t".join(COLUMNS)
    rows = pd.read_csv(results / "training.tsv", sep="\t")
    assert rows["epoch"].tolist() == [1, 2, 3] and rows["iter"].tolist() == [4, 8, 12]
    # Warm-up to the rate of two segments a step, then cosine.
    assert rows["lr"].iloc[0] == pytest.approx(0.003 * 2 / 8)
    assert rows["lr"].iloc[0] > rows["lr"].iloc[2]
    for column in COLUMNS[4:10]:
        assert rows[column].notna().tolist() == [False, True, True]
        assert rows[column].dropna().between(0, 100).all()
    assert (rows["samples_per_s"] * rows["seconds"]).round(3).tolist() == [8, 8, 8]
    assert rows["data_share"].between(0, 1).all()
    assert list(work_dir(results).glob("*/vis_data/events.out.tfevents.*"))
    (log,) = work_dir(results).glob("*/vis_data/scalars.json")
    lines = pd.read_json(log, lines=True)
    means = lines[lines["step"].isin([4, 8, 12]) & lines["loss"].notna()]["loss"]
    assert rows["loss"].tolist() == pytest.approx(means.tolist(), abs=1e-4)


@HOOKS.register_module()
class OldHook(Hook):
    """Makes a run as old as one after 200,000 iterations."""

    def before_train(self, runner):
        for name in ("loss", "lr", "time", "data_time", "top1_acc"):
            old = HistoryBuffer(np.zeros(200_000), np.ones(200_000))
            runner.message_hub.log_scalars[f"train/{name}"] = old


def test_what_a_long_run_logged_is_not_copied_for_ever(lab, tmp_path):
    old = {"default_hooks.old": {"type": "OldHook"}}
    run(lab, copy_results(lab, tmp_path), old, epochs=1)
    logged = MessageHub.get_current_instance().log_scalars
    assert len(logged["train/loss"].data[0]) == KEPT  # 14 ms a figure of 630,000 values
    assert max(len(buffer.data[0]) for buffer in logged.values()) <= KEPT


def test_a_slow_loader_is_reported_with_its_figures_and_what_would_help():
    text = loader_advice(waited=0.9, spent=1.2, workers=2, cores=18)
    assert text.startswith(
        "the loader is the limit: of 1.20 s an iteration 0.90 s (75 %) are spent waiting for data, "
        "0.30 s computing; raise `train: workers:` from 2 towards the 18 cores"
    )
    assert "videos: proxy:" in text


def test_where_all_cores_load_already_only_smaller_videos_or_more_cores_help():
    text = loader_advice(waited=0.9, spent=1.2, workers=17, cores=18)
    assert "train: workers:" not in text and "videos: proxy:" in text and "more cores" in text
