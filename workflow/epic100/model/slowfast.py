"""SlowFast as PySlowFast tests it, for weights that were trained with PySlowFast.

MMAction2's SlowFast is the same network except for two things. Of 32 frames, the slow pathway of
PySlowFast takes 0, 4, 8, 13, 17, 22, 26 and 31, and MMAction2's takes 0, 4, 8 ... 28. In a test,
PySlowFast's head scores windows of the size that it was trained on, and takes the mean of their
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

    Weights of one of the two classes also load into the other. `resample_rate` must be equal to
    `speed_ratio`.
    """

    def __init__(self, **arguments: Any) -> None:
        """Build MMAction2's backbone, and let another function choose the slow frames."""
        super().__init__(**arguments)
        self._frames_per_slow_frame: int = arguments["speed_ratio"]
        self.resample_rate = self.speed_ratio = 1  # Both pathways get all frames.
        self.slow_path.conv1.register_forward_pre_hook(self._frames_of_slow_path)

    def _frames_of_slow_path(self, conv: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """Choose the frames of the slow pathway, from first to last, of clips [B, C, T, H, W].

        torch calls this hook before the first convolution of the pathway, whose input the result
        replaces.
        """
        (clips,) = inputs
        frames = clips.shape[2]
        chosen = torch.linspace(0, frames - 1, frames // self._frames_per_slow_frame).long()
        return clips.index_select(2, chosen.to(clips.device))


@MODELS.register_module()
class PySlowFastHead(models.heads.SlowFastHead):
    """MMAction2's SlowFastHead, which in a test scores windows as PySlowFast does.

    Args:
        parts: Number of outputs of each task. Each task has its own softmax.
        window: Side of a window, in cells of the last feature map.
        **arguments: Arguments of SlowFastHead.
    """

    def __init__(self, parts: Sequence[int], window: int = 7, **arguments: Any) -> None:
        """Build MMAction2's head, and store the tasks and the window, which only tests use."""
        super().__init__(**arguments)
        # `split_outputs` takes sizes by name. No code reads these names, so they are numbers.
        self.parts: Mapping[str, int] = {str(task): size for task, size in enumerate(parts)}
        self.window = window

    def forward(self, x: tuple[Tensor, Tensor], **unused: Any) -> Tensor:
        """Compute the scores of clips; in a test, as a mean over windows of the feature map.

        Args:
            x: Features of the slow and of the fast pathway, [B, C, T, H, W] each.
            **unused: Arguments that MMAction2 gives to every head. They are not used.

        Returns:
            Scores [B, all outputs]. In a test: the log of the mean of the windows' probabilities.
        """
        if self.training:
            return super().forward(x)
        slow, fast = x
        window = min(self.window, *slow.shape[3:])
        # The fast pathway comes first, as `fc_cls` of MMAction2's head expects. A window covers all
        # frames of its pathway.
        pooled = [
            F.avg_pool3d(features, (features.shape[2], window, window), stride=1)
            for features in (fast, slow)
        ]
        # All windows of a clip are put in a row, [B, windows, C], and each gets scores.
        windows = torch.cat(pooled, 1).movedim(1, -1).flatten(1, 3)
        scores = self.fc_cls(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        means = [
            task_scores.log_softmax(-1).logsumexp(1) - math.log(windows.shape[1])
            for task_scores in split_outputs(scores, self.parts).values()
        ]
        return torch.cat(means, 1)
