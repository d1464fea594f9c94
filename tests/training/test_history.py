import json

import pytest

from epic100.figures.training import COLUMNS, read_history
from epic100.training.history import write_history


def log(folder, run, *records):
    path = folder / run / "vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def iteration(epoch, step, loss, time=0.5):
    return {"lr": 0.1 / epoch, "data_time": 0.1, "loss": loss, "time": time, "epoch": epoch,
            "iter": step, "step": step}  # fmt: skip


def validation(epoch, percent):
    names = (
        f"epic/overall_{t}_accuracy_at_{k}" for t in ("verb", "noun", "action") for k in (1, 5)
    )
    return dict.fromkeys(names, percent) | {"data_time": 0.1, "time": 0.2, "step": epoch}


def test_the_history_of_a_real_run_is_what_mmengine_logged(demo):
    history = read_history(demo / "results/training.tsv")
    assert history["epoch"].tolist() == list(range(1, 41))
    assert history["loss"].iloc[0] > 4 * history["loss"].iloc[-1] > 0
    assert history["verb_top1"].notna().tolist() == [False] * 39 + [True]
    metrics = json.loads((demo / "results/metrics.json").read_text())
    assert history["action_top1"].iloc[-1] == pytest.approx(
        metrics["readable_action_accuracy_at_1"], abs=0.01
    )
    assert history["data_share"].between(0, 1).all() and (history["seconds"] > 0).all()


def test_an_epoch_has_one_row_and_a_resumed_run_has_the_last_word(tmp_path):
    log(tmp_path, "20260101_100000", iteration(1, 10, 5.0), iteration(1, 20, 4.0),
        validation(1, 25.0), iteration(2, 30, 3.5))  # fmt: skip
    log(tmp_path, "20260101_110000", iteration(2, 40, 3.0), validation(2, 50.0))
    write_history(tmp_path, tmp_path / "training.tsv", batch_size=8)
    assert (tmp_path / "training.tsv").read_text().splitlines()[0] == "\t".join(COLUMNS)
    history = read_history(tmp_path / "training.tsv")
    assert history[["epoch", "iter", "loss", "noun_top5"]].to_numpy().tolist() == [
        [1, 20, 4.0, 25.0], [2, 40, 3.0, 50.0],
    ]  # fmt: skip
    assert history["samples_per_s"].tolist() == [16, 16]
    assert history["data_share"].tolist() == [0.2, 0.2]
    assert history["seconds"].tolist() == [10, 10]  # 20 iterations of 0.5 s
