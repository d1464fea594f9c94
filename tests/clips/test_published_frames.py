"""PublishedFrames: the frames that the models' own code takes, at their times."""

import json
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.clips.published_frames import RULES, PublishedFrames
from epic100.data.annotations import frames_between
from epic100.model.published import published

# The models' own code (4d9feb8:benchmarks/adopted.py) wrote these for five rows: rule, video,
# seconds of start and stop, frames a second of the file, and the times of the frames.
TIMES = json.loads((Path(__file__).parent / "data/published_times.json").read_text())
STEPS = {model.rule: model.sampling for model in published().values()}


def sample(video, start, stop, fps):
    """A segment without seconds, as `OpenSegment` gives it."""
    first, end = map(int, frames_between(start, stop, fps))
    frames = {"start_index": first, "total_frames": end - first, "avg_fps": fps}
    return {"filename": f"/videos/{video}.MP4", **frames}


@pytest.mark.parametrize("rule, video, start, stop, fps, times", TIMES)
def test_frames_match_the_published_code_within_half(rule, video, start, stop, fps, times):
    step = PublishedFrames(**STEPS[rule], num_clips=10 if rule == "slowfast" else 1)
    segment = sample(video, start, stop, fps)
    result = step.transform({**segment, "start_seconds": start, "stop_seconds": stop})
    first, length = segment["start_index"], segment["total_frames"]
    expected = (np.array(times) * fps).clip(first, first + length - 1)
    assert np.abs(result["frame_inds"] - expected).max() <= 0.5 + 1e-3
    assert len(result["frame_inds"]) == result["num_clips"] * result["clip_len"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stop", [13.0, 10.01], ids=["three seconds", "one frame"])
def test_segments_without_seconds_are_timed_by_frames(rule, stop):
    step = PublishedFrames(**STEPS[rule])
    segment = sample("P01_01", 10.0, stop, fps=50.0)
    with_seconds = step.transform({**segment, "start_seconds": 10.0, "stop_seconds": stop})
    found = step.transform(segment)["frame_inds"]
    assert found.tolist() == with_seconds["frame_inds"].tolist()
    # The one frame is frame 500, and the last one of three seconds is frame 649.
    assert found.min() >= 500 and found.max() < 50 * max(stop, 10.02)


@pytest.mark.parametrize("rule", RULES)
def test_frames_beyond_segments_become_first_and_last(rule):
    segment = sample("P01_01", 10.0, 12.0, fps=50.0)
    longer = {**segment, "start_seconds": 5.0, "stop_seconds": 17.0}
    found = PublishedFrames(**{**STEPS[rule], "num_clips": 10}).transform(longer)["frame_inds"]
    assert (found.min(), found.max()) == (500, 599)


def test_an_unknown_rule_is_rejected():
    with pytest.raises(EpicError, match="rule is 'tsm'; expected one of avion, lavila, slowfast, "):
        PublishedFrames("tsm", clip_len=8)
