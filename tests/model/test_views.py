"""Views of a segment: which there are, and how 2D models see them apart."""

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample

from epic100.base.errors import EpicError
from epic100.model.forward import scores_of_views
from epic100.model.precision import dtype_of, usable
from epic100.model.registered import lay_out_channels_last
from epic100.model.views import (
    chosen_views,
    frames_of_2d,
    mean_log_probs,
    sampling_of,
    view_pipeline,
)
from support.models import STEP_LIST


@pytest.mark.parametrize("fps", [None, 30])
@pytest.mark.parametrize("length", [1, 5, 72, 73, 74, 400, 5000])
def test_clips_go_evenly_from_the_first_frame_to_the_last_and_never_leave_the_segment(length, fps):
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
        # A single clip is in the middle of the segment.
        if clips == 1 and length > 200:
            assert abs(frames.min() - (length - 1 - frames.max())) <= 2


FRAMES, CLASSES = 4, 5
HEAD = {
    "in_channels": 512,
    "num_classes": CLASSES,
    "spatial_type": "avg",
    "average_clips": "prob",
    "consensus": {"type": "AvgConsensus", "dim": 1},
}
MODELS_2D = {
    "tsn": ({"type": "ResNet", "depth": 18}, {"type": "TSNHead", **HEAD}),
    "tsm": (
        {"type": "ResNetTSM", "depth": 18, "num_segments": FRAMES, "shift_div": 8},
        {"type": "TSMHead", "num_segments": FRAMES, "is_shift": True, **HEAD},
    ),
}
SPARSE = [
    {"type": "SampleFrames", "clip_len": 1, "num_clips": 8},
    {"type": "DecodeSegment", "short_side": 256},
    {"type": "CenterCrop", "crop_size": 224},
    {"type": "FormatShape", "input_format": "NCHW"},
]
SEGMENT = [{"type": "UniformSample", "clip_len": 16}, *SPARSE[1:]]
DENSE = [
    {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6},
    *SPARSE[1:3],
    {"type": "FormatShape", "input_format": "NCTHW"},
]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in MODELS_2D]
)
def model(request):
    torch.manual_seed(0)
    backbone, head = MODELS_2D[request.param]
    model = MODELS.build(
        {
            "type": "Recognizer2D",
            "backbone": backbone,
            "cls_head": head,
            "data_preprocessor": {
                "type": "ActionDataPreprocessor",
                "mean": [120.0] * 3,
                "std": [60.0] * 3,
                "format_shape": "NCHW",
            },
        }
    )
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    model.cls_head.fc_cls.weight.data.mul_(100)
    return model.eval()


