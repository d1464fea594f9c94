"""Renames X3D weights of PySlowFast and pytorchvideo to MMAction2's names.

Both projects publish `X3D_S.pyth` with the same tensors. MMAction2's `fc1` is their 1x1x1
convolution without the last three axes. pytorchvideo's stem calls the spatial convolution `conv_t`.
Its first block has no BatchNorm on the shortcut. MMAction2's BatchNorm there keeps its initial
values, which leave the result unchanged.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# The upper names are PySlowFast's, those with `blocks` are pytorchvideo's.
_OUTSIDE = {
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
_BLOCK = r"(?:s(?P<stage>\d)\.pathway0_res|blocks\.(?P<layer>[1-4])\.res_blocks\.)(?P<block>\d+)\."
_IN_BLOCK = {
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
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{value}"
    match = re.match(_BLOCK, module)
    if not match or module[match.end() :] not in _IN_BLOCK:
        return name
    layer = match["layer"] or int(match["stage"]) - 1
    submodule = _IN_BLOCK[module[match.end() :]]
    return f"backbone.layer{layer}.{match['block']}.{submodule}.{value}"
