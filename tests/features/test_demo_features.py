"""Features by the rules, and a probe from features to a submission, on the demo."""

import os
import re
import shutil

import torch
import yaml

from epic100.features.participant import read_features
from epic100.prediction.hugging_face import HuggingFaceEncoder
from epic100.scoring.epoch_table import read_trials
from epic100.segments.segment_list import read_segments
from support.checkout import ROOT, SHORT_DEMO, call, epic100, run_snakemake
from support.hugging_face import make_encoder
from support.tables import rows_of


def test_the_rules_make_the_features_of_a_participant(demo):
    table = demo / "results/features/P06.tsv"
    run_snakemake("results/features/P06.tsv", "--directory", str(demo), "--configfile", *SHORT_DEMO)
    # The video lasts a minute, and a step half a second.
    assert read_features(table.with_name("P06_101.npz")).feats.shape == (120, 192)
    assert rows_of(table) == [
        {"video_id": "P06_101", "steps": "120", "valid": "120", "channels": "192", "reason": ""}
    ]


def test_the_lines_of_the_docs_lead_from_a_downloaded_encoder_to_a_submission(demo, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(demo, folder, ignore=shutil.ignore_patterns(".snakemake", "work_dirs"))
    shutil.copy(ROOT / "config/demo.yaml", folder / "mine.yaml")
    config = yaml.safe_load((ROOT / "config/probe_hf.yaml").read_text())
    config["probe"]["epochs"] = 2
    # The lines expect the checkout and the downloads in the home folder.
    (tmp_path / "epic100/config").mkdir(parents=True)
    (tmp_path / "epic100/config/probe_hf.yaml").write_text(yaml.safe_dump(config))
    make_encoder(tmp_path / "Downloads/vjepa2-vitl-fpc64-256", "vjepa2")
    video = next((demo / "videos").glob("P01/*.MP4"))
    shutil.copy(video, tmp_path / "kitchen.mp4")
    page = (ROOT / "docs/features.md").read_text().partition("### From a downloaded folder")[2]
    script = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1]
    lines = script.replace("P01_11", video.stem).splitlines()
    assert lines[0].startswith("make ")
    # The first line is `make`. A function that only writes down the calls of epic100 replaces it,
    # and the loop below makes these calls in forked processes, which takes less time.
    lines[0] = 'epic100() { echo "$@" >> calls; }'
    call("bash", "-e", "-c", "\n".join(lines), cwd=folder, env=os.environ | {"HOME": str(tmp_path)})
    for words in (folder / "calls").read_text().splitlines():
        epic100(*words.split(), cwd=folder)
    made = folder / "results/runs/probe"
    entries = torch.load(made / "submission.pt", weights_only=True)
    listed = read_segments(folder / "results/segments/val.txt")["narration_id"].tolist()
    assert [entry["narration_id"] for entry in entries] == listed
    card = (made / "model_card.md").read_text()
    fingerprint = HuggingFaceEncoder(folder / "encoder").fingerprint
    assert fingerprint in card and "apache-2.0" in card and "the best of 6 on train" in card
    assert "hf encoder" in card and "MMAction2" not in card
    assert len(read_trials(made / "trials.tsv")) == 6
    assert (made / "figures/training/trials.svg").stat().st_size > 1000
    timelines = [made / f"timeline/{video.stem}.tsv", folder / "timeline/kitchen.tsv"]
    rows = [path.read_text().splitlines() for path in timelines]
    # Both are timelines of the same video.
    assert rows[0][0].startswith("start\t") and rows[0] == rows[1]
