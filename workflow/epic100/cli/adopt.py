"""Convert published checkpoints of EPIC-KITCHENS-100 models to our model files: `epic100 adopt`.

docs/first-day.md describes the command.
"""

import argparse
import difflib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import epic100.clips.published_frames
import epic100.model.registered  # noqa: F401  (registers what the recipes name)
from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT, existing_path
from epic100.base.text_table import read_own_table
from epic100.base.torch_file import write_tensors
from epic100.cli.lab_checkpoint import Pair, config_of, read_checkpoint
from epic100.cli.published_tensors import (
    BESIDE_ENCODER,
    joined_head,
    read_classifier_file,
    require_same_tensors,
    with_our_names,
)
from epic100.data.official_lists import CLASS_LISTS, find_lists, read_class_names
from epic100.model.mmaction_import import Config, build
from epic100.model.model_file import TrainedModel, output_sizes, save_model
from epic100.model.published import Published, published
from epic100.settings.config import layered_settings

VERBS, NOUNS = 97, 300


def run(options: argparse.Namespace) -> int:
    """List the published models, or write one as a model file or as start weights; return 0."""
    if options.name is None:
        print("\n".join(_describe_published()))
        return 0
    if options.name not in published():
        # Below the usual cutoff of 0.6 nothing would be found; with 0, there is always one name.
        (closest,) = difflib.get_close_matches(options.name, published(), n=1, cutoff=0)
        raise EpicError(
            f"{options.name}: no published model of this name; did you mean {closest}? "
            f"Known are {', '.join(published())}"
        )
    if options.file is None or options.out is None:
        raise EpicError(
            f"adopt {options.name}: no file is named; expected epic100 adopt {options.name} FILE "
            f"--out weights/{options.name}.pth, with the file of {published()[options.name].url}"
        )
    if options.encoder:
        lines = adopt_encoder(options.name, options.file, options.out, options.frames)
    else:
        folder = options.directory
        config = layered_settings([existing_path(path) for path in options.configfile], folder)
        train, val = folder / config.annotations.train, folder / config.annotations.val
        lists = find_lists(val, config.evaluate.model_dump(), lists=CLASS_LISTS)
        lines = adopt(options.name, options.file, options.out, train=train, val=val, lists=lists)
    print("\n".join(lines))
    return 0


def _describe_published() -> Iterator[str]:
    """Yield four lines about each published model."""
    for name, model in published().items():
        md5 = f"md5 {model.md5}..." if model.md5 else "no md5 published"
        yield from (
            f"{name}  {model.title}: {_reported(model)} (top-1 on val: verb, noun, action)",
            f"    {model.url}",
            f"    {md5}; weights of {model.megabytes:,} MB; {model.code}, {model.licence}",
            f"    val: a card of 16 GB, an estimated {model.minutes} min of an A100",
        )


def _reported(model: Published) -> str:
    """Write a model's reported metrics as text: `72 / 61.9 / -` for verb, noun, action."""
    metrics = (model.verb, model.noun, model.action)
    return " / ".join("-" if value is None else f"{value:g}" for value in metrics)


def adopt(
    name: str,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    *,
    train: str | os.PathLike,
    val: str | os.PathLike,
    lists: Mapping[str, str] | None = None,
    model: Published | None = None,
) -> list[str]:
    """Write a published model as a model file.

    Args:
        name: A key of `published()`.
        checkpoint: The published checkpoint of this model.
        out: The model file to write.
        train: EPIC_100_train.csv. Its segments are counted for the prior.
        val: EPIC_100_validation.csv. A head over actions has its pairs as classes, too.
        lists: Class lists with the names of the classes (`official_lists.CLASS_LISTS`).
        model: The entry of the model; None: `published()[name]`.

    Returns:
        Lines for the screen about the file.

    Raises:
        EpicError: The checkpoint is not the file of this model, or a CSV is not the official one.
    """
    model = model or published()[name]
    tensors = read_classifier_file(name, checkpoint, model)

    # The pairs of the model. A head over verbs and nouns needs no pairs of val: its outputs cover
    # all pairs anyway.
    counts, val_counts = _count_pairs(train), _count_pairs(val)
    pairs = sorted(counts)
    if "pair" in output_sizes(model.heads, 1, VERBS, NOUNS):
        pairs = sorted({*counts, *val_counts})
        # The first classifier is the one over actions.
        classes = next(iter(model.classes.values()))
        if len(pairs) != classes:
            raise EpicError(
                f"{train}, {val}: {len(pairs):,} pairs of verb and noun, but {name} has "
                f"{classes:,} classes; expected the official files of EPIC-KITCHENS-100 "
                "(`annotations: train:` and `val:`), whole"
            )

    # The network of the recipe says which tensors are expected.
    sizes = output_sizes(model.heads, len(pairs), VERBS, NOUNS)
    config = _predicting_config(model, sum(sizes.values()))
    state = with_our_names(tensors, model) | joined_head(tensors, model, pairs)
    require_same_tensors(name, checkpoint, model, build(config["model"]), state)

    # The model file says where the model is from, and which metrics its authors report.
    reported = model.model_dump(include={"title", "verb", "noun", "action", "own_scores"})
    trained_on = {
        "split": "train",
        "segments": counts.total(),
        "epochs": None,
        "seed": None,
        "load_from": model.start,
        "published": {"name": name, **reported},
        "source": model.url,
        "code": model.code,
        "licence": model.licence,
    }
    trained = TrainedModel(
        state,
        [(verb, noun, counts[verb, noun]) for verb, noun in pairs],
        VERBS,
        NOUNS,
        config,
        trained_on,
        heads=model.heads,
        names=read_class_names([train, val], lists).by_task,
    )
    save_model(trained, out)
    return [
        f"{out}: {model.title} of {model.code}, {len(state)} tensors, {len(pairs):,} pairs",
        f"reported on val: {_reported(model)}; licence of its code: {model.licence}",
        f"next: epic100 test {out}",
    ]


