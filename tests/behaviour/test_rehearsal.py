"""The archive in miniature: from nothing to both submissions, killed twice on the way.

`benchmarks/rehearsal.py --small` makes 12 videos of 4 participants with the real ids and rates, of
which one is absent, one truncated, one damaged in the middle and one another video, and everything
to the report and the page, in a run that gets SIGTERM and one that gets SIGKILL. Its lists, tables
and submissions are those of a run that nothing kills. Here is what they must say.
"""

import json
import math
import subprocess
import sys
import zipfile
from fractions import Fraction

import pytest
import torch

from behaviour.archive import ranges, states
from support.checkout import ROOT, run_snakemake
from support.tables import rows_of

pytestmark = pytest.mark.slow
# The file of OTHER is a copy of the film of ITS_FILM.
OTHER, ITS_FILM = "P22_107", "P01_01"


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """The folder of a rehearsal, and the JSON that it prints."""
    folder = tmp_path_factory.mktemp("the rehearsal")
    command = [sys.executable, "benchmarks/rehearsal.py", str(folder), "--small"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def results(rehearsal):
    return rehearsal[0] / "killed/results"


@pytest.fixture(scope="module")
def annotated(rehearsal):
    """The rows of the official CSVs by split."""
    names = {"train": "train", "val": "validation", "test": "test_timestamps"}
    folder = rehearsal[0] / "archive/csv"
    return {split: rows_of(folder / f"EPIC_100_{name}.csv", ",") for split, name in names.items()}


@pytest.fixture(scope="module")
def scans(results):
    return states(results)


def test_a_run_that_was_killed_twice_ends_as_one_that_was_not(rehearsal):
    folder, printed = rehearsal
    assert printed["differ"] == []
    ends = [call["end"].split()[0] for call in printed["calls"]]
    assert ends == ["SIGTERM", "SIGKILL", "whole", "whole"]
    assert all((folder / "straight/results").glob("submission.*"))


def test_what_is_finished_is_not_made_again(rehearsal):
    folder = rehearsal[0]
    targets = [f"results/{name}" for name in ("submission.pt", "submission.zip", "report.html")]
    where = ("--directory", str(folder / "killed"), "--configfile")
    done = run_snakemake(*targets, "-n", *where, str(folder / "archive/config.yaml"))
    assert "Nothing to be done" in done.stdout + done.stderr


def test_each_video_has_the_state_that_it_was_given(scans):
    assert len(scans) == 12
    found = {name: row["status"] for name, row in scans.items() if row["status"] != "ok"}
    assert found == {"P22_05": "missing", "P02_03": "damaged", "P02_12": "damaged"}
    frames = {name: int(row["pictures"]) for name, row in scans.items()}
    (cut,), (middle,) = (ranges(scans[name]["damaged"]) for name in ("P02_03", "P02_12"))
    assert frames["P02_03"] / 3 < cut[0] < cut[1] == frames["P02_03"]
    assert middle[0] < frames["P02_12"] / 2 < middle[1] < frames["P02_12"]
    assert frames[OTHER] == frames[ITS_FILM] and scans[OTHER]["fps"] == scans[ITS_FILM]["fps"]
    # Another video stands in the file of OTHER, so its segments are held back.
    assert "the sheet says" in scans[OTHER]["finding"]
    assert not any(row["finding"] for name, row in scans.items() if name != OTHER)


def test_segments_are_kept_on_the_file_s_own_clock_or_dropped_for_damage(results, annotated, scans):
    dropped = {row["narration_id"]: row for row in rows_of(results / "clean/dropped.tsv")}
    assert {row["reason"] for row in dropped.values()} >= {"video missing"}
    for split, segments in annotated.items():
        lines = (results / f"clean/{split}.txt").read_text().splitlines()
        kept = {line.split()[5]: [int(n) for n in line.split()[1:5]] for line in lines}
        for segment in segments:
            name, scan = segment["narration_id"], scans[segment["video_id"]]
            assert (name in kept) != (name in dropped)
            start, stop = (Fraction(segment[f"{end}_timestamp"][6:]) for end in ("start", "stop"))
            rate = Fraction(scan["fps"]).limit_denominator(1001)
            frames = (math.floor(start * rate), min(math.ceil(stop * rate), int(scan["pictures"])))
            touched = any(a < frames[1] and frames[0] < b for a, b in ranges(scan["damaged"]))
            usable = scan["status"] != "missing" and not scan["finding"]
            assert (name in kept) == (usable and not touched)
            if name in kept:
                labels = [int(segment.get(f"{kind}_class", -1)) for kind in ("verb", "noun")]
                assert kept[name] == [*frames, *labels]


def test_both_submissions_have_every_segment_once(results, annotated):
    entries = torch.load(results / "submission.pt", weights_only=True)
    names = [entry["narration_id"] for entry in entries]
    assert sorted(names) == sorted(row["narration_id"] for row in annotated["val"])
    for entry in entries:
        for task, classes in (("verb", 97), ("noun", 300)):
            assert entry[f"{task}_output"].exp().sum().item() == pytest.approx(1, abs=1e-4)
            assert entry[f"{task}_output"].shape == (classes,)
    with zipfile.ZipFile(results / "submission.zip") as archive:
        scores = json.loads(archive.read("test.json"))["results"]
    assert sorted(scores) == sorted(row["narration_id"] for row in annotated["test"])


def test_the_report_and_the_page_show_the_val_segments(results, annotated):
    figures = json.loads((results / "metrics.json").read_text())
    kept = (results / "clean/val.txt").read_text().splitlines()
    assert (figures["segments"], figures["predicted"]) == (len(annotated["val"]), len(kept))
    assert 0 <= figures["overall_action_accuracy_at_1"] <= 100
    assert "</html>" in (results / "report.html").read_text()
    assert "</html>" in (results / "browse/index.html").read_text()
    assert len(list(results.glob("browse/clips/**/*.mp4"))) == len(kept)
