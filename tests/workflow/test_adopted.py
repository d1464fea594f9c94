"""Adopted models are models like any other: predictions, averages, submissions, timelines."""

import json

import pytest
import torch

from epic100.cli.adopt import adopt
from epic100.model.model_file import load_model
from epic100.model.published import published
from epic100.scoring.evaluation import evaluate
from epic100.settings.training import TrainSettings
from epic100.training.train import train
from support.archive import configure, run
from support.models import predicted
from support.small_runs import copy_results, job
from support.zoo import checkpoint, official_csvs, shrunk, small

pytestmark = pytest.mark.slow


def adopted(name, folder):
    """Adopt a small checkpoint in the layout of a published model; return the model file."""
    checkpoint(name, folder / "theirs.pt")
    adopt(
        name,
        folder / "theirs.pt",
        folder / f"{name}.pth",
        model=small(name),
        **official_csvs(folder),
    )
    (folder / "theirs.pt").unlink()
    return folder / f"{name}.pth"


# `avion_b_no_llm` is the network of `avion_b` with other weights.
@pytest.mark.parametrize("name", [name for name in published() if name != "avion_b_no_llm"])
def test_each_goes_from_its_file_to_its_figures_beside_the_published_ones(name, lab, tmp_path):
    path = adopted(name, tmp_path)
    clean, predictions = f"{lab.results}/clean/val.txt", tmp_path / "val.pt"
    clips = 10 if name == "slowfast_r50" else 1
    predicted(lab, path, clean, predictions, batch_size=2, workers=0, clips=clips)
    segments = f"{lab.results}/segments/val.txt"
    figures = evaluate(predictions, segments, tmp_path / "metrics.json", lists={}, reduce=None)
    rows = figures["beside_published"]["rows"]
    assert [row["segments"] for row in rows] == ["all"] * 4 + ["readable"] * 4
    model = published()[name]
    compared = {"verb": model.verb, "noun": model.noun}
    compared["action, own scores" if model.own_scores else "action, official"] = model.action
    assert {row["what"]: row["published"] for row in rows if row["published"]} == {
        what: figure for what, figure in compared.items() if figure
    }
    for row in filter(lambda row: row["published"], rows):
        assert row["difference"] == row["here"] - row["published"]
        assert row["low"] <= row["difference"] <= row["high"]
        # The interval of the difference has 0 in it if the figures agree.
        assert row["agrees"] == (row["low"] <= 0 <= row["high"])


def test_an_adopted_slowfast_is_trained_further_with_its_own_heads(lab, tmp_path, caplog):
    start = adopted("slowfast_r50", tmp_path)
    results, (path, _, options) = copy_results(lab, tmp_path, 4), shrunk("slowfast_r50")
    # An adopted SlowFast needs these in place of the recipe's options (docs/first-day.md).
    options |= {
        "model.backbone.type": "PySlowFast",
        "model.backbone.slow_pathway.lateral_norm": True,
        "model.data_preprocessor.mean": [114.75, 114.75, 114.75],
        "model.data_preprocessor.std": [57.375, 57.375, 57.375],
    }
    chosen = {
        "config": path,
        "load_from": str(start),
        "epochs": 2,
        "batch_size": 2,
        "workers": 0,
        "device": "cpu",
        "validate": {"segments": 2},
        "options": options,
    }
    train(TrainSettings.model_validate(chosen), **job(lab, results))
    before, after = load_model(start), load_model(results / "model.pth")
    assert f"{start}: 662 of 662 tensors" in caplog.text
    assert "not in the file" not in caplog.text
    assert "trained anew" not in caplog.text
    assert after.heads == before.heads == "verb_noun" and len(after.pairs) < len(before.pairs)
    assert after.config["model"]["backbone"]["type"] == "PySlowFast"
    weights = after.state_dict
    changed = {key for key in weights if not torch.equal(weights[key], before.state_dict[key])}
    assert "cls_head.fc_cls.weight" in changed and len(changed) > len(weights) / 8
    # BatchNorm is frozen in this recipe.
    assert not any(".bn." in key or "running" in key for key in changed)
    # A heading and a row for each of two epochs.
    assert (results / "training.tsv").read_text().count("\n") == 3


def test_an_adopted_model_makes_timelines_features_and_a_summary_beside_its_published_figures(
    clean_archive, tmp_path
):
    folder = clean_archive(tmp_path / "archive")
    model = adopted("slowfast_r50", tmp_path)
    configure(folder, predict={"model": str(model), "workers": 0})
    names = ("timeline/P02_102.tsv", "features/P02.tsv", "metrics.json", "summary.txt")
    run(folder, *(f"results/{name}" for name in names), "--cores", "2")
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert figures["predicted"] == figures["segments"] > 0
    assert set(figures["by_reduce"]) == {"logsumexp", "max", "heads"}
    text = (folder / "results/summary.txt").read_text()
    assert "SlowFast R50, 8x8: top-1 as published and here" in text and "DIFFERS" in text
    assert "What usually makes such a difference" in text and "the order of the classes" in text
    assert (folder / "results/timeline/P02_102.tsv").stat().st_size > 50
