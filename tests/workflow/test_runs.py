"""Several runs side by side, and several models averaged, on the real DAG."""

import json
import shutil
from types import SimpleNamespace

import pytest

from epic100.scoring.predictions import read_predictions
from support.archive import configure, jobs, run, said
from support.checkout import ROOT
from support.models import save_random_model
from support.small_runs import SMALL
from support.tables import rows_of

pytestmark = pytest.mark.slow


@pytest.fixture
def with_models(cleaned):
    """A clean archive with the models 1.pth and 2.pth."""
    lab = SimpleNamespace(results=str(cleaned / "results"), root=str(cleaned / "archive"))
    for seed in (1, 2):
        save_random_model(lab, cleaned / f"{seed}.pth", seed)
    return cleaned


def test_a_small_sweep_runs_to_its_page_and_other_configs_leave_it_as_it_is(cleaned):
    small = {
        "config": "config/x3d_demo.py",
        "from_scratch": True,
        "epochs": 1,
        "batch_size": 16,
        "workers": 0,
        "options": SMALL | {"train_dataloader.dataset.pipeline.2.short_side": [36, 40]},
    }
    settings = {"train": small, "predict": {"clips": 1, "workers": 0}}
    seeds_of_sweep = {"train": {"seed": [0, 1]}}
    configure(cleaned, **settings, sweep=seeds_of_sweep)
    done = run(cleaned)
    assert jobs(done)["train"] == 2 and "from random weights" in said(done)
    assert said(done).count("Start check: the whole way once") == 1
    assert "2 runs side by side" in (cleaned / "results/compare.html").read_text()
    rows = rows_of(cleaned / "results/compare.tsv")
    assert [row["run"] for row in rows] == ["seed0", "seed1"]
    (seeds,) = ([row[key] for row in rows] for key in rows[0] if "seed" in key)
    assert seeds == ["0", "1"]
    assert len(list((cleaned / "results/work_dirs").iterdir())) == 2
    models = [(cleaned / f"results/runs/seed{n}/model.pth").read_bytes() for n in (0, 1)]
    assert models[0] != models[1] and not (cleaned / "results/model.pth").exists()
    again = said(run(cleaned, "-n", "-R", "train"))
    assert again.count(": takes the finished model of results/work_dirs/") == 2
    configure(cleaned, **settings | {"train": small | {"epochs": 2}}, sweep=seeds_of_sweep)
    assert said(run(cleaned, "-n")).count(": trains; how long: epic100 check") == 2
    # No default run was made, and none is made for the page.
    configure(cleaned, **settings)
    assert jobs(run(cleaned, "results/compare.html", "-n")) == {"compare": 1}


def test_a_sweep_of_recipes_fetches_the_start_weights_of_each(cleaned):
    recipes = ["x3d_s_epic_rgb_segments", "zoo/slowfast_r50", "x3d_s_epic_from_scratch"]
    configure(cleaned, sweep={"train": {"config": [f"config/{name}.py" for name in recipes]}})
    done = run(cleaned, "-n")
    planned = {"weights": 1, "train": 3, "predict": 3, "evaluate": 3, "compare": 1, "all": 1}
    assert jobs(done) == planned
    assert "x3d_s_13x6x1" in said(done) and "slowfast_r50_8xb8" in said(done)
    assert f"as {ROOT}/config/zoo/slowfast_r50.py says, from its own start weights" in said(done)


def test_each_recipe_of_a_sweep_is_tried_before_the_first_job(cleaned):
    """Earlier only the first recipe was tried, because both have the same settings, and the second
    failed in its job."""
    (cleaned / "bad.py").write_text(
        f"_base_ = [{str(ROOT / 'config/x3d_demo.py')!r}]\n"
        "model = dict(cls_head=dict(head=dict(in_channels=7)))\n"
    )
    small = {"from_scratch": True, "epochs": 1, "batch_size": 16, "workers": 0}
    recipes = ["config/x3d_demo.py", "bad.py"]
    configure(cleaned, train=small, sweep={"train": {"config": recipes}})
    done = run(cleaned, well=False)
    assert "a training step with these settings fails (RuntimeError" in said(done)
    assert "bad.py" in said(done) and not list(cleaned.glob("results/runs/*/logs"))


def test_two_models_are_averaged_into_one_submission(with_models):
    cleaned, models = with_models, ["1.pth", "2.pth"]
    configure(cleaned, predict={"models": models, "clips": 1, "workers": 0})
    done = run(cleaned, "results/metrics.json", "results/submission.pt")
    assert jobs(done) == {"predict": 2, "average": 1, "evaluate": 1, "export": 1}
    predictions = cleaned / "results/predictions"
    mean = read_predictions(
        predictions / "val.pt", "val", model=[cleaned / name for name in models]
    )
    parts = [read_predictions(predictions / f"models/{n}/val.pt", "val") for n in (1, 2)]
    expected = sum(part.log_probs.exp() for part in parts) / 2
    assert (mean.log_probs.exp() - expected).abs().max() < 1e-6
    figures = json.loads((cleaned / "results/metrics.json").read_text())
    assert len(figures["trained_on"]["models"]) == 2
    assert "train" not in jobs(run(cleaned, "all", "-n"))


def test_one_model_given_twice_stops_before_any_prediction(with_models):
    shutil.copy(with_models / "1.pth", with_models / "copy.pth")
    configure(with_models, predict={"models": ["1.pth", "2.pth", "copy.pth"]})
    done = run(with_models, "results/predictions/val.pt", well=False)
    assert "copy.pth: is 1.pth again" in said(done)
    assert not list(with_models.glob("results/predictions/**/*.pt"))
