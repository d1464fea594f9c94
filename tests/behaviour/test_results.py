"""The demo's results, file by file.

What is exact is what golden.json says: segment lists, clean lists, pairs, dropped segments, states
and damage of videos. Figures are those that the submission itself gives, up to rounding. A
prediction and its submission that are made again on the same machine are equal to the bit.
"""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from behaviour.archive import states
from behaviour.golden import require_golden
from support.checkout import run_snakemake
from support.tables import rows_of

LISTS = [
    *(f"segments/{split}.txt" for split in ("train", "val", "test")),
    *(f"clean/{split}.txt" for split in ("train", "val", "test")),
    *(f"clean/{name}.tsv" for name in ("pairs", "dropped", "salvage")),
]
MEASURED = ("video_id", "status", "frames", "damaged", "timing", "pictures")


def digest(*files) -> str:
    """The digest of the contents of files."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()


def test_lists_and_damage_are_what_they_are_today(demo):
    found = {name: digest(demo / "results" / name) for name in LISTS}
    scans = states(demo / "results")
    measured = {name: " ".join(row[key] or "-" for key in MEASURED) for name, row in scans.items()}
    inputs = [*sorted(demo.glob("annotations/*.csv")), *sorted(demo.glob("videos/*/*.MP4"))]
    require_golden("demo", found | measured, digest(*inputs))


def test_the_figures_are_those_of_the_submission(demo):
    figures = json.loads((demo / "results/metrics.json").read_text())
    entries = torch.load(demo / "results/submission.pt", weights_only=True)
    entry_of = {entry["narration_id"]: entry for entry in entries}
    is_right = {"verb": [], "noun": []}
    for row in rows_of(demo / "annotations/EPIC_100_validation.csv", ","):
        for task, outcomes in is_right.items():
            scores = entry_of[row["narration_id"]][f"{task}_output"]
            assert scores.exp().sum().item() == pytest.approx(1, abs=1e-4)
            # The official evaluator takes the last of equal scores, too.
            best = int(np.argsort(scores.numpy())[-1])
            outcomes.append(best == int(row[f"{task}_class"]))
    for task, outcomes in is_right.items():
        accuracy = figures[f"overall_{task}_accuracy_at_1"]
        assert accuracy == pytest.approx(100 * np.mean(outcomes), abs=1e-3)
    action_accuracy = 100 * np.mean(np.logical_and(is_right["verb"], is_right["noun"]))
    assert figures["overall_action_accuracy_at_1"] == pytest.approx(action_accuracy, abs=1e-3)


def test_a_prediction_and_its_submission_made_again_are_equal_to_the_bit(demo, tmp_path):
    for name in ("annotations", "videos", "results/segments", "results/clean", "results/scan"):
        shutil.copytree(demo / name, tmp_path / name)
    shutil.copy2(demo / "results/model.pth", tmp_path / "finished.pth")
    (tmp_path / "again.yaml").write_text(yaml.safe_dump({"predict": {"model": "finished.pth"}}))
    configs = ("--configfile", "config/demo.yaml", str(tmp_path / "again.yaml"))
    run_snakemake("results/submission.pt", "--directory", str(tmp_path), *configs)
    first, again = (folder / "results/submission.pt" for folder in (demo, tmp_path))
    assert digest(first) == digest(again)
