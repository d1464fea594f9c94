"""Convert published checkpoints of EPIC-KITCHENS-100 models to our model files: `epic100 adopt`.

The checkpoints hold pickled arguments next to the weights. Only the weights are read, as data
(`untrusted_tensors`). They get the names and shapes that they have in the recipe of config/zoo;
each tensor of the network must be there, and none may be left over. The names of the tensors are
from the code that config/published.yaml lists; none of that code is here.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import epic100.clips.published_frames
import epic100.model.registered  # noqa: F401  (registers what the recipes name)
from epic100.base.disk import digest
from epic100.base.errors import BrokenFile, EpicError
from epic100.base.shipped import ROOT
from epic100.base.text_table import read_own_table
from epic100.base.torch_file import write_tensors
from epic100.base.untrusted_tensors import require_finite
from epic100.cli.lab_checkpoint import Pair, config_of, read_checkpoint
from epic100.data.official_lists import read_class_names
from epic100.model.mmaction_import import Config, build
from epic100.model.model_file import TrainedModel, output_sizes, save_model
from epic100.model.published import Published, published

VERBS, NOUNS, COLOURS = 97, 300, 3
# Maximum number of tensors that an error names.
MAX_SHOWN = 3
# Each line is a pattern in a published tensor's name and the text that replaces it in ours. AVION
# has two sets of names for a block: the names of torch, and the names of the package flash_attn.
TRANSFORMER_NAMES = (
    (r"^visual\.", ""),
    (r"^(class_embedding|cls_token)$", "cls_token"),
    (r"^(positional_embedding|pos_embed)$", "pos_embed"),
    (r"^(temporal_embedding|temporal_embed)$", "time_embed"),
    (r"^(conv1|patch_embed\.proj)\.", "patch_embed.projection."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.timeattn\.", ".time_attn."),
    (r"\.(in_proj_|Wqkv\.)(?=weight|bias)", ".qkv."),
    (r"\.out_proj\.", ".proj."),
    (r"\.mlp\.(c_fc|fc1)\.", ".mlp.layers.0.0."),
    (r"\.mlp\.(c_proj|fc2)\.", ".mlp.layers.1."),
    (r"^", "backbone."),
)
RESNET_NAMES = (
    (r"^model\.base_model\.", "backbone."),
    (r"\.conv(\d)\.(?=net|weight)", r".conv\1.conv."),
    (r"\.bn(\d)\.", r".conv\1.bn."),
    (r"\.downsample\.0\.", ".downsample.conv."),
    (r"\.downsample\.1\.", ".downsample.bn."),
    (r"^model\.consensus\.", "cls_head.consensus."),
    (r"^model\.new_fc\.", "cls_head.fc_cls."),
)
SLOWFAST_NAMES = (
    (r"^s1_fuse\.", "backbone.slow_path.conv1_lateral."),
    *((rf"^s{n + 1}_fuse\.", f"backbone.slow_path.layer{n}_lateral.") for n in (1, 2, 3)),
    *((rf"^s{n + 1}\.(pathway\d_)res", rf"backbone.\1path.layer{n}.") for n in (1, 2, 3, 4)),
    (r"^s1\.(pathway\d_)stem\.", r"backbone.\1path.conv1."),
    (r"\.pathway0_", ".slow_"),
    (r"\.pathway1_", ".fast_"),
    (r"\.conv_f2s\.", ".conv."),
    (r"\.branch1\.", ".downsample.conv."),
    (r"\.branch1_bn\.", ".downsample.bn."),
    *((rf"\.branch2\.{branch}\.", f".conv{n}.conv.") for n, branch in enumerate("abc", 1)),
    *((rf"\.branch2\.{branch}_bn\.", f".conv{n}.bn.") for n, branch in enumerate("abc", 1)),
)
# The keys are the rules that choose frames (`Published.rule`). The rule `c1` is that of the 2D
# models TSN, TRN and TSM, which EPIC-KITCHENS' authors trained for their challenge C1.
NAMES = {
    "avion": TRANSFORMER_NAMES,
    "lavila": TRANSFORMER_NAMES,
    "c1": RESNET_NAMES,
    "slowfast": SLOWFAST_NAMES,
}
# Tensors with these first names in a model of videos and texts are not of its video encoder.
TEXT_PART = re.compile(
    r"(visual\.(?:image_projection|head)|textual|transformer|token_embedding|positional_embedding|"
    r"ln_final|image_projection|text_projection|logit_scale)(?:\.|$)"
)


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
    tensors = _read_classifier_file(name, checkpoint, model)
    counts, val_counts = _count_pairs(train), _count_pairs(val)
    pairs = sorted(counts)
    # A head over verbs and nouns needs no pairs of val: its outputs cover all pairs anyway.
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
    spec = network_config(model)
    sizes = output_sizes(model.heads, len(pairs), VERBS, NOUNS)
    spec["cls_head"]["num_classes"] = sum(sizes.values())
    state = _renamed(tensors, model) | _head(tensors, model, pairs)
    _require_same_tensors(name, checkpoint, model, build(spec), state)
    config = config_of(spec, test_steps(model))
    # AVION's own test computes in float16, and so does a prediction with this key.
    if model.rule == "avion":
        config["optim_wrapper"] = {"dtype": "float16"}
    pairs_with_counts = [(verb, noun, counts[verb, noun]) for verb, noun in pairs]
    trained = TrainedModel(
        state,
        pairs_with_counts,
        VERBS,
        NOUNS,
        config,
        _origin(name, model, counts.total()),
        heads=model.heads,
        names=read_class_names([train, val], lists).by_task,
    )
    save_model(trained, out)
    return [
        f"{out}: {model.title} of {model.code}, {len(state)} tensors, {len(pairs):,} pairs",
        f"reported on val: {reported_metrics(model)}; licence of its code: {model.licence}",
        f"next: epic100 test {out}",
    ]


def _origin(name: str, model: Published, segments: int) -> dict[str, Any]:
    """Describe where a published model is from, as the `trained_on` of a model file.

    Args:
        name: A key of `published()`.
        model: Its entry.
        segments: Number of segments of train.
    """
    return {
        "split": "train",
        "segments": segments,
        "epochs": None,
        "seed": None,
        "load_from": model.start,
        "published": {
            "name": name,
            **model.model_dump(include={"title", "verb", "noun", "action", "own_scores"}),
        },
        "source": model.url,
        "code": model.code,
        "licence": model.licence,
    }


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
    tensors, _ = read_checkpoint(checkpoint)
    part_of_tensor = {key: _part_beside_encoder(key) for key in tensors}
    left_out = Counter(filter(None, part_of_tensor.values()))
    encoder_tensors = {key: value for key, value in tensors.items() if not part_of_tensor[key]}
    state = _renamed(encoder_tensors, model)
    embedding = state.get("backbone.time_embed", torch.empty(1, 0, 0))
    published_frames = embedding.shape[1] if embedding.ndim == 3 else 0
    if published_frames not in (0, frames):
        # `interpolate` works on the last axis, so [1, T, C] is transposed before and after it.
        channels_first = embedding.float().transpose(1, 2)
        state["backbone.time_embed"] = F.interpolate(channels_first, size=frames, mode="linear").mT
    encoder = build({**network_config(model)["backbone"], "num_frames": frames})
    # The state has no classifier, so it is compared with the backbone alone, under its name.
    _require_same_tensors(name, checkpoint, model, nn.ModuleDict({"backbone": encoder}), state)
    write_tensors({"state_dict": {key: value.contiguous() for key, value in state.items()}}, out)
    texts = ", ".join(f"{prefix} ({count})" for prefix, count in left_out.items())
    return [
        f"{out}: {len(state)} tensors of the encoder of {model.title}",
        f"embeddings of the time: {published_frames} frames there, {frames} here",
        f"left out: {texts or 'nothing'}",
    ]


def _part_beside_encoder(tensor_name: str) -> str:
    """Return the part of a model that a tensor belongs to, or "" if it is the video encoder.

    `textual.ln_final.weight` belongs to `textual`.
    """
    if text_part := TEXT_PART.match(tensor_name):
        return text_part[1]
    # The classifier has the first name `fc_cls`.
    return tensor_name.partition(".")[0] if tensor_name.startswith("fc_cls") else ""


def describe_published() -> Iterator[str]:
    """Yield four lines about each published model."""
    for name, model in published().items():
        md5 = f"md5 {model.md5}..." if model.md5 else "no md5 published"
        yield from (
            f"{name}  {model.title}: {reported_metrics(model)} (top-1 on val: verb, noun, action)",
            f"    {model.url}",
            f"    {md5}; weights of {model.megabytes:,} MB; {model.code}, {model.licence}",
            f"    val: a card of 16 GB, an estimated {model.minutes} min of an A100",
        )


def reported_metrics(model: Published) -> str:
    """Write a model's reported metrics as text: `72 / 61.9 / -` for verb, noun, action."""
    metrics = (model.verb, model.noun, model.action)
    return " / ".join("-" if value is None else f"{value:g}" for value in metrics)


