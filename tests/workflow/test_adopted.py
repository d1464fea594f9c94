"""Adopted models are models like any other: predictions, averages, submissions, timelines."""

import json

import pytest
import torch

from epic100.migrate.adopt import adopt
from epic100.model.model_file import load_model
from epic100.model.published import published
from epic100.scoring.evaluation import evaluate
from epic100.settings import TrainSettings
from epic100.training.train import train
from support.archive import configure, run
from support.models import predicted
from support.published_weights import checkpoint, official_csvs, small
from support.small_runs import copy_results, job
from support.zoo import shrunk

pytestmark = pytest.mark.slow
NAMES = [name for name in published() if name != "avion_b_no_llm"]


def adopted(name, folder):
    """The model file of a small model with this name."""
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


@pytest.mark.parametrize("name", NAMES)
def test_each_goes_from_its_file_to_its_figures_beside_the_published_ones(name, lab, tmp_path):
    path = adopted(name, tmp_path)
    clean, out = f"{lab.results}/clean/val.txt", tmp_path / "val.pt"
    clips = 10 if name == "slowfast_r50" else 1
    predicted(lab, path, clean, out, batch_size=2, workers=0, clips=clips)
    listed = f"{lab.results}/segments/val.txt"
    figures = evaluate(out, listed, tmp_path / "metrics.json", lists={}, reduce=None)
    rows = figures["beside_published"]["rows"]
    assert [row["segments"] for row in rows] == ["all"] * 4 + ["readable"] * 4
    model = published()[name]
    compared = {"verb": model.verb, "noun": model.noun}
    compared["action, own scores" if model.own_scores else "action, official"] = model.action
    assert {row["what"]: row["published"] for row in rows if row["published"]} == {
        what: figure for what, figure in compared.items() if figure
    }
    for row in (row for row in rows if row["published"]):
        assert row["difference"] == row["here"] - row["published"]
        assert row["agrees"] == (row["low"] <= 0 <= row["high"])


def test_the_figures_of_a_model_that_agrees_say_so(lab, tmp_path):
    """The published figures are set to those that the model has here."""
    path = adopted("avion_b", tmp_path)
    out, listed = tmp_path / "val.pt", f"{lab.results}/segments/val.txt"
    predicted(lab, path, f"{lab.results}/clean/val.txt", out, batch_size=2, workers=0, clips=1)
    content = torch.load(out)
    said = content["trained_on"]["published"]
    said |= {"verb": 0.0, "noun": 0.0, "action": 0.0}
    torch.save(content, out)
    figures = evaluate(out, listed, tmp_path / "metrics.json", lists={}, reduce=None)
    rows = [row for row in figures["beside_published"]["rows"] if row["agrees"] is not None]
    assert len(rows) == 6
    for row in rows:
        assert row["difference"] == row["here"] and row["low"] <= row["here"] <= row["high"]
        assert row["agrees"] == (row["low"] <= 0)


# The file of an adopted SlowFast has these in place of the recipe's (docs/first-day.md).
PYSLOWFAST = {
    "model.backbone.type": "PySlowFast",
    "model.backbone.slow_pathway.lateral_norm": True,
    "model.data_preprocessor.mean": [114.75, 114.75, 114.75],
    "model.data_preprocessor.std": [57.375, 57.375, 57.375],
}


def test_an_adopted_slowfast_is_trained_on_by_its_recipe(lab, tmp_path, caplog):
    """Two epochs: its own loss and heads, whose weights are those that it came with."""
    start = adopted("slowfast_r50", tmp_path)
    results, (path, _, options) = copy_results(lab, tmp_path, 4), shrunk("slowfast_r50")
    options |= PYSLOWFAST
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
    assert "weights: " in caplog.text and "not in the file" not in caplog.text
    assert "trained anew" not in caplog.text
    assert after.heads == before.heads == "verb_noun" and len(after.pairs) < len(before.pairs)
    assert after.config["model"]["backbone"]["type"] == "PySlowFast"
    moved = {
        name
        for name, value in after.state_dict.items()
        if not torch.equal(value, before.state_dict[name])
    }
    norms = {name for name in after.state_dict if ".bn." in name or "running" in name}
    assert "cls_head.fc_cls.weight" in moved and len(moved) > len(after.state_dict) / 8
    assert not moved & norms
    assert (results / "training.tsv").read_text().count("\n") == 3


def test_one_makes_timelines_features_and_a_summary_beside_its_published_figures(
    clean_archive, tmp_path
):
    folder = clean_archive(tmp_path / "archive")
    model = adopted("slowfast_r50", tmp_path)
    configure(folder, predict={"model": str(model), "workers": 0})
    results = ("timeline/P02_102.tsv", "features/P02.tsv", "metrics.json", "summary.txt")
    run(folder, *(f"results/{name}" for name in results), "--cores", "2")
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert figures["predicted"] == figures["segments"] > 0
    assert set(figures["by_reduce"]) == {"logsumexp", "max", "heads"}
    text = (folder / "results/summary.txt").read_text()
    assert "SlowFast R50, 8x8: top-1 as published and here" in text and "DIFFERS" in text
    assert "What usually makes such a difference" in text and "the order of the classes" in text
    log = (folder / "results/logs/predict/val.log").read_text()
    assert f"10 clips x 1 crops of each of {figures['segments']} segments" in log
    assert (folder / "results/timeline/P02_102.tsv").stat().st_size > 50
    assert load_model(model).heads == "verb_noun"
