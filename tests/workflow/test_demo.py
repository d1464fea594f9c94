"""The results of one run of the demo, which tests share, and of its whole training."""

import json
import shutil

import pytest
import yaml

from support.checkout import SHORT_DEMO, epic100, run_snakemake, said


def test_the_model_learned_the_actions(demo):
    figures = json.loads((demo / "results/metrics.json").read_text())
    # The training is short. Chance would be right for one of eight pairs, 12.5 per cent.
    assert figures["readable_action_accuracy_at_1"] >= 50.0


def test_a_training_on_the_cpu_has_the_threads_of_its_rule(demo):
    assert "CPU, 1 x 1 threads" in (demo / "results/logs/train.log").read_text()


def test_a_model_from_elsewhere_is_scored_by_one_command(demo, tmp_path):
    here = shutil.copytree(demo, tmp_path / "demo")
    (tmp_path / "lab.pth").write_bytes((demo / "results/model.pth").read_bytes())
    words = ("--directory", here, "--configfile", *SHORT_DEMO)
    done = epic100("test", tmp_path / "lab.pth", *words)
    assert "2 jobs done" in said(done)
    elsewhere, here_made = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (here / "results/runs/lab", demo / "results")
    )
    # Of a model from elsewhere, no training is known.
    assert "train" in here_made.pop("settings") and "train" not in elsewhere.pop("settings")
    assert elsewhere == here_made


@pytest.mark.slow
@pytest.mark.weekly
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_learns_its_actions_with_each_of_three_seeds(seed, tmp_path):
    """The demo, run as a newcomer does."""
    (tmp_path / "seed.yaml").write_text(yaml.safe_dump({"train": {"seed": seed}}))
    run_snakemake(
        "results/metrics.json",
        "--directory",
        str(tmp_path),
        "--configfile",
        "config/demo.yaml",
        str(tmp_path / "seed.yaml"),
    )
    figures = json.loads((tmp_path / "results/metrics.json").read_text())
    # Chance would be right for one of eight pairs, 12.5 per cent.
    assert figures["readable_action_accuracy_at_1"] >= 90
