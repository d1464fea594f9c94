"""Beside the plain cross-entropy: label smoothing, the long tail, dropout, averaged weights."""

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import EMAHook
from torch import Tensor, nn

from epic100.pairs import read_pairs
from epic100.training.device import bare


def fit_head(config: Config, settings, pairs: str) -> None:
    """Put the `train:` section's head settings into the MMEngine config; None leaves it as it is.

    `pairs`: path of the pair table, whose counts are the prior of `logit_adjustment`.
    """
    head = config.model.cls_head
    if settings.label_smoothing is not None:
        head.label_smooth_eps = settings.label_smoothing
    if settings.dropout is not None:
        head.dropout_ratio = settings.dropout
    if settings.logit_adjustment:
        head.loss_cls = {
            "type": "LogitAdjustedLoss",
            "pairs": pairs,
            "tau": settings.logit_adjustment,
        }
    if settings.ema is not None:
        hook = {
            "type": "EMAHook",
            "ema_type": "ExponentialMovingAverage",
            "momentum": 1 - settings.ema,
        }
        config.custom_hooks = [*(config.get("custom_hooks") or []), hook]


@MODELS.register_module()
class LogitAdjustedLoss(nn.Module):
    """Softmax cross-entropy of `scores + tau * log(prior)`; scores are used bare in prediction.

    Menon et al., Long-tail learning via logit adjustment, ICLR 2021, equation 10: consistent for
    the balanced error at tau 1, so rare classes gain and the overall top-1 may lose.

    Args:
        pairs: the pair table; its counts are the prior. Read at the first loss, so that a model
        that only predicts does not need it. tau: strength.
    """

    def __init__(self, pairs: str, tau: float = 1.0):
        super().__init__()
        self.pairs = pairs
        self.tau = tau
        self._offset: Tensor | None = None

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Mean loss of `scores` [B, P] for `label`, ids [B] or probabilities [B, P]."""
        if self._offset is None:
            counts = torch.tensor([float(count) for _, _, count in read_pairs(self.pairs)])
            prior = counts.clamp_min(1) / counts.clamp_min(1).sum()
            self._offset = self.tau * prior.log()
        self._offset = self._offset.to(scores.device)
        return F.cross_entropy(scores.float() + self._offset, label)


def final_weights(runner) -> dict[str, Tensor]:
    """The weights that training ends in, on the CPU: the average where one was kept."""
    model = bare(runner.model)
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            model = hook.ema_model.module
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
