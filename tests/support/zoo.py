"""The recipes made small: the options with which a model of the zoo trains in a test."""

from typing import Any

from mmengine.config import Config

import epic100.mmaction  # noqa: F401  (registers what the configs name)
from support.checkout import ROOT
from support.published_weights import VIT

TINY_VIT = {"embed_dims": 48, "num_heads": 4, "img_size": 32}
# These options make each model small enough for a test, with frames of 32 pixels, not 224.
SHRUNK: dict[str, dict[str, Any]] = {
    "tsn_r50": {"model.backbone.depth": 18, "model.cls_head.head.in_channels": 512},
    "tsm_r50": {"model.backbone.depth": 18, "model.cls_head.head.in_channels": 512},
    "slowfast_r50": {
        # The first two options are as in docs/first-day.md.
        "model.backbone.type": "PySlowFast",
        "model.backbone.slow_pathway.lateral_norm": True,
        "model.backbone.slow_pathway.base_channels": 16,
        "model.backbone.fast_pathway.base_channels": 2,
        "model.cls_head.head.in_channels": 576,
    },
    "x3d_m": {"model.backbone.gamma_d": 1.0},
    "mvitv2_s": {
        "model.backbone.arch": {
            "_delete_": True,
            "embed_dims": 32,
            "num_layers": 3,
            "num_heads": 1,
            "downscale_indices": [1, 2],
        },
        "model.backbone.spatial_size": 32,
        "model.cls_head.head.in_channels": 128,
    },
    "timesformer": {
        **{f"model.backbone.{key}": value for key, value in TINY_VIT.items()},
        "model.backbone.num_transformer_layers": 2,
        "model.cls_head.head.in_channels": 48,
    },
    "videomae_b": {
        **{f"model.backbone.{key}": value for key, value in TINY_VIT.items()},
        "model.backbone.depth": 2,
        "model.cls_head.head.in_channels": 48,
    },
    **dict.fromkeys(
        ("avion_b", "avion_l", "lavila_b"),
        {f"model.{key}": size for key, size in VIT.items() if key != "backbone.num_frames"},
    ),
}
DEFAULT = "x3d_s_epic_rgb_segments"
SHRUNK_DEFAULT = {
    "model.backbone.gamma_d": 0.5,
    "model.backbone.gamma_w": 0.34,
    "model.cls_head.head.in_channels": 144,
}
SIZES = ("short_side", "size", "crop_size", "input_size", "scale")


def small(value):
    """Divide a size in pixels, or each of several, by seven: 224 becomes 32."""
    return list(map(small, value)) if isinstance(value, (list, tuple)) else value // 7


def shrunk(name: str) -> tuple[str, Config, dict[str, Any]]:
    """Return the path of a recipe, its config as it is read, and options that make it small.

    Every size in its pipelines is divided by seven.
    """
    path = f"config/{name}.py" if name == DEFAULT else f"config/zoo/{name}.py"
    config, options = Config.fromfile(ROOT / path), dict(SHRUNK.get(name, SHRUNK_DEFAULT))
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for number, step in enumerate(config[loader].dataset.pipeline):
            for key in set(SIZES) & set(step):
                options[f"{loader}.dataset.pipeline.{number}.{key}"] = small(step[key])
    return path, config, options
