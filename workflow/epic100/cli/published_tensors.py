"""Turn the tensors of a published checkpoint into those of the network in our recipe.

The checkpoints hold pickled arguments next to the weights. Only the weights are read, as data
(`untrusted_tensors`). They get the names and shapes that they have in the recipe of config/zoo;
each tensor of the network must be there, and none may be left over. The names of the tensors are
from the code that config/published.yaml lists; none of that code is here.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from epic100.base.disk import digest
from epic100.base.errors import BrokenFile, EpicError, some
from epic100.base.untrusted_tensors import require_finite
from epic100.cli.lab_checkpoint import Pair, read_checkpoint
from epic100.model.published import Published, published

COLOURS = 3
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
_TEXT = (
    r"visual\.(?:image_projection|head)|textual|transformer|token_embedding|positional_embedding|"
    r"ln_final|image_projection|text_projection|logit_scale"
)
TEXT_PART = re.compile(rf"({_TEXT})(?:\.|$)")
# The classifiers, such as `fc_cls`, are not of the encoder either.
BESIDE_ENCODER = re.compile(rf"({_TEXT}|fc_cls\w*)(?:\.|$)")


def read_classifier_file(name: str, path: str | os.PathLike, model: Published) -> dict[str, Tensor]:
    """Read a published checkpoint, and raise if it does not have the classifier of this model."""
    expected = f"expected the file of {name}, {model.url}"
    if not os.path.isfile(path):
        raise EpicError(f"{path}: no such file; {expected}")
    md5 = digest(path, "md5").value
    # The list of published models has only the first digits of an MD5, and not of every file.
    of_md5 = [key for key, entry in published().items() if entry.md5 and md5.startswith(entry.md5)]
    if of_md5 and name not in of_md5:
        raise EpicError(f"{path}: this is the file of {of_md5[0]}, by its md5 {md5}; {expected}")
    try:
        tensors, _ = read_checkpoint(path)
    except BrokenFile as error:
        # The error's advice, after the semicolon, is replaced by the published address.
        raise BrokenFile(f"{str(error).partition('; ')[0]}; {expected}") from error
    for layer, classes in model.classes.items():
        weight = tensors.get(f"{layer}.weight")
        if weight is None:
            has_texts = any(map(TEXT_PART.match, tensors))
            hint = ", but parts of a model of videos and texts" if has_texts else ""
            raise EpicError(
                f"{path}: no classifier {layer!r} among its {len(tensors)} tensors{hint}; "
                f"{expected}"
            )
        if len(weight) != classes:
            raise EpicError(
                f"{path}: its classifier has {len(weight):,} classes, not {classes:,}; {expected}"
            )
    return tensors


def with_our_names(tensors: Mapping[str, Tensor], model: Published) -> dict[str, Tensor]:
    """Rename and reshape all tensors but the classifier's as they are in our network."""
    state = {}
    for name, value in tensors.items():
        # `joined_head` adds the classifier. TRN's many ones keep their names below `consensus`.
        if name.rpartition(".")[0] in model.classes and not name.startswith("model.consensus."):
            continue
        for pattern, replacement in NAMES[model.rule]:
            name = re.sub(pattern, replacement, name)
        # The bias of the keys changes nothing (`model.networks`), so the network has none.
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


def joined_head(
    tensors: Mapping[str, Tensor], model: Published, pairs: Sequence[Pair]
) -> dict[str, Tensor]:
    """Join the published classifiers to one layer, with the outputs in our order.

    Args:
        tensors: The tensors of the file by their published names.
        model: The model that the file is of. Its `classes` name the classifiers.
        pairs: The pairs in our order. Published actions are in the order of `sort_as_actions`.

    Returns:
        Weight and bias of our layer. Nothing for TRN: `with_our_names` keeps its many classifiers,
        of which each has verbs before nouns, as ours.
    """
    is_trn = model.rule == "c1" and "model.new_fc" not in model.classes
    if is_trn:
        return {}
    weights = [tensors[f"{layer}.weight"] for layer in model.classes]
    biases = [tensors[f"{layer}.bias"] for layer in model.classes]
    if model.heads != "verb_noun":
        # The first classifier is the one over actions.
        row_of_pair = {pair: row for row, pair in enumerate(sort_as_actions(pairs))}
        order = [row_of_pair[pair] for pair in pairs]
        weights[0], biases[0] = weights[0][order], biases[0][order]
    weight = torch.cat(weights)
    # PySlowFast has the features of the slow pathway first, MMAction2 the features of the fast one.
    # The slow pathway has eight times as many channels, so the fast one has a ninth of the sum.
    if model.rule == "slowfast":
        weight = weight.roll(weight.shape[1] // 9, 1)
    return {"cls_head.fc_cls.weight": weight, "cls_head.fc_cls.bias": torch.cat(biases)}


def sort_as_actions(pairs: Sequence[Pair]) -> list[Pair]:
    """Sort pairs as AVION and LaViLa order their classes: by the text `verb:noun`.

    As texts, `10:2` comes before `2:1`.
    """
    return sorted(pairs, key=lambda pair: f"{pair[0]}:{pair[1]}")


def require_same_tensors(
    name: str,
    path: str | os.PathLike,
    model: Published,
    network: nn.Module,
    state: dict[str, Tensor],
) -> None:
    """Raise if a tensor of the network is missing, left over, of another shape or not finite."""
    expected = network.state_dict()
    defects = []
    for key in expected | state:
        if key not in state:
            defects.append(f"{key} is missing")
        elif key not in expected:
            defects.append(f"{key} is left over")
        elif state[key].shape != expected[key].shape:
            defects.append(f"{key} is {list(state[key].shape)}, not {list(expected[key].shape)}")
    if defects:
        raise EpicError(
            f"{path}: not the network of {name}: {some(defects)}; expected "
            f"the file of {model.title}, {model.url}"
        )
    require_finite(path, state)
