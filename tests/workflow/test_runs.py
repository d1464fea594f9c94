"""Several runs side by side, and several models averaged, on the real DAG."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from epic100.model.model_file import load_model, save_model
from epic100.scoring.predictions import read_predictions
from support.archive import configure, errors, jobs, run, said
from support.checkout import ROOT
from support.random_model import save_random_model
from support.small_runs import SMALL

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(clean_archive, tmp_path):
    return clean_archive(tmp_path)


@pytest.fixture
def with_models(folder):
    """... with the models 1.pth and 2.pth."""
    lab = SimpleNamespace(results=str(folder / "results"), root=str(folder / "archive"))
    for seed in (1, 2):
        save_random_model(lab, folder / f"{seed}.pth", seed)
    return folder


def test_a_small_sweep_runs_to_its_page_and_other_configs_leave_it_as_it_is(folder):
    small = {
        "config": "config/x3d_demo.py", "from_scratch": True, "epochs": 1, "batch_size": 16,
        "workers": 0,
        "options": SMALL | {"train_dataloader.dataset.pipeline.2.short_side": [36, 40]},
    }  # fmt: skip
    settings = {"train": small, "predict": {"clips": 1, "workers": 0}}
    configure(folder, **settings, sweep={"train": {"seed": [0, 1]}})
    done = run(folder)
    assert jobs(done)["train"] == 2 and "from random weights" in said(done)
    assert "2 runs side by side" in (folder / "results/compare.html").read_text()
    with open(folder / "results/compare.tsv", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert [row["run"] for row in rows] == ["seed0", "seed1"]
    (seeds,) = ([row[key] for row in rows] for key in rows[0] if "randomness.seed" in key)
    assert seeds == ["0", "1"]
    assert len(list((folder / "results/work_dirs").iterdir())) == 2
    models = [(folder / f"results/runs/seed{n}/model.pth").read_bytes() for n in (0, 1)]
    assert models[0] != models[1] and not (folder / "results/model.pth").exists()
    configure(folder, **settings)  # no default run was made, and none is made for the page
    assert jobs(run(folder, "results/compare.html", "-n")) == {"compare": 1}


def test_a_sweep_of_recipes_fetches_the_start_weights_of_each(folder):
    recipes = ["x3d_s_epic_rgb_segments", "zoo/slowfast_r50", "x3d_s_epic_from_scratch"]
    configure(folder, sweep={"train": {"config": [f"config/{name}.py" for name in recipes]}})
    done = run(folder, "-n")
    planned = {"weights": 1, "train": 3, "predict": 3, "evaluate": 3, "compare": 1, "all": 1}
    assert jobs(done) == planned
    assert "x3d_s_13x6x1" in said(done) and "slowfast_r50_8xb8" in said(done)
    assert f"as {ROOT}/config/zoo/slowfast_r50.py says, from its own start weights" in said(done)


def test_two_models_are_averaged_into_one_submission(with_models):
    folder, models = with_models, ["1.pth", "2.pth"]
    configure(folder, predict={"models": models, "clips": 1, "workers": 0})
    done = run(folder, "results/metrics.json", "results/submission.pt")
    assert jobs(done) == {"models_ok": 1, "predict": 2, "average": 1, "evaluate": 1, "export": 1}
    predictions = folder / "results/predictions"
    mean = read_predictions(predictions / "val.pt", "val", model=[folder / name for name in models])
    parts = [read_predictions(predictions / f"models/{n}/val.pt", "val") for n in (1, 2)]
    expected = sum(part.log_probs.exp() for part in parts) / 2
    assert (mean.log_probs.exp() - expected).abs().max() < 1e-6
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert len(figures["trained_on"]["models"]) == 2
    assert "train" not in jobs(run(folder, "all", "-n"))


@pytest.mark.parametrize("predict, words", [
    ({"model": "bad.pth"}, "bad.pth: not a model that this workflow wrote"),
    ({"models": ["1.pth", "odd.pth"]}, "odd.pth: has 50 verbs and 300 nouns"),
])  # fmt: skip
def test_a_model_that_cannot_be_read_or_is_of_other_classes_stops_before_any_prediction(
    with_models, predict, words
):
    folder = with_models
    (folder / "bad.pth").write_bytes(b"not a model")
    save_model(replace(load_model(folder / "1.pth"), num_verbs=50), folder / "odd.pth")
    configure(folder, predict=predict)
    (line,) = errors(run(folder, "results/predictions/val.pt", well=False))
    assert words in line
    assert not list(folder.glob("results/predictions/**/*.pt"))
