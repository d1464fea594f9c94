"""PublishedFrames: the frames that the models' own code takes, at their times."""

import json
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.clips.published_frames import RULES, PublishedFrames
from epic100.clips.transforms import DecodeSegment, OpenSegment
from epic100.data.annotations import frames_between
from epic100.model.published import published
from epic100.video.build_index import build_index
from support.checkout import DECODERS
from support.tricky_videos import encode

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
def test_each_frame_is_within_half_a_picture_of_the_published_code_s_time(
    rule, video, start, stop, fps, times
):
    step = PublishedFrames(**STEPS[rule], num_clips=10 if rule == "slowfast" else 1)
    segment = sample(video, start, stop, fps)
    result = step.transform({**segment, "start_seconds": start, "stop_seconds": stop})
    first, length = segment["start_index"], segment["total_frames"]
    expected = (np.array(times) * fps).clip(first, first + length - 1)
    assert np.abs(result["frame_inds"] - expected).max() <= 0.5 + 1e-3
    assert len(result["frame_inds"]) == result["num_clips"] * result["clip_len"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stop", [13.0, 10.01], ids=["three seconds", "one frame"])
def test_a_segment_without_seconds_is_timed_by_its_frames(rule, stop):
    step = PublishedFrames(**STEPS[rule])
    segment = sample("P01_01", 10.0, stop, fps=50.0)
    with_seconds = step.transform({**segment, "start_seconds": 10.0, "stop_seconds": stop})
    found = step.transform(segment)["frame_inds"]
    assert found.tolist() == with_seconds["frame_inds"].tolist()
    # The one frame is frame 500, and the last one of three seconds is frame 649.
    assert found.min() >= 500 and found.max() < 50 * max(stop, 10.02)


@pytest.fixture(scope="module")
def two_films(tmp_path_factory):
    """Two films at 60 frames a second, and the frames of the second one, which has a gap.

    It lacks frames 80 to 119 of the first film, whose frame i is all grey i.
    """
    folder = tmp_path_factory.mktemp("films")
    numbers = {"whole": np.arange(200), "gap": np.delete(np.arange(200), np.s_[80:120])}
    for name, greys in numbers.items():
        frames = [np.full((64, 96, 3), grey, np.uint8) for grey in greys]
        encode(folder / f"{name}.MP4", source=frames, times=[500 * int(g) for g in greys], qp=1)
    return folder, numbers["gap"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("has_seconds", [False, True], ids=["by frames", "by seconds"])
def test_a_gap_of_the_file_changes_no_time(two_films, rule, decoder, has_seconds):
    folder, left = two_films
    steps = [OpenSegment(decoder), PublishedFrames(**STEPS[rule]), DecodeSegment()]
    # The segments are before, around and after the gap.
    for start, stop in ((0.25, 1.25), (1.0, 2.75), (2.25, 3.0)):
        greys = {}
        for name in ("whole", "gap"):
            path = folder / f"{name}.MP4"
            first, end = map(int, build_index(path).frames_between(start, stop))
            sample = {"filename": str(path), "start_index": first, "total_frames": end - first}
            sample |= {"start_seconds": start, "stop_seconds": stop} if has_seconds else {}
            for step in steps:
                sample = step.transform(sample)
            greys[name] = np.array([frame.mean() for frame in sample["imgs"]]).round()
        # The film with a gap shows the latest of its frames so far.
        latest = left[np.searchsorted(left, greys["whole"] + 1, "right") - 1]
        assert np.abs(greys["gap"] - latest).max() <= 3, (start, greys)


def test_an_unknown_rule_is_refused():
    with pytest.raises(EpicError, match="rule is 'tsm'; expected one of avion, lavila, slowfast, "):
        PublishedFrames("tsm", clip_len=8)
