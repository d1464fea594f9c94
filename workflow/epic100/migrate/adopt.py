"""`epic100 adopt`: a model that others trained on EPIC-KITCHENS-100 becomes a model file of ours.

Their checkpoints hold pickled arguments beside the weights. Only the weights are read, as data
(`foreign_tensors`). They get the names and shapes that they have in the recipe of config/zoo; each
tensor of the network must be there, and none may be left over. Written from the names in the code
that config/published.yaml names, with none of it.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
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
from epic100.migrate.checkpoint import Pair, config_of, read_checkpoint
from epic100.model.mmaction_import import Config, build
from epic100.model.model_file import TrainedModel, output_sizes, save_model
from epic100.model.published import Published, published
from epic100.segments.official_lists import read_class_names

VERBS, NOUNS = 97, 300
# Each line replaces a part of a published tensor's name by ours. AVION has two sets of names for a
# block: those of torch, and those of the package flash_attn.
OF_TRANSFORMERS = (
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
OF_RESNETS = (
    (r"^model\.base_model\.", "backbone."),
    (r"\.conv(\d)\.(?=net|weight)", r".conv\1.conv."),
    (r"\.bn(\d)\.", r".conv\1.bn."),
    (r"\.downsample\.0\.", ".downsample.conv."),
    (r"\.downsample\.1\.", ".downsample.bn."),
    (r"^model\.consensus\.", "cls_head.consensus."),
    (r"^model\.new_fc\.", "cls_head.fc_cls."),
)
OF_SLOWFAST = (
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
NAMES = {
    "avion": OF_TRANSFORMERS,
    "lavila": OF_TRANSFORMERS,
    "c1": OF_RESNETS,
    "slowfast": OF_SLOWFAST,
}
OF_TEXTS = re.compile(
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
        checkpoint: Its file.
        out: The model file to write.
        train: EPIC_100_train.csv. Its segments are counted for the prior.
        val: EPIC_100_validation.csv. Its pairs are classes too of a head over actions.
        lists: Class lists with the names of the classes (`official_lists.CLASS_LISTS`).
        model: What is known of it; None: `published()[name]`.

    Returns:
        What was done, in lines for people.

    Raises:
        EpicError: The file is another one, or the CSVs are.
    """
    model = model or published()[name]
    tensors = _read(name, checkpoint, model)
    counts, val_counts = (_pairs_in(path) for path in (train, val))
    pairs = sorted(counts)
    if "pair" in output_sizes(model.heads, 1, VERBS, NOUNS):
        pairs = sorted({*counts, *val_counts})
        if len(pairs) != (classes := next(iter(model.classes.values()))):
            raise EpicError(
                f"{train}, {val}: {len(pairs):,} pairs of verb and noun, but {name} has "
                f"{classes:,} classes; expected the official files of EPIC-KITCHENS-100 "
                "(`annotations: train:` and `val:`), whole"
            )
    spec = network(model)
    sizes = output_sizes(model.heads, len(pairs), VERBS, NOUNS)
    spec["cls_head"]["num_classes"] = sum(sizes.values())
    state = _renamed(tensors, model) | _head(tensors, model, pairs)
    _require(name, checkpoint, model, build(spec), state)
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
    config = config_of(spec, pipeline(model))
    if model.rule == "avion":
        config["optim_wrapper"] = {"dtype": "float16"}  # Its test computes in float16 too.
    counted = [(verb, noun, counts[verb, noun]) for verb, noun in pairs]
    names = read_class_names([train, val], lists).by_task
    save_model(
        TrainedModel(state, counted, VERBS, NOUNS, config, trained_on, model.heads, names), out
    )
    return [
        f"{out}: {model.title} of {model.code}, {len(state)} tensors, {len(pairs):,} pairs",
        f"reported on val: {figures_of(model)}; licence of its code: {model.licence}",
        f"next: epic100 test {out}",
    ]


