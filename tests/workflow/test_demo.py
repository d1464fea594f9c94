"""What one run of the whole DAG leaves behind. The run is made once and shared."""

import json
import os
import re
import shutil

import pytest
import yaml

from support.checkout import ROOT, SHORT_DEMO, epic100, python, run_snakemake, said

READABLE = 50.0  # per cent, after the short training; the whole one: below


def test_the_model_learned_the_actions(demo):
    figures = json.loads((demo / "results/metrics.json").read_text())
    assert figures["readable_action_accuracy_at_1"] >= READABLE
    listed = (demo / "results/segments/val.txt").read_text().splitlines()
    assert figures["segments"] == len(listed) > figures["predicted"]


def test_a_training_on_the_cpu_has_the_threads_of_its_rule(demo):
    assert "CPU, 1 x 1 threads" in (demo / "results/logs/train.log").read_text()


def test_a_model_of_another_place_is_scored_by_one_command(demo, tmp_path):
    here = shutil.copytree(demo, tmp_path / "demo")
    (tmp_path / "lab.pth").write_bytes((demo / "results/model.pth").read_bytes())
    words = ("--directory", here, "--configfile", *SHORT_DEMO)
    done = epic100("test", tmp_path / "lab.pth", *words)
    assert "2 jobs done" in said(done)
    made, known = (
        folder / "metrics.json" for folder in (here / "results/runs/lab", demo / "results")
    )
    assert made.read_bytes() == known.read_bytes()
    missing = epic100("test", tmp_path / "none.pth", well=False)
    assert "none.pth: no such file; expected a model" in missing.stderr


def test_a_new_key_makes_nothing_again_and_a_changed_default_does(demo, tmp_path):
    shutil.copytree(ROOT / "workflow/epic100", tmp_path / "epic100")
    keys = tmp_path / "epic100/settings/keys.py"
    text, sections = re.subn(
        r'^(class \w+\(\w+\):\n    """(?:.|\n)*?""")',
        r'\1\n\n    added: int = key(3, "A key of a later version.")', keys.read_text(), flags=re.M,
    )  # fmt: skip
    assert sections > 20

    def planned():
        words = ("all", "-n", "--snakefile", "Snakefile", "--configfile", *SHORT_DEMO)
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        return said(python("-m", "snakemake", *words, "--directory", demo, env=environment))

    keys.write_text(text)
    assert "Nothing to be done" in planned()
    old, new = '0.01,\n        "share', 'at_first=0.01, default=0.02, meaning="share'
    assert text.count(old) == 1
    keys.write_text(text.replace(old, new))
    assert "Rules with provenance triggered jobs: train\n" in planned()


@pytest.mark.slow
@pytest.mark.weekly
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_learns_its_actions_with_each_of_three_seeds(seed, tmp_path):
    """As a newcomer runs it."""
    (tmp_path / "seed.yaml").write_text(yaml.safe_dump({"train": {"seed": seed}}))
    run_snakemake("results/metrics.json", "--directory", str(tmp_path), "--configfile",
                  "config/demo.yaml", str(tmp_path / "seed.yaml"))  # fmt: skip
    figures = json.loads((tmp_path / "results/metrics.json").read_text())
    assert figures["readable_action_accuracy_at_1"] >= 90  # chance: one of eight pairs
