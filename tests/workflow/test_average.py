"""Several models on the real DAG: checked together, predicted with one by one, averaged."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from epic100.model.model_file import load_model, save_model
from epic100.scoring.predictions import read_predictions
from support.archive import configure, errors, jobs, run, said
from support.random_model import save_random_model


@pytest.fixture
def folder(clean_archive, tmp_path):
    """A clean archive with the models 1.pth and 2.pth."""
    folder = clean_archive(tmp_path)
    lab = SimpleNamespace(results=str(folder / "results"), root=str(folder / "archive"))
    for seed in (1, 2):
        save_random_model(lab, folder / f"{seed}.pth", seed)
    return folder


def test_two_models_are_averaged_into_one_submission(folder):
    models = ["1.pth", "2.pth"]
    configure(folder, predict={"models": models, "clips": 1, "workers": 0})
    done = run(folder, "results/metrics.json", "results/submission.pt")
    assert done.returncode == 0, said(done)
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
    folder, predict, words
):
    (folder / "bad.pth").write_bytes(b"not a model")
    save_model(replace(load_model(folder / "1.pth"), num_verbs=50), folder / "odd.pth")
    configure(folder, predict=predict)
    done = run(folder, "results/predictions/val.pt")
    assert done.returncode != 0
    (line,) = errors(done)
    assert words in line
    assert not list(folder.glob("results/predictions/**/*.pt"))
