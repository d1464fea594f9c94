"""Renames X3D weights of PySlowFast and pytorchvideo to MMAction2's names.

Both projects publish `X3D_S.pyth` with the same tensors. MMAction2's `fc1` is their 1x1x1
convolution without the last three axes. pytorchvideo's stem calls the spatial convolution `conv_t`.
Its first block has no BatchNorm on the shortcut. MMAction2's BatchNorm there keeps its initial
values, which leave the result unchanged.
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

Rename = Callable[[re.Match], str]
_STAGE_UNIT = {"a": "conv1.conv", "b": "conv2.conv", "c": "conv3.conv"}
_SE_LAYER = {"0": "fc1", "2": "fc2"}

# Each pattern matches a whole name. The group `rest` is the part after the module: weight, bias,
# running_mean ...
_PYSLOWFAST: list[tuple[str, Rename]] = [
    (r"s1\.pathway0_stem\.conv_xy\.(?P<rest>.+)", lambda m: f"backbone.conv1_s.conv.{m['rest']}"),
    (r"s1\.pathway0_stem\.conv\.(?P<rest>.+)", lambda m: f"backbone.conv1_t.conv.{m['rest']}"),
    (r"s1\.pathway0_stem\.bn\.(?P<rest>.+)", lambda m: f"backbone.conv1_t.bn.{m['rest']}"),
    (
        r"s(?P<stage>\d)\.pathway0_res(?P<block>\d+)\.branch1(?P<bn>_bn)?\.(?P<rest>.+)",
        lambda m: _in_block(m, 1, f"downsample.{'bn' if m['bn'] else 'conv'}"),
    ),
    (
        r"s(?P<stage>\d)\.pathway0_res(?P<block>\d+)\.branch2\.se\.(?P<layer>fc[12])\.(?P<rest>.+)",
        lambda m: _in_block(m, 1, f"se_module.{m['layer']}"),
    ),
    (
        r"s(?P<stage>\d)\.pathway0_res(?P<block>\d+)\.branch2\.(?P<unit>[abc])(?P<bn>_bn)?\.(?P<rest>.+)",
        lambda m: _in_block(m, 1, _unit(m["unit"], bool(m["bn"]))),
    ),
    (r"head\.conv_5\.(?P<rest>.+)", lambda m: f"backbone.conv5.conv.{m['rest']}"),
    (r"head\.conv_5_bn\.(?P<rest>.+)", lambda m: f"backbone.conv5.bn.{m['rest']}"),
    (r"head\.lin_5\.(?P<rest>.+)", lambda m: f"cls_head.fc1.{m['rest']}"),
    (r"head\.projection\.(?P<rest>.+)", lambda m: f"cls_head.fc2.{m['rest']}"),
]
_BLOCK = r"blocks\.(?P<stage>[1-4])\.res_blocks\.(?P<block>\d+)\."
_PYTORCHVIDEO: list[tuple[str, Rename]] = [
    (r"blocks\.0\.conv\.conv_t\.(?P<rest>.+)", lambda m: f"backbone.conv1_s.conv.{m['rest']}"),
    (r"blocks\.0\.conv\.conv_xy\.(?P<rest>.+)", lambda m: f"backbone.conv1_t.conv.{m['rest']}"),
    (r"blocks\.0\.norm\.(?P<rest>.+)", lambda m: f"backbone.conv1_t.bn.{m['rest']}"),
    (_BLOCK + r"branch1_conv\.(?P<rest>.+)", lambda m: _in_block(m, 0, "downsample.conv")),
    (_BLOCK + r"branch1_norm\.(?P<rest>.+)", lambda m: _in_block(m, 0, "downsample.bn")),
    (
        _BLOCK + r"branch2\.norm_b\.1\.block\.(?P<layer>[02])\.(?P<rest>.+)",
        lambda m: _in_block(m, 0, f"se_module.{_SE_LAYER[m['layer']]}"),
    ),
    (
        _BLOCK + r"branch2\.conv_(?P<unit>[abc])\.(?P<rest>.+)",
        lambda m: _in_block(m, 0, _unit(m["unit"], bn=False)),
    ),
    (
        _BLOCK + r"branch2\.norm_(?P<unit>[abc])\.(0\.)?(?P<rest>.+)",
        lambda m: _in_block(m, 0, _unit(m["unit"], bn=True)),
    ),
    (r"blocks\.5\.pool\.pre_conv\.(?P<rest>.+)", lambda m: f"backbone.conv5.conv.{m['rest']}"),
    (r"blocks\.5\.pool\.pre_norm\.(?P<rest>.+)", lambda m: f"backbone.conv5.bn.{m['rest']}"),
    (r"blocks\.5\.pool\.post_conv\.(?P<rest>.+)", lambda m: f"cls_head.fc1.{m['rest']}"),
    (r"blocks\.5\.proj\.(?P<rest>.+)", lambda m: f"cls_head.fc2.{m['rest']}"),
]


def mmaction_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename PySlowFast's and pytorchvideo's weights to MMAction2's names.

    Args:
        state: Tensors by name. Other names, such as MMAction2's own, are not changed.

    Returns:
        The same tensors; a renamed `fc1.weight` gets the shape [out, in].
    """
    found = {}
    for name, tensor in state.items():
        new = _renamed(name)
        foreign_fc1 = new == "cls_head.fc1.weight" and tensor.ndim == 5
        found[new] = tensor.flatten(1) if foreign_fc1 else tensor
    return found


def _renamed(name: str) -> str:
    for pattern, rename in _PYSLOWFAST + _PYTORCHVIDEO:
        if match := re.fullmatch(pattern, name):
            return rename(match)
    return name


def _in_block(match: re.Match, first: int, module: str) -> str:
    """Return a name in a residual block. `first` is the number of the first stage, minus one."""
    layer = int(match["stage"]) - first
    return f"backbone.layer{layer}.{match['block']}.{module}.{match['rest']}"


def _unit(letter: str, bn: bool) -> str:
    conv = _STAGE_UNIT[letter]
    return conv.replace(".conv", ".bn") if bn else conv