def adopt_encoder(
    name: str,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    frames: int = 16,
    model: Published | None = None,
) -> list[str]:
    """Write the encoder of a checkpoint, without a classifier, as start weights of a training.

    Args:
        name: A key of `published()` that is a transformer.
        checkpoint: AVION's or LaViLa's checkpoint, trained on Ego4D or on EPIC-KITCHENS.
        out: The file to write, for `train: load_from:`.
        frames: Frames of a clip. If the checkpoint has embeddings for another number of frames,
            they are interpolated over time.
        model: The entry of the model; None: `published()[name]`.

    Returns:
        Lines for the screen about the file.

    Raises:
        EpicError: The file does not hold exactly this encoder.
    """
    model = model or published()[name]
    if model.rule not in ("avion", "lavila"):
        raise EpicError(
            f"{name}: only AVION and LaViLa publish encoders without a classifier; adopt it "
            "without --encoder, and name the model file in `train: load_from:`"
        )

    # The tensors of the encoder; the number of the others, by the part that they are of.
    tensors, _ = read_checkpoint(checkpoint)
    tensors_of_encoder, left_out = {}, Counter[str]()
    for key, value in tensors.items():
        other_part = BESIDE_ENCODER.match(key)
        if other_part:
            left_out[other_part[1]] += 1
        else:
            tensors_of_encoder[key] = value
    state = with_our_names(tensors_of_encoder, model)

    # The embeddings of the time, [1, T, C], for clips of this number of frames.
    embedding = state.get("backbone.time_embed", torch.empty(1, 0, 0))
    published_frames = embedding.shape[1] if embedding.ndim == 3 else 0
    if published_frames not in (0, frames):
        # `interpolate` works on the last axis, so [1, T, C] is transposed before and after it.
        channels_first = embedding.float().transpose(1, 2)
        state["backbone.time_embed"] = F.interpolate(channels_first, size=frames, mode="linear").mT

    encoder = build({**network_config(model)["backbone"], "num_frames": frames})
    # The state has no classifier, so it is compared with the backbone alone, under its name.
    require_same_tensors(name, checkpoint, model, nn.ModuleDict({"backbone": encoder}), state)
    write_tensors({"state_dict": {key: value.contiguous() for key, value in state.items()}}, out)
    parts = ", ".join(f"{part} ({count})" for part, count in left_out.items())
    return [
        f"{out}: {len(state)} tensors of the encoder of {model.title}",
        f"embeddings of the time: {published_frames} frames there, {frames} here",
        f"left out: {parts or 'nothing'}",
    ]


def _predicting_config(model: Published, outputs: int) -> dict[str, Any]:
    """Make the config of a published model for the rule predict, with its authors' test pipeline.

    Args:
        model: The entry of the model.
        outputs: Number of outputs of its head.
    """
    spec = network_config(model)
    spec["cls_head"]["num_classes"] = outputs
    short_side, crop = model.sides
    keys = ("img_shape", "narration_id", "verb", "noun", "num_clips")
    # TSN, TRN and TSM are 2D models, which take frames and not clips.
    input_format = "NCHW" if model.rule == "c1" else "NCTHW"
    steps: list[dict[str, Any]] = [
        {"type": "OpenSegment", "decoder": "pyav"},
        {"type": "PublishedFrames", **model.sampling},
        {"type": "DecodeSegment", "short_side": short_side, "crop": "centre", "size": crop},
        {"type": "FormatShape", "input_format": input_format},
        {"type": "PackActionInputs", "meta_keys": keys},
    ]
    config = config_of(spec, steps)
    # AVION's own test computes in float16, and so does a prediction with this key.
    if model.rule == "avion":
        config["optim_wrapper"] = {"dtype": "float16"}
    return config


def network_config(model: Published) -> dict[str, Any]:
    """Make the config of a published model's network from the `model` of its recipe.

    The changes in config/published.yaml are applied. The keys that only a training needs are left
    out.
    """
    recipe = Config.fromfile(ROOT / f"config/zoo/{model.recipe}.py", format_python_code=False)
    settings = Config({"model": recipe.model.to_dict()})
    settings.merge_from_dict({f"model.{key}": value for key, value in model.changes.items()})
    spec = settings.model.to_dict()
    spec["data_preprocessor"].pop("blending", None)
    # The recipe wraps MMAction2's head in `EpicHead`, and here the head is needed without it. If a
    # change sets an argument to None, the head does not get this argument.
    spec["cls_head"] = {
        key: value for key, value in spec["cls_head"]["head"].items() if value is not None
    }
    return spec


def _count_pairs(path: str | os.PathLike) -> Counter[Pair]:
    """Count the segments of each verb-noun pair in an official CSV."""
    # A column is read by `index` of a list ["0", "1", ...]: it gives the id of a text, and raises
    # ValueError for any other text.
    columns = {
        "verb_class": [*map(str, range(VERBS))].index,
        "noun_class": [*map(str, range(NOUNS))].index,
    }
    expected = f"an official EPIC-KITCHENS-100 CSV with the columns {', '.join(columns)}"
    rows = read_own_table(path, columns, about=expected, delimiter=",")
    return Counter((row["verb_class"], row["noun_class"]) for row in rows)
