"""What one run of the whole DAG leaves behind. The run is made once and shared."""

import csv
import json
import os
import re
import shutil
import zipfile

import pytest
import torch
import yaml

from epic100.minikitchen import NOUNS, VERBS
from epic100.model.model_file import load_model
from epic100.scoring.predictions import read_predictions
from epic100.segments.segment_list import read_segments
from epic100.submission.check import check, check_zip
from epic100.video.scan_table import read_scan_table
from epic100.video.sheet import read_sheet
from support.checkout import ROOT, python, run_snakemake, said

READABLE = 60.0  # per cent, by one seed; three: below
DAMAGE = yaml.safe_load((ROOT / "config/demo.yaml").read_text())["minikitchen"]["damage"]
SHEET = {video.video_id: video for video in read_sheet(ROOT / "config/demo_videos.tsv")}


def ids_of(demo, name):
    with open(demo / f"annotations/EPIC_100_{name}.csv") as handle:
        return [row["narration_id"] for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def rows(demo):
    tables = [read_scan_table(path) for path in sorted((demo / "results/scan").glob("*.tsv"))]
    return {row.video_id: row for table in tables for row in table}


def test_every_kind_of_damage_is_found_and_whole_files_are_measured(rows):
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


def test_a_damaged_video_keeps_the_segments_that_touch_no_damage(demo, rows):
    with open(demo / "results/clean/dropped.tsv") as handle:
        dropped = {row["narration_id"]: row for row in csv.DictReader(handle, delimiter="\t")}
    for split in ("train", "val", "test"):
        listed = read_segments(demo / f"results/segments/{split}.txt")
        kept = set(read_segments(demo / f"results/clean/{split}.txt")["narration_id"])
        gone = {name for name, row in dropped.items() if row["split"] == split}
        assert kept | gone == set(listed["narration_id"]) and not kept & gone
        for segment in listed.itertuples():
            row = rows[segment.path.split("/")[1].removesuffix(".MP4")]
            touched = any(a < segment.stop and segment.start < b for a, b in row.damaged)
            assert (segment.narration_id in gone) == (not row.readable or touched)
    assert all(row["reason"] for row in dropped.values())


def test_the_model_learned_the_actions(demo):
    figures = json.loads((demo / "results/metrics.json").read_text())
    assert figures["readable_action_accuracy_at_1"] >= READABLE
    for key in ("overall_verb_accuracy_at_1", "unseen_noun_accuracy_at_1",
                "tail_action_accuracy_at_1", "overall_action_accuracy_at_5"):  # fmt: skip
        assert 0 <= figures[key] <= 100
    assert figures["segments"] == len(ids_of(demo, "validation")) > figures["predicted"]


def test_the_submissions_name_every_segment_once_and_pass_the_check(demo):
    expected = ids_of(demo, "validation")
    entries = torch.load(demo / "results/submission.pt", weights_only=True)
    assert sorted(entry["narration_id"] for entry in entries) == sorted(expected)
    assert all(entry["verb_output"].shape == (97,) for entry in entries)
    assert all(entry["noun_output"].shape == (300,) for entry in entries)
    assert all(entry["noun_output"].dtype == torch.float32 for entry in entries)
    faults = check(entries, expected, 97, 300)
    faults += check_zip(demo / "results/submission.zip", ids_of(demo, "test_timestamps"), 97, 300)
    assert [line for line in faults if not line.startswith("hint")] == []
    with zipfile.ZipFile(demo / "results/submission.zip") as archive:
        assert archive.namelist() == ["test.json"]
    predictions = read_predictions(demo / "results/predictions/test.pt", "test")
    assert sorted(predictions.narration_ids) == sorted(ids_of(demo, "test_timestamps"))


def test_segments_without_a_prediction_share_the_prior_and_others_do_not(demo):
    entries = torch.load(demo / "results/submission.pt", weights_only=True)
    predicted = set(read_predictions(demo / "results/predictions/val.pt", "val").narration_ids)
    rows = {e["narration_id"]: tuple(e["verb_output"].tolist()) for e in entries}
    prior = {row for name, row in rows.items() if name not in predicted}
    real = {row for name, row in rows.items() if name in predicted}
    assert len(prior) == 1 and len(real) == len(predicted) and not prior & real


def test_the_model_file_loads_safely_and_holds_the_pair_table(demo):
    model = load_model(demo / "results/model.pth")
    with open(demo / "results/clean/pairs.tsv") as handle:
        table = [(int(r["verb"]), int(r["noun"]), int(r["count"]))
                 for r in csv.DictReader(handle, delimiter="\t")]  # fmt: skip
    assert [tuple(pair) for pair in model.pairs] == table
    assert (model.num_verbs, model.num_nouns) == (97, 300)
    assert model.names == {"verb": VERBS, "noun": NOUNS}


def test_nothing_is_made_again_when_nothing_changed(demo):
    done = run_snakemake("all", "-n", "--directory", str(demo), "--configfile", "config/demo.yaml")
    assert "Nothing to be done" in said(done)


def test_a_new_key_makes_nothing_again_and_a_changed_default_does(demo, tmp_path):
    shutil.copytree(ROOT / "workflow/epic100", tmp_path / "epic100")
    keys = tmp_path / "epic100/settings/keys.py"
    text, sections = re.subn(
        r'^(class \w+\(\w+\):\n    """(?:.|\n)*?""")',
        r'\1\n\n    added: int = key(3, "A key of a later version.")', keys.read_text(), flags=re.M,
    )  # fmt: skip
    assert sections > 20

    def planned():
        done = python("-m", "snakemake", "all", "-n", "--snakefile", "Snakefile", "--configfile",
                      "config/demo.yaml", "--directory", demo,
                      env=os.environ | {"PYTHONPATH": str(tmp_path)})  # fmt: skip
        return said(done)

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
