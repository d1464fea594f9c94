"""A loss for the long-tailed distribution of pairs."""

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from epic100.segments.pairs import read_pairs


@MODELS.register_module()
class LogitAdjustedLoss(nn.Module):
    """Softmax cross-entropy of `scores + tau * log(prior)`. Prediction uses the scores alone.

    Source: Menon et al., Long-tail learning via logit adjustment, ICLR 2021, equation 10. At tau 1
    the loss is consistent for the balanced error: rare classes gain, and overall top-1 may drop.

    Args:
        pairs: The pair table, whose counts are the prior. It is read at the first loss, so
            prediction does not need it.
        tau: Strength of the adjustment.
    """

    def __init__(self, pairs: str, tau: float = 1.0):
        super().__init__()
        self.pairs = pairs
        self.tau = tau
        self._offset: Tensor | None = None

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Compute the mean loss.

        Args:
            scores: Logits [B, P].
            label: Pair ids [B] or probabilities [B, P].

        Returns:
            A scalar.
        """
        if self._offset is None:
            counts = torch.tensor([float(count) for _, _, count in read_pairs(self.pairs)])
            prior = counts.clamp_min(1) / counts.clamp_min(1).sum()
            self._offset = self.tau * prior.log()
        self._offset = self._offset.to(scores.device)
        return F.cross_entropy(scores.float() + self._offset, label)
