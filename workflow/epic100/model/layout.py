"""The order of a convolution's weights in memory."""

import torch
from torch import nn


def lay_out_channels_last(module: nn.Module) -> None:
    """Lay the 5-D weights of `module` out channels-last, in place; all others stay as they are.

    `Module.to(memory_format=torch.channels_last_3d)` refuses a module that holds 4-D weights too,
    as 2D backbones and the patch embedding of transformers do.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
