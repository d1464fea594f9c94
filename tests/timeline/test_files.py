"""The four files of a timeline, read as their readers do."""

import csv
import json
import re

import pytest

from epic100.timeline.content import Segment, Timeline
from epic100.timeline.files import SUFFIXES, beside, write_timeline

SEGMENTS = [
    Segment(0.0, 1.5, 0, 1, 0, "take", "spoon", 0.9123456, 0.95, 0.93),
    Segment(3661.25, 3663.0, 9, 5, 4, "pour", "pan <hot> & lid", 0.5, 0.6, 0.7),
]
CLIPS = [
    {"start": 0.0, "stop": 0.5, "actions": [{"verb": 0, "noun": 1, "probability": 0.9}]},
    {"start": 2.0, "stop": 2.5, "damaged": True},
]


@pytest.fixture
def tsv(tmp_path):
    path = tmp_path / "my film.v2.tsv"
    write_timeline(
        Timeline("my film.v2", 29.97, 3700.0, [(2.0, 2.75)], SEGMENTS, CLIPS, {"model": "ab"}), path
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"my film.v2{suffix}" for suffix in SUFFIXES
    )
    return path


def test_the_table_has_a_row_for_each_action_and_each_damaged_stretch(tsv):
    with tsv.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    assert [row["what"] for row in found] == ["action", "damaged", "action"]
    assert found[0]["verb_name"] == "take" and found[0]["probability"] == "0.9123"
    assert (found[1]["start"], found[1]["stop"], found[1]["verb"]) == ("2.000", "2.750", "")
    assert [row["start"] for row in found] == ["0.000", "2.000", "3661.250"]


def test_the_json_has_everything(tsv):
    found = json.loads(beside(tsv, ".json").read_text(encoding="utf-8"))
    assert found["format"] == "epic100 timeline 1" and found["damaged"] == [[2.0, 2.75]]
    assert found["segments"][1]["action"] == "pour pan <hot> & lid"
    assert found["clips"][1] == CLIPS[1] and found["made_from"] == {"model": "ab"}


def test_the_captions_are_cues_in_order_without_markup(tsv):
    head, *cues = beside(tsv, ".vtt").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    assert head == "WEBVTT" and len(cues) == 3
    clock = r"\d\d:\d\d:\d\d\.\d{3}"
    assert all(re.match(rf"{clock} --> {clock}\n[^\n]+$", cue) for cue in cues)
    assert cues[2] == "01:01:01.250 --> 01:01:03.000\npour pan &lt;hot&gt; &amp; lid 50 %"


def test_actionformer_and_opentad_find_what_they_read(tsv):
    """By the keys that they use.

    ActionFormer 18e5860, libs/utils/metrics.py: `load_gt_seg_from_json`. OpenTAD 5948e38,
    opentad/evaluations/mAP.py: `_import_ground_truth`, `_import_prediction`; without a rate in its
    config, opentad/datasets/anet.py takes `frame` / `duration`.
    """
    found = json.loads(beside(tsv, ".activitynet.json").read_text(encoding="utf-8"))
    ((video, about),) = found["database"].items()
    assert video == "my film.v2" and about["subset"].lower() == "predicted"
    events = [(*map(float, e["segment"]), int(e["label_id"])) for e in about["annotations"]]
    assert events == [(0.0, 1.5, 0), (3661.25, 3663.0, 4)]
    assert about["duration"] == 3700.0 and about["fps"] == 29.97
    assert about["frame"] / about["duration"] == pytest.approx(29.97, rel=1e-4)
    ((video, results),) = found["results"].items()
    scored = [(r["label"], *map(float, r["segment"]), r["score"]) for r in results]
    assert video == "my film.v2" and scored[0] == ("take spoon", 0.0, 1.5, 0.9123)
