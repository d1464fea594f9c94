import base64
import errno
import json
import os
import shutil
from unittest.mock import Mock

import cv2
import numpy as np
import pandas as pd
import pytest

from epic100.base import disk
from epic100.base.errors import DiskError
from epic100.figures.results import GAP, WIDTH, at_random, surest, write_examples
from epic100.segments.official_lists import read_class_names
from epic100.segments.segment_list import read_segments
from epic100.video.reader import VideoReader


@pytest.fixture(scope="module")
def segments(lab):
    return read_segments(f"{lab.results}/clean/val.txt")


def rows_of(segments, wrong=()):
    """Outcomes that have all of these segments right but those of some places."""
    rows = segments[["narration_id", "verb", "noun"]].reset_index(drop=True)
    right = ~rows.index.isin(wrong)
    return rows.assign(
        verb_guess=rows["verb"].where(right, 9),
        noun_guess=rows["noun"],
        action_confidence=0.75,
        action_truth_score=np.where(right, 0.75, 0.03),
        action_at_1=right,
        predicted=True,
    )


@pytest.fixture
def write(lab, tmp_path):
    names = read_class_names([lab.folder / "annotations/EPIC_100_train.csv"])

    def write(rows, root=lab.root):
        path = tmp_path / "examples.json"
        clean, scan = f"{lab.results}/clean/val.txt", f"{lab.results}/scan"
        write_examples({"a group": rows}, clean, root, scan, names, path)
        return json.loads(path.read_text())["a group"]

    return write


def test_an_example_names_segment_truth_and_guess(write, segments):
    rows = rows_of(segments[:2], wrong=[1])
    rows.loc[1, ["verb", "noun"]] = 0, 1
    first, second = write(rows)
    assert first["narration_id"] == rows["narration_id"][0]
    assert first["right"] and first["guess"] == first["truth"] and first["guess_percent"] == 75
    assert not second["right"] and second["truth"] == "take spoon"
    assert second["truth_percent"] == 3 and second["guess"].startswith("pour")


def test_the_frames_are_those_of_the_segment_from_its_first_to_its_last(write, segments, lab):
    segment = segments.iloc[0]
    (example,) = write(rows_of(segments[:1]))
    data = base64.b64decode(example["picture"].removeprefix("data:image/jpeg;base64,"))
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    reader = VideoReader(f"{lab.root}/{segment['path']}")
    first, last = reader.get_frames([segment["start"], segment["stop"] - 1])[..., ::-1]
    reader.close()
    height = (picture.shape[0] - GAP) // 2
    for pair in ((first, picture[:height, :WIDTH]), (last, picture[-height:, -WIDTH:])):
        frame, shown = (cv2.resize(p, (80, 45), interpolation=cv2.INTER_AREA) for p in pair)
        assert cv2.absdiff(frame, shown).mean() < 12
    # The two differ, so a wrong order would show.
    assert cv2.absdiff(first, last).mean() > 2


def test_the_reason_replaces_the_frames_of_a_video_that_is_gone_or_broken(
    write, segments, lab, tmp_path
):
    root = tmp_path / "videos"
    for example in write(rows_of(segments[:2]), root=root):
        assert example["problem"] == "P01_02.MP4 is missing" and example["picture"] == ""
    shutil.copytree(lab.root, root)
    (root / "P01/P01_02.MP4").write_bytes(b"no video")
    (example,) = write(rows_of(segments[:1]), root=root)
    assert "is not the file that was scanned" in example["problem"] and example["picture"] == ""


@pytest.mark.parametrize("failing", [(os, "pread"), (disk, "insist")], ids=["video", "index"])
def test_a_failing_disk_is_an_error_not_an_example_without_a_picture(
    failing, write, segments, monkeypatch, tmp_path
):
    monkeypatch.setattr(disk, "WAITS", (0.0,))
    monkeypatch.setattr(*failing, Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    with pytest.raises(DiskError, match="Input/output error"):
        write(rows_of(segments[:1]))
    assert not (tmp_path / "examples.json").exists()


def test_random_examples_are_the_same_each_time_and_of_readable_segments_alone(segments):
    table = pd.concat([rows_of(segments)] * 5, ignore_index=True)
    table.loc[::2, "predicted"] = False
    drawn = at_random(table)
    assert len(drawn) == 6 and drawn["predicted"].all() and drawn.index.is_monotonic_increasing
    assert drawn.index.tolist() == at_random(table).index.tolist()
    assert len(at_random(rows_of(segments[:2]))) == 2


def test_the_surest_are_one_an_action_and_of_readable_segments_alone(segments):
    table = pd.concat([rows_of(segments)] * 3, ignore_index=True)
    table["action_confidence"] = np.linspace(0.2, 0.9, len(table))
    table.loc[table.index[-1], "predicted"] = False
    table.loc[table.index[-2], "action_at_1"] = False
    right, wrong = surest(table, True), surest(table, False)
    assert not right.duplicated(["verb", "noun"]).any() and len(right) <= 6
    assert right["action_confidence"].is_monotonic_decreasing and right["action_at_1"].all()
    assert right.index[0] == table.index[-3] and wrong.index.tolist() == [table.index[-2]]


def test_eighteen_examples_stay_small_and_there_may_be_none(write, segments):
    examples = write(pd.concat([rows_of(segments)] * 6)[:18])
    assert len(examples) == 18 and sum(len(example["picture"]) for example in examples) < 1_000_000
    assert write(rows_of(segments[:0])) == []
