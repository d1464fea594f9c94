"""PublishedFrames: the pictures that the models' own code takes, at their times."""

import json
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.clips.published_frames import RULES, PublishedFrames
from epic100.model.published import published
from epic100.segments.annotations import frames_between

# The models' own code (4d9feb8:benchmarks/adopted.py) wrote these for five rows: rule, video,
# seconds of start and stop, pictures a second of the file, and the times of the frames.
TIMES = json.loads((Path(__file__).parent / "data/published_times.json").read_text())
STEPS = {model.rule: model.sampling for model in published().values()}


def sample(video, start, stop, fps, **more):
    first, last = map(int, frames_between(start, stop, fps))
    frames = {"start_index": first, "total_frames": last - first, "avg_fps": fps}
    return {"filename": f"/videos/{video}.MP4", **frames, **more}


@pytest.mark.parametrize("rule, video, start, stop, fps, times", TIMES)
def test_each_frame_is_shown_within_half_a_picture_of_the_time_that_their_code_means(
    rule, video, start, stop, fps, times
):
    step = PublishedFrames(**STEPS[rule], num_clips=10 if rule == "slowfast" else 1)
    asked = sample(video, start, stop, fps, start_seconds=start, stop_seconds=stop)
    results = step.transform(asked)
    first, last = asked["start_index"], asked["start_index"] + asked["total_frames"]
    meant = (np.array(times) * fps).clip(first, last - 1)
    assert np.abs(results["frame_inds"] - meant).max() <= 0.5 + 1e-3
    assert len(results["frame_inds"]) == results["num_clips"] * results["clip_len"]


@pytest.mark.parametrize("rule", RULES)
def test_a_list_without_seconds_goes_by_its_frames(rule):
    step = PublishedFrames(**STEPS[rule])
    asked = sample("P01_01", 10.0, 13.0, 50.0)
    timed = step.transform({**asked, "start_seconds": 10.0, "stop_seconds": 13.0})
    assert step.transform(asked)["frame_inds"].tolist() == timed["frame_inds"].tolist()


@pytest.mark.parametrize("rule", RULES)
def test_a_segment_of_one_picture_is_that_picture_in_each_frame(rule):
    asked = sample("P01_01", 10.0, 10.01, 50.0, start_seconds=10.0, stop_seconds=10.01)
    assert set(PublishedFrames(**STEPS[rule]).transform(asked)["frame_inds"].tolist()) == {500}


def test_an_unknown_rule_is_one_line():
    with pytest.raises(EpicError, match="rule is 'tsm'; expected one of avion, lavila, slowfast, "):
        PublishedFrames("tsm", 8)
