"""Start weights: read them safely, by MMAction2's names, and compare them with the model.

PySlowFast and pytorchvideo publish `X3D_S.pyth` with the same tensors. MMAction2's `fc1` is their
1x1x1 convolution without the last three axes. In pytorchvideo, the spatial convolution of the stem
is called `conv_t`, and the first block has no BatchNorm on the shortcut. MMAction2's BatchNorm
there keeps its initial values, which leave the result unchanged.
"""

import os
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from epic100.base.errors import EpicError
from epic100.base.untrusted_tensors import named_tensors, read_untrusted, require_finite

# These modules are outside the residual blocks. Names with `blocks` are pytorchvideo's, and the
# others are PySlowFast's.
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
# The names of modules in a residual block begin like this, and end with a key of `IN_BLOCK`.
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
    """Read the tensors of a checkpoint by MMAction2's names.

    Checkpoints of PySlowFast and pytorchvideo are also accepted. Names that are not theirs stay.

    Raises:
        EpicError: The file is not a checkpoint, or would run code when opened (`weights_only=True`
            rejects it).
    """
    expected = "expected a checkpoint of tensors and plain Python, as torch.save writes them"
    content = read_untrusted(
        path, "weights that can be loaded safely", expected, weights_alone=True
    )
    tensors = {_mmaction_name(name): value for name, value in named_tensors(content).items()}
    if not tensors:
        raise EpicError(f"{path}: holds no tensors by name; {expected}")
    # PySlowFast's is the weight of a convolution, [out, in, 1, 1, 1].
    first_layer = tensors.get("cls_head.fc1.weight")
    if first_layer is not None and first_layer.ndim == 5:
        tensors["cls_head.fc1.weight"] = first_layer.flatten(1)
    return tensors


def _mmaction_name(name: str) -> str:
    """Return MMAction2's name of a tensor; an unknown name is returned unchanged.

    For example, PySlowFast's `s2.pathway0_res0.branch1.weight` and pytorchvideo's
    `blocks.1.res_blocks.0.branch1_conv.weight` give `backbone.layer1.0.downsample.conv.weight`.
    """
    # The last part names a tensor of the module, such as `weight` or `running_mean`.
    module, _, tensor_name = name.rpartition(".")
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{tensor_name}"
    match = re.match(BLOCK, module)
    if not match:
        return name
    place_in_block = module[match.end() :]
    if place_in_block not in IN_BLOCK:
        return name
    # PySlowFast's stage s2 is layer 1, since its stage s1 is the stem.
    layer = match["layer"] or int(match["stage"]) - 1
    submodule = IN_BLOCK[place_in_block]
    return f"backbone.layer{layer}.{match['block']}.{submodule}.{tensor_name}"


def fit_weights(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], model: torch.nn.Module
) -> str:
    """Check that start weights are of a model's network, and describe which tensors fit it.

    Args:
        path: The file of the weights, for errors.
        tensors: The tensors by name, from `read_weights(path)`.
        model: The model.

    Returns:
        A line for the log: how many tensors fit, which ones have another shape, with both shapes,
        and which ones are not in the file.

    Raises:
        EpicError: The file provides less than half of the model's tensors, so it belongs to another
            model. MMEngine would load almost nothing from it and train on. Or a tensor that the
            model has is NaN or infinite.
    """
    model_tensors = model.state_dict()
    of_other_shape, absent = [], []
    for name, value in model_tensors.items():
        if name not in tensors:
            absent.append(name)
        elif (there := tensors[name].shape) != value.shape:
            of_other_shape.append(f"{name} ({_text(there)} there, {_text(value.shape)} here)")
    fitting = len(model_tensors) - len(of_other_shape) - len(absent)
    if fitting < len(model_tensors) / 2:
        raise EpicError(
            f"{path}: weights of another model: {fitting} of its {len(tensors)} tensors fit the "
            f"{len(model_tensors)} of {type(model).__name__} (the file's first: "
            f"{next(iter(tensors))}); expected MMAction2's checkpoint of the same backbone"
        )
    require_finite(path, {name: tensors[name] for name in model_tensors if name in tensors})
    text = f"{fitting} of {len(model_tensors)} tensors"
    if of_other_shape:
        text += f"; trained anew: {', '.join(of_other_shape)}"
    if absent:
        text += f"; not in the file: {', '.join(absent[:3])}"
    return text + " ..." if len(absent) > 3 else text


def _text(shape: torch.Size) -> str:
    """Write the shape of a tensor as text: `24x3x1x3x3`."""
    return "x".join(map(str, shape)) or "scalar"
