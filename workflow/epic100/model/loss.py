"""The loss for a long tail of pairs."""

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from epic100.segments.pairs import read_pairs


@MODELS.register_module()
class LogitAdjustedLoss(nn.Module):
    """Softmax cross-entropy of `scores + tau * log(prior)`; scores are used bare in prediction.

    Menon et al., Long-tail learning via logit adjustment, ICLR 2021, equation 10: consistent for
    the balanced error at tau 1, so rare classes gain and the overall top-1 may lose.

    Args:
        pairs: the pair table; its counts are the prior. Read at the first loss, so that a model
            that only predicts does not need it.
        tau: strength.
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
