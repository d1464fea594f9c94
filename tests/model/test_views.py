"""Views of a segment: how a pipeline samples them, and how a 2D model scores them."""

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


@pytest.mark.parametrize("clips", [1, 10])
@pytest.mark.parametrize("fps", [None, 30])
@pytest.mark.parametrize("length", [1, 5, 72, 73, 74, 400, 5000])
def test_clips_are_even_and_inside_the_segment(length, fps, clips):
    pipeline = view_pipeline(STEP_LIST, clips, crops=1)
    step = next(step for step in pipeline if step["type"] == "SampleFrames")
    sampler = TRANSFORMS.build(step | {"target_fps": fps})
    segment = {"total_frames": length, "start_index": 1000, "avg_fps": 60000 / 1001}
    frames = sampler.transform(segment)["frame_inds"].reshape(clips, -1) - 1000
    before, after = frames.min(), length - 1 - frames.max()
    assert before >= 0 and after >= 0
    # A clip of 13 frames, 6 apart, spans 73. Shorter segments are checked for their limits alone.
    if length > 200 and clips == 1:
        assert abs(before - after) <= 2
    elif length > 200:
        assert before == 0 and after <= 10
        assert np.ptp(np.diff(frames[:, 0])) <= 1


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
# These pipelines take single frames, clips over the complete segment, and clips of a fixed
# interval.
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
    """A 2D model with random weights, whose scores differ from view to view."""
    torch.manual_seed(0)
    backbone, head = MODELS_2D[request.param]
    preprocessor = {
        "type": "ActionDataPreprocessor",
        "mean": [120.0] * 3,
        "std": [60.0] * 3,
        "format_shape": "NCHW",
    }
    config = {"backbone": backbone, "cls_head": head, "data_preprocessor": preprocessor}
    model = MODELS.build({"type": "Recognizer2D", **config})
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    model.cls_head.fc_cls.weight.data.mul_(100)
    return model.eval()


