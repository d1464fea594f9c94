"""Several models on the real DAG: checked together, predicted with one by one, averaged."""

import json
from dataclasses import replace
from types import SimpleNamespace

from epic100.model.model_file import load_model, save_model
from epic100.scoring.predictions import read_predictions
from support.archive import configure, errors, jobs, run, said
from support.random_model import save_random_model


def test_two_models_are_averaged_into_one_submission(clean_archive, tmp_path):
    folder = clean_archive(tmp_path)
    lab = SimpleNamespace(results=str(folder / "results"), root=str(folder / "archive"))
    models = [str(folder / f"{seed}.pth") for seed in (1, 2)]
    for seed, path in enumerate(models, start=1):
        save_random_model(lab, path, seed)
    configure(folder, predict={"models": models, "clips": 1, "workers": 0})
    done = run(folder, "results/metrics.json", "results/submission.pt")
    assert done.returncode == 0, said(done)
    assert jobs(done) == {"models_ok": 1, "predict": 2, "average": 1, "evaluate": 1, "export": 1}
    mean = read_predictions(folder / "results/predictions/val.pt", "val", model=models)
    parts = [
        read_predictions(folder / f"results/predictions/models/{n}/val.pt", "val") for n in (1, 2)
    ]
    expected = sum(part.log_probs.exp() for part in parts) / 2
    assert (mean.log_probs.exp() - expected).abs().max() < 1e-6
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert len(figures["trained_on"]["models"]) == 2
    assert "train" not in jobs(run(folder, "all", "-n"))


def test_models_of_other_classes_stop_before_any_prediction(clean_archive, tmp_path):
    folder = clean_archive(tmp_path)
    lab = SimpleNamespace(results=str(folder / "results"), root=str(folder / "archive"))
    save_random_model(lab, folder / "1.pth", 1)
    save_model(replace(load_model(folder / "1.pth"), num_verbs=50), folder / "2.pth")
    configure(folder, predict={"models": [str(folder / "1.pth"), str(folder / "2.pth")]})
    done = run(folder, "results/metrics.json")
    assert done.returncode != 0
    assert len(errors(done)) == 1 and "2.pth: has 50 verbs and 300 nouns" in errors(done)[0]
    assert not (folder / "results/predictions/models").exists()
    for file in ("timeline/P01_01.tsv", "features/P01.tsv"):
        done = run(folder, f"results/{file}", "-n")
        assert done.returncode != 0
        assert "are made with one model, and the config has 2 in `predict: models:`" in said(done)