def adopt_encoder(
    name: str,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    frames: int = 16,
    model: Published | None = None,
) -> list[str]:
    """Write the encoder alone, of a checkpoint with or without a classifier, as start weights.

    Args:
        name: A key of `published()` that is a transformer.
        checkpoint: AVION's or LaViLa's checkpoint, learned on Ego4D or on EPIC-KITCHENS.
        out: The file to write, for `train: load_from:`.
        frames: Frames of a clip. Embeddings of another number are interpolated over time.
        model: What is known of it; None: `published()[name]`.

    Returns:
        What was done, in lines for people.

    Raises:
        EpicError: The file has not exactly this encoder.
    """
    model = model or published()[name]
    if model.rule not in ("avion", "lavila"):
        raise EpicError(
            f"{name}: only AVION and LaViLa publish encoders without a classifier; adopt it "
            "without --encoder, and name the model file in `train: load_from:`"
        )
    tensors, _ = read_checkpoint(checkpoint)
    left_out = Counter(match[1] for match in map(OF_TEXTS.match, tensors) if match) + Counter(
        key.partition(".")[0] for key in tensors if key.startswith("fc_cls")
    )
    encoder_tensors = {
        key: value
        for key, value in tensors.items()
        if not OF_TEXTS.match(key) and not key.startswith("fc_cls")
    }
    state = _renamed(encoder_tensors, model)
    embedding = state.get("backbone.time_embed", torch.empty(1, 0, 0))
    frames_there = embedding.shape[1] if embedding.ndim == 3 else 0
    if frames_there not in (0, frames):
        channels_first = embedding.float().transpose(1, 2)
        state["backbone.time_embed"] = F.interpolate(channels_first, size=frames, mode="linear").mT
    encoder = build({**network(model)["backbone"], "num_frames": frames})
    _require(name, checkpoint, model, nn.ModuleDict({"backbone": encoder}), state)
    write_tensors({"state_dict": {key: value.contiguous() for key, value in state.items()}}, out)
    texts = ", ".join(f"{prefix} ({count})" for prefix, count in left_out.items())
    return [
        f"{out}: {len(state)} tensors of the encoder of {model.title}",
        f"embeddings of the time: {frames_there} frames there, {frames} here",
        f"left out: {texts or 'nothing'}",
    ]


def table() -> list[str]:
    """Return the published models, a paragraph each, for people."""
    lines = []
    for name, model in published().items():
        md5 = f"md5 {model.md5}..." if model.md5 else "no md5 published"
        lines += [
            f"{name}  {model.title}: {figures_of(model)} (top-1 on val: verb, noun, action)",
            f"    {model.url}",
            f"    {md5}; weights of {model.megabytes:,} MB; {model.code}, {model.licence}",
            f"    val: a card of 16 GB, an estimated {model.minutes} min of an A100",
        ]
    return lines


def figures_of(model: Published) -> str:
    """The reported figures as text, "-" where there is none."""
    figures = (model.verb, model.noun, model.action)
    return " / ".join("-" if value is None else f"{value:g}" for value in figures)


def actions(pairs: Sequence[Pair]) -> list[Pair]:
    """The order of AVION's and LaViLa's classes: `verb:noun`, sorted as texts."""
    return sorted(pairs, key=lambda pair: f"{pair[0]}:{pair[1]}")


def network(model: Published) -> dict[str, Any]:
    """The `model` of its recipe, with its changes, and without what only a training needs."""
    recipe = Config.fromfile(ROOT / f"config/zoo/{model.recipe}.py", format_python_code=False)
    settings = Config({"model": recipe.model.to_dict()})
    settings.merge_from_dict({f"model.{key}": value for key, value in model.changes.items()})
    spec = settings.model.to_dict()
    spec["data_preprocessor"].pop("blending", None)
    spec["cls_head"] = {
        key: value for key, value in spec["cls_head"]["head"].items() if value is not None
    }
    return spec


def pipeline(model: Published) -> list[dict[str, Any]]:
    """The steps of its test."""
    short_side, crop = model.sides
    keys = ("img_shape", "narration_id", "verb", "noun", "num_clips")
    return [
        {"type": "OpenSegment", "decoder": "pyav"},
        {"type": "PublishedFrames", **model.sampling},
        {"type": "DecodeSegment", "short_side": short_side, "crop": "centre", "size": crop},
        {"type": "FormatShape", "input_format": "NCHW" if model.rule == "c1" else "NCTHW"},
        {"type": "PackActionInputs", "meta_keys": keys},
    ]


