"""Sweeps of several runs, and averages of several models, on the real DAG."""

import json
import shutil
from types import SimpleNamespace

import pytest

from support.archive import configure, jobs, run, said
from support.checkout import ROOT, rows_of
from support.models import save_random_model
from support.small_runs import SMALL


@pytest.fixture
def with_models(cleaned):
    """A clean archive with the models 1.pth and 2.pth."""
    lab = SimpleNamespace(results=str(cleaned / "results"), root=str(cleaned / "archive"))
    for seed in (1, 2):
        save_random_model(lab, cleaned / f"{seed}.pth", seed)
    return cleaned


FROM_SCRATCH = {"from_scratch": True, "epochs": 1, "batch_size": 16, "workers": 0}


def test_a_small_sweep_runs_to_its_page(cleaned):
    small = FROM_SCRATCH | {
        "config": "config/x3d_demo.py",
        "options": SMALL | {"train_dataloader.dataset.pipeline.2.short_side": [36, 40]},
    }
    settings = {"train": small, "predict": {"clips": 1, "workers": 0}}
    two_seeds = {"train": {"seed": [0, 1]}}
    configure(cleaned, **settings, sweep=two_seeds)
    done = run(cleaned)
    assert jobs(done)["train"] == 2 and "from random weights" in said(done)
    # A training with another seed needs no other trial.
    assert said(done).count("Trial: two steps") == 1
    assert "2 runs side by side" in (cleaned / "results/compare.html").read_text()
    rows = rows_of(cleaned / "results/compare.tsv")
    assert [(row["run"], row["train.seed"]) for row in rows] == [
        ("seed0", "0"),
        ("seed1", "1"),
    ]
    models = [(cleaned / f"results/runs/seed{n}/model.pth").read_bytes() for n in (0, 1)]
    assert models[0] != models[1] and not (cleaned / "results/model.pth").exists()
    # The page of another config shows the two runs, and makes no default run for it.
    configure(cleaned, **settings)
    assert jobs(run(cleaned, "results/compare.html", "-n")) == {"compare": 1}


def test_a_sweep_fetches_each_recipe_s_weights(cleaned):
    recipes = ["x3d_s_epic_rgb_segments", "zoo/slowfast_r50", "x3d_s_epic_from_scratch"]
    configure(cleaned, sweep={"train": {"config": [f"config/{name}.py" for name in recipes]}})
    done = run(cleaned, "-n")
    planned = {"weights": 1, "train": 3, "predict": 3, "evaluate": 3, "compare": 1, "all": 1}
    assert jobs(done) == planned
    assert "x3d_s_13x6x1" in said(done) and "slowfast_r50_8xb8" in said(done)
    assert f"as {ROOT}/config/zoo/slowfast_r50.py says, from its own start weights" in said(done)


def test_each_sweep_recipe_is_tried_first(cleaned):
    """Only the first recipe was tried, since both have the same settings; the second one failed in
    its job."""
    (cleaned / "bad.py").write_text(
        f"_base_ = [{str(ROOT / 'config/x3d_demo.py')!r}]\n"
        "model = dict(cls_head=dict(head=dict(in_channels=7)))\n"
    )
    recipes = ["config/x3d_demo.py", "bad.py"]
    configure(cleaned, train=FROM_SCRATCH, sweep={"train": {"config": recipes}})
    done = run(cleaned, well=False)
    assert "a training with these settings fails in its trial (RuntimeError" in said(done)
    assert "bad.py" in said(done) and not list(cleaned.glob("results/runs/*/logs"))


def test_two_models_are_averaged_into_one_submission(with_models):
    configure(with_models, predict={"models": ["1.pth", "2.pth"], "clips": 1, "workers": 0})
    done = run(with_models, "results/metrics.json", "results/submission.pt")
    assert jobs(done) == {"predict": 2, "average": 1, "evaluate": 1, "export": 1}
    figures = json.loads((with_models / "results/metrics.json").read_text())
    assert len(figures["trained_on"]["models"]) == 2
    assert "train" not in jobs(run(with_models, "all", "-n"))


def test_one_model_given_twice_stops_before_any_prediction(with_models):
    shutil.copy(with_models / "1.pth", with_models / "copy.pth")
    configure(with_models, predict={"models": ["1.pth", "2.pth", "copy.pth"]})
    done = run(with_models, "results/predictions/val.pt", well=False)
    assert "copy.pth: is 1.pth again" in said(done)
    assert not list(with_models.glob("results/predictions/**/*.pt"))
