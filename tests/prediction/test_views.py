import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from mmengine.registry import init_default_scope

import epic100.mmaction  # noqa: F401  (registers the steps)
from epic100.base.errors import EpicError
from epic100.prediction.views import view_pipeline
from support.small_model import STEP_LIST


def test_views_change_the_test_pipeline_and_nothing_else():
    changed = view_pipeline(STEP_LIST, 10, 3)
    assert [step["type"] for step in changed if "Crop" in step["type"]] == ["ThreeCrop"]
    assert next(s for s in changed if s["type"] == "SampleFrames")["num_clips"] == 10
    assert next(s for s in STEP_LIST if s["type"] == "SampleFrames")["num_clips"] == 1
    with pytest.raises(EpicError, match="crops is 2; expected 1 .centre., 3 or whole"):
        view_pipeline(STEP_LIST, 1, 2)


@pytest.mark.parametrize("fps", [None, 30])
@pytest.mark.parametrize("length", [1, 5, 72, 73, 74, 400, 5000])
def test_clips_go_evenly_from_the_first_frame_to_the_last_and_never_leave_the_segment(length, fps):
    init_default_scope("mmaction")
    for clips in (1, 10):
        pipeline = view_pipeline(STEP_LIST, clips, 1)
        spec = next(step for step in pipeline if step["type"] == "SampleFrames")
        sampler = TRANSFORMS.build(spec | {"target_fps": fps})
        segment = {"total_frames": length, "start_index": 1000, "avg_fps": 60000 / 1001}
        frames = sampler.transform(segment)["frame_inds"].reshape(clips, -1) - 1000
        assert frames.min() >= 0 and frames.max() < length
        first = frames[:, 0]
        if clips == 10 and length > 200:
            assert first[0] == 0 and frames[-1, -1] >= length - 11
            assert np.ptp(np.diff(first)) <= 1
        if clips == 1 and length > 200:  # in the middle
            assert abs(frames.min() - (length - 1 - frames.max())) <= 2


def test_a_crop_that_is_decoded_gives_way_to_three_or_to_the_whole_picture():
    decode = {"type": "DecodeSegment", "short_side": 182, "crop": "centre", "size": 160}
    steps = [{"type": "OpenSegment"}, {"type": "SampleFrames", "clip_len": 13}, decode]
    assert view_pipeline(steps, 1, 1)[2:] == [decode]
    whole = {"type": "DecodeSegment", "short_side": 182}
    assert view_pipeline(steps, 1, "whole")[2:] == [whole]
    assert view_pipeline(steps, 1, 3)[2:] == [whole, {"type": "ThreeCrop", "crop_size": 182}]
