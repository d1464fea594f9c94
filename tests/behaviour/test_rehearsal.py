"""A small archive, from videos to both submissions, by a run that is killed twice.

`benchmarks/rehearsal.py --small` films 12 videos of 4 participants with the real ids and rates.
One file is missing, one is truncated, one is damaged in the middle, and one has another video. A
run up to the report and the page gets SIGTERM, then SIGKILL, and is resumed each time. Its lists,
tables and submissions must be those of a run that is not killed.
"""

import json
import math
import zipfile
from fractions import Fraction

import pytest
import torch

from behaviour.archive import ranges, states
from support.checkout import python
from support.tables import rows_of

pytestmark = pytest.mark.slow
# The file of the first video is a copy of the film of the second one.
REPLACED = "P22_107"
ITS_FILM = "P01_01"


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """The folder of a rehearsal, and the JSON that it prints."""
    # The name of a folder may have a space.
    folder = tmp_path_factory.mktemp("the rehearsal")
    done = python("benchmarks/rehearsal.py", folder, "--small")
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def results(rehearsal):
    """The results of the run that was killed."""
    folder, _ = rehearsal
    return folder / "killed/results"


@pytest.fixture(scope="module")
def annotated(rehearsal):
    """The rows of the official CSVs by split."""
    names = {"train": "train", "val": "validation", "test": "test_timestamps"}
    csvs = rehearsal[0] / "archive/csv"
    return {split: rows_of(csvs / f"EPIC_100_{name}.csv", ",") for split, name in names.items()}


@pytest.fixture(scope="module")
def scans(results):
    """The rows of the scan tables by video id."""
    return states(results)


def test_a_run_that_was_killed_twice_ends_as_one_that_was_not(rehearsal):
    folder, printed = rehearsal
    assert printed["differ"] == []
    ends = [call["end"].split()[0] for call in printed["calls"]]
    assert ends == ["SIGTERM", "SIGKILL", "whole", "whole"]
    assert all((folder / "straight/results").glob("submission.*"))


def test_each_damaged_or_missing_video_has_its_state(scans):
    assert len(scans) == 12
    states_but_ok = {name: row["status"] for name, row in scans.items() if row["status"] != "ok"}
    assert states_but_ok == {"P22_05": "missing", "P02_03": "damaged", "P02_12": "damaged"}


def test_a_file_with_another_video_is_found_by_its_length(scans):
    measured = ("pictures", "fps")
    # The scan measures in one file what it measures in the other, since their films are the same.
    replaced, film = scans[REPLACED], scans[ITS_FILM]
    assert [replaced[name] for name in measured] == [film[name] for name in measured]
    findings = {name: row["finding"] for name, row in scans.items() if row["finding"]}
    assert findings.keys() == {REPLACED} and "the sheet says" in findings[REPLACED]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_segment_is_kept_with_its_frames_or_dropped(results, annotated, scans, split):
    dropped = {row["narration_id"] for row in rows_of(results / "clean/dropped.tsv")}
    lines = [line.split() for line in (results / f"clean/{split}.txt").read_text().splitlines()]
    kept = {
        narration_id: [int(number) for number in (start, stop, verb, noun)]
        for _, start, stop, verb, noun, narration_id, *_ in lines
    }
    for segment in annotated[split]:
        name, scan = segment["narration_id"], scans[segment["video_id"]]
        rate = Fraction(scan["fps"]).limit_denominator(1001)
        # A time is `00:00:05.25`; no video of this archive lasts a minute.
        start = math.floor(Fraction(segment["start_timestamp"][6:]) * rate)
        stop = math.ceil(Fraction(segment["stop_timestamp"][6:]) * rate)
        stop = min(stop, int(scan["pictures"]))
        touches = any(first < stop and start < after for first, after in ranges(scan["damaged"]))
        is_kept = scan["status"] != "missing" and not scan["finding"] and not touches
        assert (name in kept, name in dropped) == (is_kept, not is_kept)
        labels = [int(segment.get(f"{task}_class", -1)) for task in ("verb", "noun")]
        assert not is_kept or kept[name] == [start, stop, *labels]


def test_both_submissions_have_every_segment_once(results, annotated):
    entries = torch.load(results / "submission.pt", weights_only=True)
    names = [entry["narration_id"] for entry in entries]
    assert sorted(names) == sorted(row["narration_id"] for row in annotated["val"])
    with zipfile.ZipFile(results / "submission.zip") as archive:
        scores = json.loads(archive.read("test.json"))["results"]
    assert sorted(scores) == sorted(row["narration_id"] for row in annotated["test"])


def test_figures_and_the_page_are_of_all_segments_of_the_clean_list(results, annotated):
    figures = json.loads((results / "metrics.json").read_text())
    kept = (results / "clean/val.txt").read_text().splitlines()
    assert (figures["segments"], figures["predicted"]) == (len(annotated["val"]), len(kept))
    assert "</html>" in (results / "report.html").read_text()
    assert len(list(results.glob("browse/clips/**/*.mp4"))) == len(kept)
