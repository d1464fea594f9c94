"""Runs side by side on the real DAG."""

import csv
import re

import pytest
import yaml

from support.archive import configure, jobs, run, said
from support.checkout import ROOT
from support.small_runs import SMALL

pytestmark = pytest.mark.slow

# The sweep of docs/real-data.md.
SWEEP = yaml.safe_load(
    re.search(
        r"```yaml\n(sweep:.*?)```", (ROOT / "docs/real-data.md").read_text("utf-8"), re.DOTALL
    )[1]
)["sweep"]


def test_a_sweep_is_a_training_for_each_run_and_its_lists_and_scans_are_shared(
    new_archive, tmp_path
):
    folder = new_archive(tmp_path)
    configure(folder, sweep=SWEEP)
    found = jobs(run(folder, "-n"))
    assert found["train"] == found["predict"] == found["evaluate"] == 6
    assert found["compare"] == found["clean"] == 1 and found["scan"] == 2
    assert "export" not in found


def test_a_named_run_writes_to_its_own_folder_and_not_to_that_of_the_default_run(
    new_archive, tmp_path
):
    folder = new_archive(tmp_path)
    configure(folder, run="b")
    done = run(folder, "-n")
    for name in (
        "model.pth",
        "predictions/val.pt",
        "submission.zip",
        "metrics.json",
        "report.html",
    ):
        assert f"results/runs/b/{name}" in said(done) and f"results/{name}" not in said(done)
    assert "MissingRuleException" in said(run(folder, "-n", "results/model.pth"))


def test_a_small_sweep_runs_to_its_page_and_other_configs_leave_it_as_it_is(new_archive, tmp_path):
    folder = new_archive(tmp_path)
    small = {
        "config": "config/x3d_demo.py", "from_scratch": True, "epochs": 1, "batch_size": 16,
        "workers": 0,
        "options": SMALL | {"train_dataloader.dataset.pipeline.2.short_side": [36, 40]},
    }  # fmt: skip
    settings = {"train": small, "predict": {"clips": 1, "workers": 0}}
    configure(folder, **settings, sweep={"train": {"seed": [0, 1]}})
    done = run(folder)
    assert done.returncode == 0, said(done)
    assert jobs(done)["train"] == 2 and "2 runs side by side" in page_of(folder)
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


def page_of(folder) -> str:
    return (folder / "results/compare.html").read_text()
