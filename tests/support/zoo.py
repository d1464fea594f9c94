"""Recipes and published networks made small, for trainings in tests.

`tests/cli/data/published.json` was written by `4d9feb8:benchmarks/adopted.py --record`: for
each model the names and shapes of the tensors of a small network that was built with its authors'
classes, and some of the scores that this network gave with these weights. None of their code is
here, and docs/evidence/adopted.md has the whole comparison.
"""

import argparse
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from epic100.model.published import published
from support.checkout import ROOT

FILE = Path(__file__).parents[1] / "cli/data/published.json"
# Only each 97th output is recorded.
EVERY = 97
VIT = {
    "backbone.img_size": 32,
    "backbone.patch_size": 8,
    "backbone.embed_dims": 64,
    "backbone.depth": 2,
    "backbone.num_heads": 1,
    "backbone.num_frames": 4,
    "cls_head.head.in_channels": 64,
}
SLOWFAST = {
    "backbone.slow_pathway.base_channels": 16,
    "backbone.fast_pathway.base_channels": 2,
    "cls_head.head.in_channels": 576,
    "cls_head.head.window": 1,
}
RESNET = {"backbone.depth": 18, "cls_head.head.in_channels": 512}
# Each rule has the options that make its network small, and the side of its frames in pixels.
CHANGES = {"avion": (VIT, 32), "lavila": (VIT, 32), "slowfast": (SLOWFAST, 64), "c1": (RESNET, 64)}


def small(name):
    """Return the entry of a published model, with options that make its network small."""
    model = published()[name]
    changes, side = CHANGES[model.rule]
    frames = {"clip_len": 4} if model.rule in ("avion", "lavila") else {}
    return model.model_copy(
        update={
            "changes": {**model.changes, **changes},
            "sides": (side, side),
            "sampling": {**model.sampling, **frames},
        }
    )


def weights(shapes):
    """Make tensors of these shapes by name; the values depend on name and shape alone."""
    tensors = {}
    for name, shape in shapes.items():
        draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(3)
        elif name.endswith("running_var"):
            tensors[name] = 0.5 + torch.rand(shape, generator=draw)
        else:
            # Weights of norms are near 1 and biases near 0; larger tensors are scaled by their
            # number of inputs, so that scores stay moderate.
            inputs = int(np.prod(shape[1:])) if len(shape) > 1 else 1
            mean = 1 if len(shape) < 2 and name.endswith("weight") else 0
            scale = 0.1 if len(shape) < 2 else inputs**-0.5
            tensors[name] = mean + scale * torch.randn(shape, generator=draw)
    return tensors


def clips(name):
    """Draw two clips: uint8 [2, 3, T, H, W], or [2 T, 3, H, W] for a 2D network."""
    model = small(name)
    count, (side, _) = model.sampling["clip_len"], model.sides
    shape = (2 * count, 3, side, side) if model.rule == "c1" else (2, 3, count, side, side)
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)


def checkpoint(name, path, change=None):
    """Write a small checkpoint as the model's authors save theirs; return its tensors."""
    tensors = weights(json.loads(FILE.read_text())[name]["shapes"])
    state = change(tensors) if change else tensors
    rule = published()[name].rule
    if rule in ("avion", "lavila"):
        state = {f"module.{key}": value for key, value in state.items()}
        content = {"epoch": 9, "state_dict": state, "args": argparse.Namespace(model="CLIP_VITB16")}
    elif rule == "slowfast":
        content = {"epoch": 30, "model_state": state, "cfg": "TRAIN: {}"}
    else:
        content = {"state_dict": state, "hyper_parameters": {"modality": "RGB"}, "epoch": 79}
    torch.save(content, path)
    return tensors


def as_encoder(tensors):
    """Make the tensors of an encoder from Ego4D, with its text tower and another classifier."""
    encoder = {name: value for name, value in tensors.items() if name.startswith("visual.")}
    return encoder | weights(
        {
            "visual.image_projection": [64, 8],
            "logit_scale": [1],
            "textual.token_embedding.weight": [9, 8],
            "fc_cls.weight": [5, 64],
        }
    )


def recorded(name):
    """Read the recorded log-probabilities [2, ...] of the network for `clips(name)`.

    Only each `EVERY`-th one is recorded.
    """
    return torch.tensor(json.loads(FILE.read_text())[name]["scores"])


def official_csvs(folder):
    """Write train and val CSVs with 3,806 pairs of 97 verbs and 300 nouns."""
    all_pairs = [(verb, noun) for noun in range(300) for verb in range(97)]
    spaced = all_pairs[:: len(all_pairs) // 3806]
    rows = [f"{verb},{noun},verb-{verb},noun-{noun}" for verb, noun in spaced[:3806]]
    head = "verb_class,noun_class,verb,noun"
    parts = {"train": rows[:3500] + rows[:100], "val": rows[3400:]}
    for split, lines in parts.items():
        (folder / f"{split}.csv").write_text("\n".join([head, *lines]) + "\n")
    return {split: folder / f"{split}.csv" for split in parts}


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


def seventh(value):
    """Divide a size in pixels, or each of several, by seven: 224 becomes 32."""
    return list(map(seventh, value)) if isinstance(value, (list, tuple)) else value // 7


def shrunk(name: str) -> tuple[str, Config, dict[str, Any]]:
    """Return the path of a recipe, its config as it is read, and options that make it small.

    Every size in its pipelines is divided by seven.
    """
    path = f"config/{name}.py" if name == DEFAULT else f"config/zoo/{name}.py"
    config, options = Config.fromfile(ROOT / path), dict(SHRUNK.get(name, SHRUNK_DEFAULT))
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for number, step in enumerate(config[loader].dataset.pipeline):
            for key in set(SIZES) & set(step):
                options[f"{loader}.dataset.pipeline.{number}.{key}"] = seventh(step[key])
    return path, config, options
