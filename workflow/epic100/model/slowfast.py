"""SlowFast as PySlowFast tests it, for weights that were trained with PySlowFast.

MMAction2's SlowFast is the same network but for two things. The slow pathway of PySlowFast takes
frames 0, 4, 8, 13, 17, 22, 26 and 31 of 32, and MMAction2's takes 0, 4, 8 ... 28. In a test,
PySlowFast's head sees windows of the size that it was trained on, and takes the mean of their
probabilities. Source: epic-kitchens/epic-kitchens-slowfast at bf50519, `pack_pathway_output` of
slowfast/datasets/utils.py and slowfast/models/head_helper.py.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from epic100.model.mmaction_import import models
from epic100.model.model_file import split_outputs


@MODELS.register_module()
class PySlowFast(models.ResNet3dSlowFast):
    """MMAction2's ResNet3dSlowFast with PySlowFast's frames in the slow pathway.

    Weights of either load into the other. `resample_rate` must be `speed_ratio`.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._slower: int = given["speed_ratio"]
        self.resample_rate = self.speed_ratio = 1  # Both pathways get all frames.
        self.slow_path.conv1.register_forward_pre_hook(self._frames_of_slow_path)

    def _frames_of_slow_path(self, conv: nn.Module, clips: tuple[Tensor]) -> Tensor:
        """Choose among the frames of clips [B, C, T, H, W]."""
        frames = clips[0].shape[2]
        chosen = torch.linspace(0, frames - 1, frames // self._slower).long()
        return clips[0].index_select(2, chosen.to(clips[0].device))


@MODELS.register_module()
class PySlowFastHead(models.heads.SlowFastHead):
    """MMAction2's SlowFastHead, which in a test scores windows as PySlowFast does.

    Args:
        parts: Number of outputs of each task. Each has a softmax of its own.
        window: Side of a window, in places of the last feature map.
        **more: Arguments of SlowFastHead.
    """

    def __init__(self, parts: Sequence[int], window: int = 7, **more: Any) -> None:
        super().__init__(**more)
        self.parts: Mapping[str, int] = {str(task): size for task, size in enumerate(parts)}
        self.window = window

    def forward(self, x: tuple[Tensor, Tensor], **more: Any) -> Tensor:
        """Score clips.

        Args:
            x: Features of the slow and of the fast pathway, [B, C, T, H, W] each.
            **more: Not used.

        Returns:
            [B, all outputs]. In a test: the log of the windows' mean probabilities.
        """
        if self.training:
            return super().forward(x)
        window = min(self.window, *x[0].shape[3:])
        pooled = [F.avg_pool3d(tensor, (tensor.shape[2], window, window), stride=1) for tensor in x]
        # The fast pathway comes first, since `fc_cls` of MMAction2's head has it first.
        windows = torch.cat(pooled[::-1], 1).movedim(1, -1).flatten(1, 3)
        scores = self.fc_cls(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        means = [
            tensor.log_softmax(-1).logsumexp(1) - math.log(windows.shape[1])
            for tensor in split_outputs(scores, self.parts).values()
        ]
        return torch.cat(means, 1)