def _read(name: str, path: str | os.PathLike, model: Published) -> dict[str, Tensor]:
    """Read the tensors of a file that has the classifier of this model."""
    meant = f"expected the file of {name}, {model.url}"
    if not os.path.isfile(path):
        raise EpicError(f"{path}: no such file; {meant}")
    md5 = digest(path, "md5").value
    owner = next((o for o, m in published().items() if m.md5 and md5.startswith(m.md5)), name)
    if owner != name:
        raise EpicError(f"{path}: this is the file of {owner}, by its md5 {md5}; {meant}")
    try:
        tensors, _ = read_checkpoint(path)
    except BrokenFile as error:
        raise BrokenFile(f"{str(error).partition('; ')[0]}; {meant}") from error
    for layer, classes in model.classes.items():
        weight = tensors.get(f"{layer}.weight")
        if weight is None:
            texts = any(map(OF_TEXTS.match, tensors)) * ", but parts of a model of videos and texts"
            raise EpicError(
                f"{path}: no classifier {layer!r} among its {len(tensors)} tensors{texts}; {meant}"
            )
        if len(weight) != classes:
            raise EpicError(
                f"{path}: its classifier has {len(weight):,} classes, not {classes:,}; {meant}"
            )
    return tensors


def _pairs_in(path: str | os.PathLike) -> Counter[Pair]:
    """Count the pairs of an official CSV."""
    # `index` gives the id that a text is, and raises ValueError for a text that is none.
    columns = {
        "verb_class": [*map(str, range(VERBS))].index,
        "noun_class": [*map(str, range(NOUNS))].index,
    }
    expected = f"an official EPIC-KITCHENS-100 CSV with the columns {', '.join(columns)}"
    rows = read_own_table(path, columns, about=expected, delimiter=",")
    return Counter((row["verb_class"], row["noun_class"]) for row in rows)


def _renamed(tensors: Mapping[str, Tensor], model: Published) -> dict[str, Tensor]:
    """The tensors but those of the classifier, by the names and in the shapes of our network."""
    state = {}
    for name, value in tensors.items():
        if name.rpartition(".")[0] in model.classes and not name.startswith("model.consensus."):
            continue
        for pattern, replacement in NAMES[model.rule]:
            name = re.sub(pattern, replacement, name)
        if name.endswith(".qkv.bias"):
            query, _, values = value.chunk(3)
            state[name.replace("qkv.bias", "q_bias")] = query.contiguous()
            state[name.replace("qkv.bias", "v_bias")] = values.contiguous()
            continue
        if name == "backbone.patch_embed.projection.weight":
            # AVION's fast way to embed patches multiplies matrices, so its weights may have no axes
            # for the sides of a patch.
            side = math.isqrt(value[0].numel() // 3)
            if value[0].numel() == 3 * side**2:
                value = value.reshape(-1, 3, 1, side, side)
        elif name in ("backbone.cls_token", "backbone.pos_embed", "backbone.time_embed"):
            value = value.reshape(1, -1, value.shape[-1]) if value.ndim else value
        state[name] = value
    return state


def _head(
    tensors: Mapping[str, Tensor], model: Published, pairs: Sequence[Pair]
) -> dict[str, Tensor]:
    """The classifier as one layer, its outputs in our order."""
    if model.rule == "c1" and "model.new_fc" not in model.classes:
        return {}  # TRN has many classifiers. Each has verbs before nouns, as here.
    state = {}
    for tensor_name in ("weight", "bias"):
        layer_tensors = [tensors[f"{layer}.{tensor_name}"] for layer in model.classes]
        if model.heads != "verb_noun":
            row_of_pair = {pair: row for row, pair in enumerate(actions(pairs))}
            layer_tensors[0] = layer_tensors[0][[row_of_pair[pair] for pair in pairs]]
        state[f"cls_head.fc_cls.{tensor_name}"] = torch.cat(layer_tensors)
    # PySlowFast has the features of the slow pathway first, MMAction2 those of the fast one.
    if model.rule == "slowfast":
        fast = state["cls_head.fc_cls.weight"].shape[1] // 9
        state["cls_head.fc_cls.weight"] = state["cls_head.fc_cls.weight"].roll(fast, 1)
    return state


def _require(
    name: str,
    path: str | os.PathLike,
    model: Published,
    built: nn.Module,
    state: Mapping[str, Tensor],
) -> None:
    """Raise if a tensor of the network is missing, left over or of another shape."""
    network_tensors = built.state_dict()
    faults = [
        *(f"{key} is missing" for key in network_tensors if key not in state),
        *(f"{key} is left over" for key in state if key not in network_tensors),
        *(
            f"{key} is {list(state[key].shape)}, not {list(value.shape)}"
            for key, value in network_tensors.items()
            if key in state and state[key].shape != value.shape
        ),
    ]
    if faults:
        more = f" and {len(faults) - 3} more" * (len(faults) > 3)
        raise EpicError(
            f"{path}: not the network of {name}: {', '.join(faults[:3])}{more}; expected the file "
            f"of {model.title}, {model.url}"
        )
