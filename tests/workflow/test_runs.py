"""Runs side by side on the real DAG."""

import csv

import pytest

from support.archive import configure, jobs, run, said
from support.checkout import ROOT
from support.small_runs import SMALL

pytestmark = pytest.mark.slow


def test_a_small_sweep_runs_to_its_page_and_other_configs_leave_it_as_it_is(
    clean_archive, tmp_path
):
    folder = clean_archive(tmp_path)
    small = {
        "config": "config/x3d_demo.py", "from_scratch": True, "epochs": 1, "batch_size": 16,
        "workers": 0,
        "options": SMALL | {"train_dataloader.dataset.pipeline.2.short_side": [36, 40]},
    }  # fmt: skip
    settings = {"train": small, "predict": {"clips": 1, "workers": 0}}
    configure(folder, **settings, sweep={"train": {"seed": [0, 1]}})
    done = run(folder)
    assert done.returncode == 0, said(done)
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


def test_a_sweep_of_recipes_fetches_the_start_weights_of_each(clean_archive, tmp_path):
    folder = clean_archive(tmp_path)
    recipes = ["x3d_s_epic_rgb_segments", "zoo/slowfast_r50", "x3d_s_epic_from_scratch"]
    configure(folder, sweep={"train": {"config": [f"config/{name}.py" for name in recipes]}})
    done = run(folder, "-n")
    assert done.returncode == 0, said(done)
    planned = {"weights": 1, "train": 3, "predict": 3, "evaluate": 3, "compare": 1, "all": 1}
    assert jobs(done) == planned
    assert "x3d_s_13x6x1" in said(done) and "slowfast_r50_8xb8" in said(done)
    assert f"as {ROOT}/config/zoo/slowfast_r50.py says, from its own start weights" in said(done)