def sort_as_actions(pairs: Sequence[Pair]) -> list[Pair]:
    """Sort pairs as AVION and LaViLa order their classes: by the text `verb:noun`.

    As texts, `10:2` comes before `2:1`.
    """
    return sorted(pairs, key=lambda pair: f"{pair[0]}:{pair[1]}")


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


def test_steps(model: Published) -> list[dict[str, Any]]:
    """List the steps of a published model's test pipeline."""
    short_side, crop = model.sides
    keys = ("img_shape", "narration_id", "verb", "noun", "num_clips")
    return [
        {"type": "OpenSegment", "decoder": "pyav"},
        {"type": "PublishedFrames", **model.sampling},
        {"type": "DecodeSegment", "short_side": short_side, "crop": "centre", "size": crop},
        # TSN, TRN and TSM are 2D models, which take frames and not clips.
        {"type": "FormatShape", "input_format": "NCHW" if model.rule == "c1" else "NCTHW"},
        {"type": "PackActionInputs", "meta_keys": keys},
    ]


def _read_classifier_file(
    name: str, path: str | os.PathLike, model: Published
) -> dict[str, Tensor]:
    """Read a published checkpoint, and raise if it does not have the classifier of this model."""
    expected = f"expected the file of {name}, {model.url}"
    if not os.path.isfile(path):
        raise EpicError(f"{path}: no such file; {expected}")
    md5 = digest(path, "md5").value
    # The list of published models has only the first digits of an MD5, and not of every file.
    listed_name = next(
        (key for key, entry in published().items() if entry.md5 and md5.startswith(entry.md5)), name
    )
    if listed_name != name:
        raise EpicError(f"{path}: this is the file of {listed_name}, by its md5 {md5}; {expected}")
    try:
        tensors, _ = read_checkpoint(path)
    except BrokenFile as error:
        # The error's advice, after the semicolon, is replaced by the published address.
        raise BrokenFile(f"{str(error).partition('; ')[0]}; {expected}") from error
    for layer, classes in model.classes.items():
        weight = tensors.get(f"{layer}.weight")
        if weight is None:
            hint = (
                ", but parts of a model of videos and texts"
                if any(map(TEXT_PART.match, tensors))
                else ""
            )
            raise EpicError(
                f"{path}: no classifier {layer!r} among its {len(tensors)} tensors{hint}; "
                f"{expected}"
            )
        if len(weight) != classes:
            raise EpicError(
                f"{path}: its classifier has {len(weight):,} classes, not {classes:,}; {expected}"
            )
    return tensors


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