def pictures(views: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (views * FRAMES, 3, 32, 32)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def log_probs(model, segments, at_once=8, **how):
    scores = torch.cat(list(scores_of_views(model, segments, at_once, FRAMES, **how)))
    return mean_log_probs(scores, {"pair": CLASSES}, len(segments))


def test_scores_are_those_of_mmaction2_s_own_test_step(model):
    segments = [pictures(1, 1), pictures(1, 2)]
    ours = log_probs(model, segments)
    samples = [ActionDataSample(), ActionDataSample()]
    theirs = model.test_step({"inputs": segments, "data_samples": samples})
    scores = torch.stack([sample.pred_score for sample in theirs])
    torch.testing.assert_close(ours.exp(), scores, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_views_are_seen_apart_and_averaged_in_probability(model, at_once):
    one, two = pictures(1, 3), pictures(1, 4)
    both = log_probs(model, [torch.cat([one, two])], at_once)
    apart = torch.cat([log_probs(model, [view], 1) for view in (one, two)])
    assert (apart[0] - apart[1]).abs().max() > 0.01
    torch.testing.assert_close(both[0].exp(), apart.exp().mean(dim=0), atol=1e-6, rtol=1e-5)


def test_as_many_views_go_together_as_fit_and_one_that_does_not_is_an_error(model, monkeypatch):
    segments, seen, most = [pictures(3, 1), pictures(3, 2)], [], 2
    expected = log_probs(model, segments)
    whole = model.extract_feat

    def small(inputs, **kwargs):
        seen.append(len(inputs))
        if len(inputs) > most:
            raise torch.OutOfMemoryError("so many bytes")
        return whole(inputs, **kwargs)

    monkeypatch.setattr(model, "extract_feat", small)
    monkeypatch.setattr(model, "views_that_fit", 8, raising=False)
    for _ in range(2):
        torch.testing.assert_close(log_probs(model, segments), expected)
    # The number of views is halved until it fits, and then remembered.
    assert seen == [6, 3, 1, 1, 1, 1, 1, 1] + [1] * 6
    most = 0
    with pytest.raises(EpicError, match="one view .* the memory of cpu: so many bytes; set `pred"):
        log_probs(model, segments)


def test_autocast_is_the_training_s_and_leaves_the_head_in_float32(model):
    kinds = []
    layer = model.cls_head.fc_cls
    hook = layer.register_forward_hook(
        lambda _, given, out: kinds.append((given[0].dtype, out.dtype))
    )
    expected, found = (
        log_probs(model, [pictures(1, 1)], dtype=dtype) for dtype in (None, torch.bfloat16)
    )
    hook.remove()
    assert kinds == [(torch.float32, torch.float32)] * 2
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found.exp(), expected.exp(), atol=0.1, rtol=0)
    amp = {"optim_wrapper": {"type": "AmpOptimWrapper", "dtype": "float16"}}
    assert dtype_of(amp) is usable(dtype_of(amp), "cuda:0") is torch.float16
    # MMEngine's default is float16.
    assert dtype_of({"optim_wrapper": {"type": "AmpOptimWrapper"}}) is torch.float16
    assert usable(dtype_of(amp), "cpu") is dtype_of({"optim_wrapper": {"type": "Optim"}}) is None


def test_only_5_d_weights_are_laid_out_anew(model):
    mixed = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 3), torch.nn.Conv3d(3, 4, 3)])
    lay_out_channels_last(mixed)
    assert mixed[0].weight.is_contiguous()
    assert mixed[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    lay_out_channels_last(model.backbone)


@pytest.mark.parametrize(
    "steps, kind, clips, frames_of_2d_model",
    [
        (DENSE, "dense", 10, None),
        (SEGMENT, "segment", 1, 16),
        (SPARSE, "sparse", 1, 8),
        ([], "other", 1, None),
    ],
)
def test_views_are_chosen_by_how_frames_are_sampled(steps, kind, clips, frames_of_2d_model):
    assert sampling_of(steps).kind == kind and chosen_views(steps, None, 1) == (clips, 1)
    assert frames_of_2d(steps) == frames_of_2d_model


@pytest.mark.parametrize(
    "steps, clips, crops, words",
    [
        (SPARSE, 10, 1, "clips is 10, .* SampleFrames takes single frames over"),
        (SPARSE[1:], 2, 1, "clips is 2, .* neither SampleFrames nor UniformSample"),
        ([*SPARSE[:2], SPARSE[3]], 1, "whole", "crops is whole, .* has no CenterCrop"),
        ([*SPARSE[:2], SPARSE[3]], 1, 3, "crops is 3, .* has no CenterCrop"),
        (SPARSE[1:], 1, 1, "how many frames make a view is not known"),
    ],
)
def test_views_that_a_pipeline_cannot_give_are_one_line(steps, clips, crops, words):
    with pytest.raises(EpicError, match=words):
        frames_of_2d(view_pipeline(steps, clips, crops))


THREE, CENTRE = ({"type": crop, "crop_size": 256} for crop in ("ThreeCrop", "CenterCrop"))
IN_THREE = [*SPARSE[:2], THREE, SPARSE[3]]
DECODED = {"type": "DecodeSegment", "short_side": 182}
CUT = {**DECODED, "crop": "centre", "size": 160}


@pytest.mark.parametrize(
    "steps, clips, crops, expected",
    [
        (SPARSE, 1, 3, IN_THREE),
        (IN_THREE, 1, 1, [*SPARSE[:2], CENTRE, SPARSE[3]]),
        (IN_THREE, 1, "whole", [*SPARSE[:2], SPARSE[3]]),
        (SEGMENT, 3, 1, [{**SEGMENT[0], "num_clips": 3}, *SEGMENT[1:]]),
        (DENSE, 10, 1, [{**DENSE[0], "num_clips": 10}, *DENSE[1:]]),
        # A crop that is decoded gives way to three, or to the whole picture.
        ([DENSE[0], CUT], 1, 1, [{**DENSE[0], "num_clips": 1}, CUT]),
        ([SPARSE[0], CUT], 1, "whole", [SPARSE[0], DECODED]),
        ([SPARSE[0], CUT], 1, 3, [SPARSE[0], DECODED, {"type": "ThreeCrop", "crop_size": 182}]),
    ],
)
def test_frames_of_a_view_stay_and_clips_and_crops_are_as_chosen(steps, clips, crops, expected):
    assert view_pipeline(steps, clips, crops) == expected
    # The model's own pipeline stays as it is.
    assert "num_clips" not in DENSE[0]
