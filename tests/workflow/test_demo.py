"""What one run of the whole DAG leaves behind. The run is made once and shared."""

import csv
import json
import os
import re
import shutil

import pytest
import torch
import yaml

from epic100.minikitchen import NOUNS, VERBS
from epic100.model.model_file import load_model
from epic100.segments.pairs import read_pairs
from epic100.submission.check import check
from epic100.submission.zips import check_zip
from epic100.video.scan_table import read_scan_table
from epic100.video.sheet import read_sheet
from support.checkout import ROOT, python, run_snakemake, said

READABLE = 60.0  # per cent, by one seed; three: below
DAMAGE = yaml.safe_load((ROOT / "config/demo.yaml").read_text())["minikitchen"]["damage"]
SHEET = {video.video_id: video for video in read_sheet(ROOT / "config/demo_videos.tsv")}


def ids_of(demo, name):
    with open(demo / f"annotations/EPIC_100_{name}.csv") as handle:
        return [row["narration_id"] for row in csv.DictReader(handle)]


def test_every_kind_of_damage_is_found_and_whole_files_are_measured(demo):
    tables = map(read_scan_table, (demo / "results/scan").glob("*.tsv"))
    rows = {row.video_id: row for table in tables for row in table}
    assert set(rows) == set(SHEET)
    assert {video_id for video_id, row in rows.items() if row.status != "ok"} == set(DAMAGE)
    assert {kind: rows[video_id].status for video_id, kind in DAMAGE.items()} == {
        "truncated": "damaged", "zeroed": "damaged", "bitflips": "damaged",
        "empty": "unreadable", "missing": "missing",
    }  # fmt: skip
    for video_id in set(SHEET) - set(DAMAGE):
        video, row = SHEET[video_id], rows[video_id]
        assert row.fps == pytest.approx(video.fps, abs=1e-5)
        assert row.frames == row.pictures == round(video.fps * video.duration)


def test_the_model_learned_the_actions(demo):
    figures = json.loads((demo / "results/metrics.json").read_text())
    assert figures["readable_action_accuracy_at_1"] >= READABLE
    assert figures["segments"] == len(ids_of(demo, "validation")) > figures["predicted"]


def test_a_model_of_another_place_is_scored_by_one_command(demo, tmp_path):
    here = shutil.copytree(demo, tmp_path / "demo")
    (tmp_path / "lab.pth").write_bytes((demo / "results/model.pth").read_bytes())
    done = python("-m", "epic100", "test", tmp_path / "lab.pth", "--directory", here,
                  "--configfile", "config/demo.yaml")  # fmt: skip
    assert "2 jobs done" in said(done)
    made, known = (
        folder / "metrics.json" for folder in (here / "results/runs/lab", demo / "results")
    )
    assert made.read_bytes() == known.read_bytes()
    missing = python("-m", "epic100", "test", tmp_path / "none.pth", well=False)
    assert "none.pth: no such file; expected a model" in missing.stderr


def test_the_submissions_pass_the_check(demo):
    entries = torch.load(demo / "results/submission.pt", weights_only=True)
    faults = check(entries, ids_of(demo, "validation"), 97, 300)
    faults += check_zip(demo / "results/submission.zip", ids_of(demo, "test_timestamps"), 97, 300)
    assert [line for line in faults if not line.startswith("hint")] == []


def test_the_model_file_loads_safely_and_holds_the_pair_table_and_names(demo):
    model = load_model(demo / "results/model.pth")
    assert model.pairs == read_pairs(demo / "results/clean/pairs.tsv")
    assert (model.num_verbs, model.num_nouns) == (97, 300)
    assert model.names == {"verb": VERBS, "noun": NOUNS}


def test_a_new_key_makes_nothing_again_and_a_changed_default_does(demo, tmp_path):
    shutil.copytree(ROOT / "workflow/epic100", tmp_path / "epic100")
    keys = tmp_path / "epic100/settings/keys.py"
    text, sections = re.subn(
        r'^(class \w+\(\w+\):\n    """(?:.|\n)*?""")',
        r'\1\n\n    added: int = key(3, "A key of a later version.")', keys.read_text(), flags=re.M,
    )  # fmt: skip
    assert sections > 20

    def planned():
        words = ("all", "-n", "--snakefile", "Snakefile", "--configfile", "config/demo.yaml")
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
