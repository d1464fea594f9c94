"""`epic100 convert`: the video encoder of a checkpoint of AVION or LaViLa, as start weights.

Their checkpoints hold pickled arguments beside the weights. Only the weights are read, as data
(`foreign_tensors`). The text tower, projections and heads are left out and listed. Whatever is left
must be the encoder, the whole encoder and nothing else. Written from the names in their code
(zhaoyue-zephyrus/AVION at 31b00b6, facebookresearch/LaViLa at 8002b5a), with none of it.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

import epic100.model.encoders  # noqa: F401  (registers the encoders)
from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import named_tensors, read_foreign
from epic100.base.torch_file import write_tensors

KINDS = {"avion": "AvionVisionTransformer", "lavila": "LavilaVisionTransformer"}
PLACES = {"avion": "positional_embedding", "lavila": "pos_embed"}
LEFT_OUT = re.compile(
    r"(visual\.(?:image_projection|head)|textual|transformer|token_embedding|positional_embedding|"
    r"ln_final|image_projection|text_projection|logit_scale|fc_cls\w*)(?:\.|$)"
)
# What a name begins with, or a part of it, there and here. AVION has two sets of names for a block:
# torch's, and those of the package flash_attn.
NAMES = (
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
)


def convert_encoder(
    kind: str, checkpoint: str | os.PathLike, out: str | os.PathLike, frames: int = 16
) -> list[str]:
    """Write the encoder of a checkpoint as start weights, for `train: load_from:`.

    Args:
        kind: A key of `KINDS`.
        checkpoint: The checkpoint.
        out: The file to write.
        frames: Frames of a clip. Embeddings of another number are interpolated over time.

    Returns:
        What was done, in lines for people.

    Raises:
        EpicError: The file cannot be read without running it, or has not exactly one encoder.
    """
    expected = f"expected a checkpoint of {kind.upper()}'s video encoder"
    content = read_foreign(checkpoint, "a checkpoint", expected, weights_alone=True)
    found = named_tensors(content)
    own = {name: value for name, value in found.items() if not LEFT_OUT.match(name)}
    left_out = Counter(match[1] for match in map(LEFT_OUT.match, found) if match)
    if f"visual.{PLACES[kind]}" not in own:
        raise EpicError(
            f"{checkpoint}: no visual.{PLACES[kind]} among its {len(found)} tensors, so no encoder "
            f"of videos; {expected}"
        )
    try:
        state = _renamed(own)
        there = state["time_embed"].shape[1]
        state["time_embed"] = _over_time(state["time_embed"], frames)
        wanted, about = _wanted(kind, state)
    except (RuntimeError, ValueError, IndexError, KeyError, ZeroDivisionError) as error:
        raise EpicError(
            f"{checkpoint}: the sizes of its tensors are no encoder's ({error}); {expected}"
        ) from error
    _require_all(checkpoint, state, wanted, expected)
    tensors = {f"backbone.{name}": value.contiguous() for name, value in state.items()}
    write_tensors({"state_dict": tensors, "meta": {"from": f"{kind}, {about}"}}, out)
    return [
        f"{out}: {len(tensors)} tensors of {kind.upper()}'s video encoder: {about}",
        f"embeddings of the time: {there} frames there, {frames} here",
        "left out: "
        + (", ".join(f"{n} ({number})" for n, number in left_out.items()) or "nothing"),
    ]


def _renamed(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names of our encoder, in its shapes."""
    state = {}
    for name, value in own.items():
        for there, here in NAMES:
            name = re.sub(there, here, name.removeprefix("visual."))
        if name.endswith(".qkv.bias"):
            query, _, values = value.chunk(3)
            state[name.replace("qkv.bias", "q_bias")] = query
            state[name.replace("qkv.bias", "v_bias")] = values
            continue
        if name == "patch_embed.projection.weight":  # AVION's fast way is a product of matrices
            side = round((value[0].numel() / 3) ** 0.5)
            value = value.reshape(-1, 3, 1, side, side)
        elif name in ("cls_token", "pos_embed", "time_embed"):
            value = value.reshape(1, -1, value.shape[-1])
        state[name] = value
    return state


def _over_time(embeddings: Tensor, frames: int) -> Tensor:
    """Embeddings [1, T, C] interpolated to another number of frames."""
    if embeddings.shape[1] == frames:
        return embeddings
    moved = embeddings.float().transpose(1, 2)
    return F.interpolate(moved, size=frames, mode="linear").transpose(1, 2)


def _wanted(kind: str, state: Mapping[str, Tensor]) -> tuple[dict[str, torch.Size], str]:
    """The shape of each tensor of an encoder of the sizes that some of these have."""
    _, places, width = state["pos_embed"].shape
    kernel, qkv = state["patch_embed.projection.weight"], state["blocks.0.attn.qkv.weight"]
    if len(kernel) != width or qkv.shape != (3 * width, width):  # what is built is in the file
        raise ValueError(f"{width} channels, {list(kernel.shape)}, {list(qkv.shape)}")
    patch, side = kernel.shape[-1], round((places - 1) ** 0.5)
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    built = MODELS.build({
        "type": KINDS[kind], "num_frames": state["time_embed"].shape[1], "img_size": side * patch,
        "patch_size": patch, "embed_dims": width, "depth": 1, "num_heads": 1,
    })  # fmt: skip
    wanted = {
        name.replace("blocks.0.", f"blocks.{block}."): value.shape
        for name, value in built.state_dict().items()
        for block in (blocks if name.startswith("blocks.") else "0")
    }
    about = f"{len(blocks)} layers of {width} channels, patches of {patch} in {side * patch} pixels"
    return wanted, about


def _require_all(
    checkpoint: str | os.PathLike,
    state: Mapping[str, Tensor],
    wanted: Mapping[str, torch.Size],
    expected: str,
) -> None:
    """Refuse an encoder of which a tensor is missing, too many or of another shape."""
    faults = [
        *(f"no {name}" for name in wanted if name not in state),
        *(f"{name} besides" for name in state if name not in wanted),
        *(
            f"{name} is {list(state[name].shape)}, not {list(shape)}"
            for name, shape in wanted.items()
            if name in state and state[name].shape != shape
        ),
    ]
    if faults:
        more = f" and {len(faults) - 3} more" * (len(faults) > 3)
        raise EpicError(f"{checkpoint}: {', '.join(faults[:3])}{more}; {expected}")
