"""The demo's results: files are as in golden.json, and figures as in the submission."""

import hashlib
import json

import numpy as np
import pytest
import torch

from behaviour.archive import states
from behaviour.golden import require_golden
from support.tables import rows_of

LISTS = [
    *(f"segments/{split}.txt" for split in ("train", "val", "test")),
    *(f"clean/{split}.txt" for split in ("train", "val", "test")),
    *(f"clean/{name}.tsv" for name in ("pairs", "dropped", "salvage")),
]
MEASURED = ("video_id", "status", "frames", "damaged", "timing", "pictures")


def digest(*files) -> str:
    """Compute the SHA-256 of the contents of files, one after the other."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_lists_and_scans_are_those_of_golden_json(demo):
    found = {name: digest(demo / "results" / name) for name in LISTS}
    scans = states(demo / "results")
    measured = {name: " ".join(row[key] or "-" for key in MEASURED) for name, row in scans.items()}
    inputs = [*sorted(demo.glob("annotations/*.csv")), *sorted(demo.glob("videos/*/*.MP4"))]
    require_golden("demo", found | measured, digest(*inputs))


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_the_accuracy_is_that_of_the_submission(demo, task):
    figures = json.loads((demo / "results/metrics.json").read_text())
    entries = torch.load(demo / "results/submission.pt", weights_only=True)
    scores_of_segment = {entry["narration_id"]: entry[f"{task}_output"] for entry in entries}
    hits = []
    for row in rows_of(demo / "annotations/EPIC_100_validation.csv", ","):
        scores = scores_of_segment[row["narration_id"]]
        assert scores.exp().sum().item() == pytest.approx(1, abs=1e-4)
        # The official evaluator takes the last of equal scores, too.
        hits.append(int(np.argsort(scores.numpy())[-1]) == int(row[f"{task}_class"]))
    accuracy = figures[f"overall_{task}_accuracy_at_1"]
    assert accuracy == pytest.approx(100 * np.mean(hits), abs=1e-3)
