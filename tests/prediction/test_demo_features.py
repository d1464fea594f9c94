"""Features by the rules, on the demo: of the trained model, and of an encoder."""

import os
import re
import shutil

from epic100.prediction.features import read_features
from support.checkout import ROOT, SHORT_DEMO, call, epic100, rows_of, run_snakemake
from support.hugging_face import WIDTH, make_encoder


def test_the_rules_make_the_features_of_a_participant(demo):
    table = demo / "results/features/P06.tsv"
    run_snakemake("results/features/P06.tsv", "--directory", str(demo), "--configfile", *SHORT_DEMO)
    # The video lasts a minute, and a step half a second.
    assert read_features(table.with_name("P06_101.npz")).feats.shape == (120, 192)
    assert rows_of(table) == [
        {"video_id": "P06_101", "steps": "120", "valid": "120", "channels": "192", "reason": ""}
    ]


def test_the_docs_lines_lead_to_features(demo, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(demo, folder, ignore=shutil.ignore_patterns(".snakemake", "work_dirs"))
    (folder / "config").mkdir(exist_ok=True)
    shutil.copy(ROOT / "config/demo.yaml", folder / "config/config.yaml")
    # The lines expect the downloads in the home folder.
    make_encoder(tmp_path / "Downloads/vjepa2-vitl-fpc64-256", "vjepa2")
    page = (ROOT / "docs/features.md").read_text().partition("### A folder of Hugging Face")[2]
    make, copy, *lines = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1].splitlines()
    assert make.startswith("make ") and len(lines) == 1
    call("sh", "-ec", copy, cwd=folder, env=os.environ | {"HOME": str(tmp_path)})
    epic100(*lines[0].split()[1:], cwd=folder)
    rows = rows_of(folder / "results/features/P01.tsv")
    assert rows and all(row["channels"] == str(WIDTH) for row in rows)
