"""Features by the rules, and a probe from features to a submission, on the demo."""

import json
import shutil

import torch
import yaml

from epic100.features.file import read_feature_table, read_features
from epic100.scoring.predictions import read_predictions
from epic100.segments.segment_list import read_segments
from support.checkout import run_snakemake
from support.small_features import COLOURS, make


def test_the_rules_make_a_participants_features_and_one_videos(demo):
    made = "results/features/P06_101.npz"  # by way of the participant's
    run_snakemake(made, "--directory", str(demo), "--configfile", "config/demo.yaml")
    (row,) = read_feature_table(demo / "results/features/P06.tsv")
    features = read_features(demo / made)
    assert features.feats.shape == (row.steps, row.channels) and row.channels == 192
    assert row.valid == row.steps == 120  # of half a second


def test_a_probes_predictions_become_a_submission_as_any_models_do(demo, tmp_path):
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder, ignore=shutil.ignore_patterns(".snakemake", "work_dirs"))
    results, features = folder / "results", {"encoder": COLOURS, "stride": 1.0}
    for scan in sorted(results.glob("scan/*.tsv")):  # here, since seven jobs would have to start
        made = results / f"runs/colours/features/{scan.name}"
        make(folder, made, participant=scan.stem, batch=32, **features)
    probe = {"of": "colours", "epochs": 10, "heads": "both"}
    (tmp_path / "over.yaml").write_text(yaml.safe_dump({"probe": probe, "features": features}))
    home = results / "runs/probe"
    wanted = ("submission.pt", "metrics.json", "figures/training/training.svg")
    done = run_snakemake(*(f"results/runs/probe/{name}" for name in wanted), "--directory",
                         str(folder), "--configfile", "config/demo.yaml", "config/probe.yaml",
                         str(tmp_path / "over.yaml"))  # fmt: skip
    assert "Train a probe on" in done.stderr and "Features of" not in done.stderr
    entries = torch.load(home / "submission.pt", weights_only=True)
    listed = read_segments(results / "segments/val.txt")["narration_id"].tolist()
    assert [entry["narration_id"] for entry in entries] == listed
    found = read_predictions(home / "predictions/val.pt", "val", model=home / "model.pth")
    figures = json.loads((home / "metrics.json").read_text())
    assert figures["predicted"] == len(found.narration_ids) > 40
    assert set(figures["by_reduce"]) == {"logsumexp", "max", "heads"}
    assert (home / "figures/training/training.svg").stat().st_size > 1000