def clip_of(views: int, seed: int) -> torch.Tensor:
    """A random clip of a segment, uint8 [views * FRAMES, 3, 32, 32]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (views * FRAMES, 3, 32, 32)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def log_probs(model, clips, max_batch_size=8, dtype=None):
    scores = torch.cat(list(scores_of_views(model, clips, max_batch_size, FRAMES, dtype)))
    return mean_log_probs(scores, {"pair": CLASSES}, len(clips))


def test_scores_are_those_of_mmaction2_s_test_step(model):
    clips = [clip_of(views=1, seed=1), clip_of(views=1, seed=2)]
    samples = model.test_step(
        {"inputs": clips, "data_samples": [ActionDataSample(), ActionDataSample()]}
    )
    expected = torch.stack([sample.pred_score for sample in samples])
    torch.testing.assert_close(log_probs(model, clips).exp(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("max_batch_size", [1, 2, 8])
def test_the_probabilities_of_views_are_averaged(model, max_batch_size):
    views = [clip_of(views=1, seed=3), clip_of(views=1, seed=4)]
    found = log_probs(model, [torch.cat(views)], max_batch_size)[0]
    of_each_view = torch.cat([log_probs(model, [view], max_batch_size=1) for view in views])
    assert (of_each_view[0] - of_each_view[1]).abs().max() > 0.01
    expected = of_each_view.exp().mean(dim=0)
    torch.testing.assert_close(found.exp(), expected, atol=1e-6, rtol=1e-5)


def test_out_of_memory_means_fewer_views_at_once(model, monkeypatch):
    clips = [clip_of(views=3, seed=1), clip_of(views=3, seed=2)]
    expected = log_probs(model, clips)
    batch_sizes, most, extract_feat = [], 2, model.extract_feat

    def extract_few(inputs, **options):
        batch_sizes.append(len(inputs))
        if len(inputs) > most:
            raise torch.OutOfMemoryError("so many bytes")
        return extract_feat(inputs, **options)

    monkeypatch.setattr(model, "extract_feat", extract_few)
    monkeypatch.setattr(model, "views_that_fit", 8, raising=False)
    for _ in range(2):
        torch.testing.assert_close(log_probs(model, clips), expected)
    # The six views are halved twice, and the second call remembers that one fits.
    assert batch_sizes == [6, 3, 1, 1, 1, 1, 1, 1] + [1] * 6
    most = 0
    with pytest.raises(EpicError, match="one view .* the memory of cpu: so many bytes; set `pred"):
        log_probs(model, clips)


def test_bfloat16_is_for_the_backbone_only(model):
    head_types = []
    hook = model.cls_head.fc_cls.register_forward_hook(
        lambda _, inputs, output: head_types.append((inputs[0].dtype, output.dtype))
    )
    clips = [clip_of(views=1, seed=1)]
    exact = log_probs(model, clips)
    rounded = log_probs(model, clips, dtype=torch.bfloat16)
    hook.remove()
    assert head_types == [(torch.float32, torch.float32)] * 2
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded.exp(), exact.exp(), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    "wrapper, device, dtype",
    [
        pytest.param(
            {"type": "AmpOptimWrapper", "dtype": "float16"},
            "cuda:0",
            torch.float16,
            id="stated type",
        ),
        # This is MMEngine's default.
        pytest.param({"type": "AmpOptimWrapper"}, "cuda:0", torch.float16, id="default type"),
        pytest.param({"type": "AmpOptimWrapper"}, "cpu", None, id="on a CPU"),
        pytest.param({"type": "OptimWrapper"}, "cuda:0", None, id="no mixed precision"),
    ],
)
def test_a_pass_computes_in_the_training_s_type(wrapper, device, dtype):
    assert usable(dtype_of({"optim_wrapper": wrapper}), device) is dtype


def test_only_5_d_weights_become_channels_last():
    mixed = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 3), torch.nn.Conv3d(3, 4, 3)])
    lay_out_channels_last(mixed)
    assert mixed[0].weight.is_contiguous()
    assert mixed[1].weight.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    "steps, sampling_type, clips, frames_of_2d_model",
    [
        pytest.param(DENSE, "dense", 10, None, id="dense"),
        pytest.param(SEGMENT, "segment", 1, 16, id="segment"),
        pytest.param(SPARSE, "sparse", 1, 8, id="sparse"),
        pytest.param([], "other", 1, None, id="no sampling"),
    ],
)
def test_sampling_decides_the_default_views(steps, sampling_type, clips, frames_of_2d_model):
    assert sampling_of(steps).sampling_type == sampling_type
    assert chosen_views(steps, clips=None, crops=1) == (clips, 1)
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
    ids=["clips of single frames", "no sampling", "whole uncropped", "3 crops uncropped", "frames"],
)
def test_views_that_a_pipeline_cannot_give_are_rejected(steps, clips, crops, words):
    with pytest.raises(EpicError, match=words):
        frames_of_2d(view_pipeline(steps, clips, crops))


CENTRE = {"type": "CenterCrop", "crop_size": 256}
IN_THREE = [*SPARSE[:2], {"type": "ThreeCrop", "crop_size": 256}, SPARSE[3]]
DECODED = {"type": "DecodeSegment", "short_side": 182}
CROPPED = {**DECODED, "crop": "centre", "size": 160}


@pytest.mark.parametrize(
    "steps, clips, crops, expected",
    [
        pytest.param(SPARSE, 1, 3, IN_THREE, id="three crops for one"),
        pytest.param(IN_THREE, 1, 1, [*SPARSE[:2], CENTRE, SPARSE[3]], id="one crop for three"),
        pytest.param(
            IN_THREE, 1, "whole", [*SPARSE[:2], SPARSE[3]], id="full frame for three crops"
        ),
        pytest.param(
            SEGMENT,
            3,
            1,
            [{**SEGMENT[0], "num_clips": 3}, *SEGMENT[1:]],
            id="three clips over the segment",
        ),
        pytest.param(
            DENSE, 10, 1, [{**DENSE[0], "num_clips": 10}, *DENSE[1:]], id="ten dense clips"
        ),
        # A step that decodes the centre crop is replaced only if other crops are chosen.
        pytest.param(
            [DENSE[0], CROPPED],
            1,
            1,
            [{**DENSE[0], "num_clips": 1}, CROPPED],
            id="decoded crop stays",
        ),
        pytest.param(
            [SPARSE[0], CROPPED],
            1,
            "whole",
            [SPARSE[0], DECODED],
            id="full frame for a decoded crop",
        ),
        pytest.param(
            [SPARSE[0], CROPPED],
            1,
            3,
            [SPARSE[0], DECODED, {"type": "ThreeCrop", "crop_size": 182}],
            id="three crops for a decoded crop",
        ),
    ],
)
def test_the_test_pipeline_has_the_chosen_views(steps, clips, crops, expected):
    assert view_pipeline(steps, clips, crops) == expected
    # The model's own pipeline is not changed.
    assert "num_clips" not in DENSE[0]
