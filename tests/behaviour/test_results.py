"""The demo's results: files are as in golden.json, and metrics as in the submission.

What must be in the lists follows from the official CSVs and the scan tables alone.
"""

import hashlib
import json
import math
import shutil
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml

from behaviour.golden import require_golden, states
from support.checkout import SHORT_DEMO, epic100, rows_of, run_snakemake, said

LISTS = [
    *(f"segments/{split}.txt" for split in ("train", "val", "test")),
    *(f"clean/{split}.txt" for split in ("train", "val", "test")),
    *(f"clean/{name}.tsv" for name in ("pairs", "dropped", "salvage")),
]
CSVS = {"train": "train", "val": "validation", "test": "test_timestamps"}
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


def ranges(text: str) -> list[tuple[int, int]]:
    """Parse the `damaged` column of a scan table: `3-9,20-21` becomes [(3, 9), (20, 21)]."""
    pairs = (part.split("-") for part in text.split(",") if part)
    return [(int(start), int(stop)) for start, stop in pairs]


def annotated(demo, split):
    """The rows of the official CSV of a split."""
    return rows_of(demo / f"annotations/EPIC_100_{CSVS[split]}.csv", ",")


def frame_at(timestamp, rate):
    """The frame of a time such as 00:01:05.25, as a fraction."""
    hours, minutes, seconds = timestamp.split(":")
    return (60 * (60 * int(hours) + int(minutes)) + Fraction(seconds)) * rate


@pytest.mark.parametrize("split", CSVS)
def test_damage_decides_which_segments_are_kept(demo, split):
    results = demo / "results"
    scans = states(results)
    dropped = {row["narration_id"] for row in rows_of(results / "clean/dropped.tsv")}
    lines = [line.split() for line in (results / f"clean/{split}.txt").read_text().splitlines()]
    kept = {row[5]: [int(number) for number in row[1:5]] for row in lines}
    for segment in annotated(demo, split):
        name, scan = segment["narration_id"], scans[segment["video_id"]]
        if scan["status"] not in ("ok", "damaged"):
            assert name in dropped and name not in kept
            continue
        rate = Fraction(scan["fps"]).limit_denominator(1001)
        start = math.floor(frame_at(segment["start_timestamp"], rate))
        stop = math.ceil(frame_at(segment["stop_timestamp"], rate))
        stop = min(stop, int(scan["pictures"]))
        damaged = ranges(scan["damaged"])
        is_kept = not any(first < stop and start < after for first, after in damaged)
        assert (name in kept, name in dropped) == (is_kept, not is_kept)
        labels = [int(segment.get(f"{task}_class", -1)) for task in ("verb", "noun")]
        assert not is_kept or kept[name] == [start, stop, *labels]


def test_both_submissions_have_every_segment_once(demo):
    entries = torch.load(demo / "results/submission.pt", weights_only=True)
    with zipfile.ZipFile(demo / "results/submission.zip") as archive:
        scores = json.loads(archive.read("test.json"))["results"]
    for split, names in (("val", [e["narration_id"] for e in entries]), ("test", list(scores))):
        assert sorted(names) == sorted(row["narration_id"] for row in annotated(demo, split))


def test_metrics_count_all_and_predicted_segments(demo):
    metrics = json.loads((demo / "results/metrics.json").read_text())
    kept = (demo / "results/clean/val.txt").read_text().splitlines()
    counts = (len(annotated(demo, "val")), len(kept))
    assert (metrics["segments"], metrics["predicted"]) == counts


def test_the_model_learned_the_actions(demo):
    figures = json.loads((demo / "results/metrics.json").read_text())
    # The training is short. Chance would be right for one of eight pairs, 12.5 per cent.
    assert figures["readable_action_accuracy_at_1"] >= 50.0


def test_cpu_training_has_its_rule_s_threads(demo):
    assert "CPU, 1 x 1 threads" in (demo / "results/logs/train.log").read_text()


def test_one_command_scores_a_model_from_elsewhere(demo, tmp_path):
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
def test_the_demo_learns_with_three_seeds(seed, tmp_path):
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
