"""Examples of the report: which segments are chosen, their guesses and their frames."""

import base64
import errno
import json
import os
from contextlib import closing
from unittest.mock import Mock

import cv2
import numpy as np
import pandas as pd
import pytest

from epic100.base import disk
from epic100.base.errors import DiskError
from epic100.data.official_lists import read_class_names
from epic100.data.segment_list import read_segments
from epic100.pages.examples import FRAME_WIDTH, GAP_WIDTH, at_random, surest, write_examples
from epic100.video.reader import VideoReader


@pytest.fixture(scope="module")
def segments(lab):
    """The clean list of val."""
    return read_segments(f"{lab.results}/clean/val.txt")


def outcomes_of(segments, wrong=()):
    """Make the table of outcomes of these segments, all right but those at the places `wrong`."""
    outcomes = segments[["narration_id", "verb", "noun"]].reset_index(drop=True)
    right = ~outcomes.index.isin(wrong)
    return outcomes.assign(
        verb_guess=outcomes["verb"].where(right, 9),
        noun_guess=outcomes["noun"],
        action_confidence=0.75,
        action_label_score=np.where(right, 0.75, 0.0344),
        action_at_1=right,
        predicted=True,
    )


@pytest.fixture
def write(lab, tmp_path):
    """Writes examples of a table of outcomes, and returns them as they are read."""
    names = read_class_names([lab.folder / "annotations/EPIC_100_train.csv"])

    def write(outcomes, root=lab.root):
        path = tmp_path / "examples.json"
        clean, scan = f"{lab.results}/clean/val.txt", f"{lab.results}/scan"
        write_examples({"a group": outcomes}, clean, root, scan, names, path)
        return json.loads(path.read_text())["a group"]

    return write


def test_an_example_has_segment_label_and_guess(write, segments):
    outcomes = outcomes_of(segments[:2], wrong=[1])
    outcomes.loc[1, ["verb", "noun"]] = 0, 1
    first, second = write(outcomes)
    assert first["narration_id"] == outcomes["narration_id"][0]
    assert first["right"] and first["guess"] == first["truth"] and first["guess_percent"] == 75
    assert not second["right"] and second["truth"] == "take spoon"
    assert second["truth_percent"] == 3.4 and second["guess"].startswith("pour")


def test_frames_span_the_whole_segment(write, segments, lab):
    segment = segments.iloc[0]
    (example,) = write(outcomes_of(segments[:1]))
    data = base64.b64decode(example["picture"].removeprefix("data:image/jpeg;base64,"))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    with closing(VideoReader(f"{lab.root}/{segment['path']}")) as reader:
        first, last = reader.get_frames([segment["start"], segment["stop"] - 1])[..., ::-1]
    # The image has two rows of frames with a gap between them.
    height = (image.shape[0] - GAP_WIDTH) // 2
    for frame, shown in (
        (first, image[:height, :FRAME_WIDTH]),
        (last, image[-height:, -FRAME_WIDTH:]),
    ):
        small_frame = cv2.resize(frame, (80, 45), interpolation=cv2.INTER_AREA)
        small_shown = cv2.resize(shown, (80, 45), interpolation=cv2.INTER_AREA)
        assert cv2.absdiff(small_frame, small_shown).mean() < 12
    assert cv2.absdiff(first, last).mean() > 2, "a wrong order would not be noticed"


def test_a_missing_video_is_told_without_frames(write, segments, tmp_path):
    (example,) = write(outcomes_of(segments[:1]), root=tmp_path / "videos")
    assert example["problem"] == "P01_02.MP4 is missing" and example["picture"] == ""


@pytest.mark.parametrize("failing", [(os, "pread"), (disk, "retry_disk")], ids=["video", "index"])
def test_a_failing_disk_leaves_no_examples(failing, write, segments, monkeypatch, tmp_path):
    # The second attempt comes at once.
    monkeypatch.setattr(disk, "WAITS", (0.0,))
    monkeypatch.setattr(*failing, Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    with pytest.raises(DiskError, match="Input/output error"):
        write(outcomes_of(segments[:1]))
    assert not (tmp_path / "examples.json").exists()


def test_random_examples_are_the_same_each_time(segments):
    table = pd.concat([outcomes_of(segments)] * 5, ignore_index=True)
    table.loc[::2, "predicted"] = False
    drawn = at_random(table)
    assert len(drawn) == 6 and drawn["predicted"].all() and drawn.index.is_monotonic_increasing
    assert drawn.index.tolist() == at_random(table).index.tolist()


def test_surest_examples_are_of_different_actions(segments):
    table = pd.concat([outcomes_of(segments)] * 3, ignore_index=True)
    # The last segments have the highest confidence. One has no prediction, and one is wrong.
    table["action_confidence"] = np.linspace(0.2, 0.9, len(table))
    table.loc[table.index[-1], "predicted"] = False
    table.loc[table.index[-2], "action_at_1"] = False
    right, wrong = surest(table, right=True), surest(table, right=False)
    assert not right.duplicated(["verb", "noun"]).any() and len(right) <= 6
    assert right["action_confidence"].is_monotonic_decreasing and right["action_at_1"].all()
    assert right.index[0] == table.index[-3] and wrong.index.tolist() == [table.index[-2]]


def test_a_group_without_segments_has_no_examples(write, segments):
    assert write(outcomes_of(segments[:0])) == []
