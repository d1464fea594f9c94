"""The config and weights of a small X3D, without a lab or a training. No test in here."""

from functools import lru_cache

import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

import epic100.model.registered  # noqa: F401

MODEL = {
    "type": "Recognizer3D",
    "backbone": {"type": "X3D", "gamma_w": 1, "gamma_b": 2.25, "gamma_d": 1.0, "norm_cfg":
                 {"type": "BN3d"}},
    "cls_head": {"type": "X3DHead", "num_classes": 2, "in_channels": 432, "spatial_type": "avg",
                 "dropout_ratio": 0.0, "fc1_bias": False, "average_clips": "prob"},
    "data_preprocessor": {"type": "ActionDataPreprocessor", "mean": [114.75] * 3,
                          "std": [57.38] * 3, "format_shape": "NCTHW"},
}  # fmt: skip
STEP_LIST = [
    {"type": "OpenSegment", "decoder": "pyav"},
    {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6, "num_clips": 1,
     "test_mode": True},
    {"type": "DecodeSegment", "short_side": 52},
    {"type": "CenterCrop", "crop_size": 48},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs"},
]  # fmt: skip


@lru_cache(1)
def small_weights() -> dict[str, torch.Tensor]:
    """Weights that fit `MODEL`."""
    init_default_scope("mmaction")
    torch.manual_seed(0)
    return dict(MODELS.build({**MODEL}).state_dict())