def _renamed(tensors: Mapping[str, Tensor], model: Published) -> dict[str, Tensor]:
    """Rename and reshape all tensors but the classifier's as they are in our network."""
    state = {}
    for name, value in tensors.items():
        # `_head` adds the classifier. TRN's many classifiers keep their names below `consensus`.
        if name.rpartition(".")[0] in model.classes and not name.startswith("model.consensus."):
            continue
        for pattern, replacement in NAMES[model.rule]:
            name = re.sub(pattern, replacement, name)
        # The bias of the keys changes nothing (`model.encoders`), so the network has none.
        if name.endswith(".qkv.bias"):
            query, _, values = value.chunk(3)
            state[name.replace("qkv.bias", "q_bias")] = query.contiguous()
            state[name.replace("qkv.bias", "v_bias")] = values.contiguous()
            continue
        if name == "backbone.patch_embed.projection.weight":
            # AVION's fast way to embed patches multiplies matrices, so its weights may have no axes
            # for the sides of a patch.
            side = math.isqrt(value[0].numel() // COLOURS)
            if value[0].numel() == COLOURS * side**2:
                value = value.reshape(-1, COLOURS, 1, side, side)
        elif name in ("backbone.cls_token", "backbone.pos_embed", "backbone.time_embed"):
            value = value.reshape(1, -1, value.shape[-1]) if value.ndim else value
        state[name] = value
    return state


def _head(
    tensors: Mapping[str, Tensor], model: Published, pairs: Sequence[Pair]
) -> dict[str, Tensor]:
    """Join the published classifiers to one layer, with the outputs in our order."""
    if model.rule == "c1" and "model.new_fc" not in model.classes:
        # TRN has many classifiers, which `_renamed` keeps. Each has verbs before nouns, as here.
        return {}
    state = {}
    for tensor_name in ("weight", "bias"):
        layer_tensors = [tensors[f"{layer}.{tensor_name}"] for layer in model.classes]
        if model.heads != "verb_noun":
            row_of_pair = {pair: row for row, pair in enumerate(sort_as_actions(pairs))}
            # The first classifier is the one over actions.
            layer_tensors[0] = layer_tensors[0][[row_of_pair[pair] for pair in pairs]]
        state[f"cls_head.fc_cls.{tensor_name}"] = torch.cat(layer_tensors)
    # PySlowFast has the features of the slow pathway first, MMAction2 the features of the fast one.
    # The slow pathway has eight times as many channels, so the fast one has a ninth of the sum.
    if model.rule == "slowfast":
        fast_channels = state["cls_head.fc_cls.weight"].shape[1] // 9
        state["cls_head.fc_cls.weight"] = state["cls_head.fc_cls.weight"].roll(fast_channels, 1)
    return state


def _require_same_tensors(
    name: str,
    path: str | os.PathLike,
    model: Published,
    built: nn.Module,
    state: Mapping[str, Tensor],
) -> None:
    """Raise if a tensor of the network is missing, left over, of another shape or not finite."""
    network_tensors = built.state_dict()
    defects = [
        *(f"{key} is missing" for key in network_tensors if key not in state),
        *(f"{key} is left over" for key in state if key not in network_tensors),
        *(
            f"{key} is {list(state[key].shape)}, not {list(value.shape)}"
            for key, value in network_tensors.items()
            if key in state and state[key].shape != value.shape
        ),
    ]
    if defects:
        more = f" and {len(defects) - MAX_SHOWN} more" if len(defects) > MAX_SHOWN else ""
        raise EpicError(
            f"{path}: not the network of {name}: {', '.join(defects[:MAX_SHOWN])}{more}; expected "
            f"the file of {model.title}, {model.url}"
        )
    require_finite(path, state)
