"""Start weights: opened safely, by MMAction2's names, and compared with the model before training.

PySlowFast and pytorchvideo publish `X3D_S.pyth` with the same tensors. MMAction2's `fc1` is their
1x1x1 convolution without the last three axes. pytorchvideo's stem calls the spatial convolution
`conv_t`. Its first block has no BatchNorm on the shortcut. MMAction2's BatchNorm there keeps its
initial values, which leave the result unchanged.
"""

import os
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import named_tensors, read_foreign

# The upper names are PySlowFast's, those with `blocks` are pytorchvideo's.
OUTSIDE = {
    "s1.pathway0_stem.conv_xy": "backbone.conv1_s.conv",
    "s1.pathway0_stem.conv": "backbone.conv1_t.conv",
    "s1.pathway0_stem.bn": "backbone.conv1_t.bn",
    "head.conv_5": "backbone.conv5.conv",
    "head.conv_5_bn": "backbone.conv5.bn",
    "head.lin_5": "cls_head.fc1",
    "head.projection": "cls_head.fc2",
    "blocks.0.conv.conv_t": "backbone.conv1_s.conv",
    "blocks.0.conv.conv_xy": "backbone.conv1_t.conv",
    "blocks.0.norm": "backbone.conv1_t.bn",
    "blocks.5.pool.pre_conv": "backbone.conv5.conv",
    "blocks.5.pool.pre_norm": "backbone.conv5.bn",
    "blocks.5.pool.post_conv": "cls_head.fc1",
    "blocks.5.proj": "cls_head.fc2",
}
BLOCK = r"(?:s(?P<stage>\d)\.pathway0_res|blocks\.(?P<layer>[1-4])\.res_blocks\.)(?P<block>\d+)\."
IN_BLOCK = {
    "branch1": "downsample.conv",
    "branch1_bn": "downsample.bn",
    "branch2.a": "conv1.conv",
    "branch2.a_bn": "conv1.bn",
    "branch2.b": "conv2.conv",
    "branch2.b_bn": "conv2.bn",
    "branch2.c": "conv3.conv",
    "branch2.c_bn": "conv3.bn",
    "branch2.se.fc1": "se_module.fc1",
    "branch2.se.fc2": "se_module.fc2",
    "branch1_conv": "downsample.conv",
    "branch1_norm": "downsample.bn",
    "branch2.conv_a": "conv1.conv",
    "branch2.norm_a": "conv1.bn",
    "branch2.conv_b": "conv2.conv",
    "branch2.norm_b": "conv2.bn",
    "branch2.norm_b.0": "conv2.bn",
    "branch2.norm_b.1.block.0": "se_module.fc1",
    "branch2.norm_b.1.block.2": "se_module.fc2",
    "branch2.conv_c": "conv3.conv",
    "branch2.norm_c": "conv3.bn",
}


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by MMAction2's names.

    Checkpoints of PySlowFast and pytorchvideo are also accepted.

    Raises:
        EpicError: The file is not a checkpoint, or would run code when opened (`weights_only=True`
            refuses it).
    """
    expected = "expected a checkpoint of tensors and plain Python, as torch.save writes them"
    content = read_foreign(path, "weights that can be loaded safely", expected, weights_alone=True)
    tensors = tensors_of(content)
    if not tensors:
        raise EpicError(f"{path}: holds no tensors by name; {expected}")
    return tensors


def tensors_of(content: object) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint, by MMAction2's names; empty if there are none."""
    return mmaction_names(named_tensors(content))


def mmaction_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename PySlowFast's and pytorchvideo's weights to MMAction2's names.

    Args:
        state: Tensors by name. Other names, such as MMAction2's own, are not changed.

    Returns:
        The same tensors; a renamed `fc1.weight` gets the shape [out, in].
    """
    renamed = {}
    for name, tensor in state.items():
        new_name = _renamed(name)
        is_foreign_fc1 = new_name == "cls_head.fc1.weight" and tensor.ndim == 5
        renamed[new_name] = tensor.flatten(1) if is_foreign_fc1 else tensor
    return renamed


def _renamed(name: str) -> str:
    # The value is `weight`, `bias`, `running_mean` or another one.
    module, _, value = name.rpartition(".")
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{value}"
    match = re.match(BLOCK, module)
    if not match or module[match.end() :] not in IN_BLOCK:
        return name
    layer = match["layer"] or int(match["stage"]) - 1
    submodule = IN_BLOCK[module[match.end() :]]
    return f"backbone.layer{layer}.{match['block']}.{submodule}.{value}"


def fit_weights(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], model: torch.nn.Module
) -> str:
    """Compare `tensors`, which `read_weights(path)` gave, with `model` before it is loaded.

    Returns:
        One line: how many tensors fit, those of another shape with both, and those that the file
        has not.

    Raises:
        EpicError: The file provides less than half of the model's tensors, so it belongs to another
            model. MMEngine would load almost nothing from it and train on.
    """
    model_tensors = model.state_dict()
    anew = [
        f"{name} ({_size(tensors[name])} there, {_size(value)} here)"
        for name, value in model_tensors.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    absent = [name for name in model_tensors if name not in tensors]
    taken = len(model_tensors) - len(anew) - len(absent)
    if taken * 2 < len(model_tensors):
        raise EpicError(
            f"{path}: weights of another model: {taken} of its {len(tensors)} tensors fit the "
            f"{len(model_tensors)} of {type(model).__name__} (the file's first: "
            f"{next(iter(tensors))}); expected MMAction2's checkpoint of the same backbone"
        )
    text = f"{taken} of {len(model_tensors)} tensors"
    if anew:
        text += f"; trained anew: {', '.join(anew)}"
    if absent:
        text += f"; not in the file: {', '.join(absent[:3])}{' ...' * (len(absent) > 3)}"
    return text


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
