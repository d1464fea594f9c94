"""The memory layout of convolution weights."""

import torch
from torch import nn


def lay_out_channels_last(module: nn.Module) -> None:
    """Change the 5-D weights of `module` to channels-last, in place. Others are not changed.

    `Module.to(memory_format=torch.channels_last_3d)` fails on modules that also have 4-D weights,
    such as 2D backbones and the patch embedding of transformers.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
