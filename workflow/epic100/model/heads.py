"""The loss of a last layer that has heads for pairs, verbs and nouns side by side.

This works with any head of MMAction2: its last layer gets one output per pair, verb or noun, and
the scores are split again by position.
"""

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from epic100.model.head_sizes import head_logits, head_sizes
from epic100.segments.pairs import read_pairs


@MODELS.register_module()
class HeadsLoss(nn.Module):
    """The sum of the heads' softmax cross-entropies, each with weight 1 as in LaViLa.

    Args:
        pairs: The pair table. It is read at the first loss, so prediction does not need it.
        heads: A key of `head_sizes.HEADS`.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        smoothing: Share of each label that is spread evenly over its head's classes.
        tau: Strength of the logit adjustment (`LogitAdjustedLoss`), with each head's own prior.
    """

    def __init__(
        self,
        pairs: str,
        heads: str,
        num_verbs: int,
        num_nouns: int,
        smoothing: float = 0.0,
        tau: float = 0.0,
    ) -> None:
        super().__init__()
        self.pairs = pairs
        self.heads = heads
        self.classes = (num_verbs, num_nouns)
        self.smoothing = smoothing
        self.tau = tau
        self._sizes: dict[str, int] = {}
        self._members: dict[str, Tensor] = {}
        self._offsets: dict[str, Tensor] = {}

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Compute the sum of the heads' mean losses.

        Args:
            scores: Logits [B, outputs of all heads].
            label: Pair ids, int64 [B].

        Returns:
            A scalar.
        """
        if not self._sizes:
            self._read_pairs(scores.device)
        losses = [
            F.cross_entropy(
                logits + self._offsets[head],
                self._members[head][label.flatten()],
                label_smoothing=self.smoothing,
            )
            for head, logits in head_logits(scores.float(), self._sizes).items()
        ]
        return torch.stack(losses).sum()

    def _read_pairs(self, device: torch.device) -> None:
        """Set each pair's class in each head, and tau times the log frequency of each class."""
        table = torch.tensor(read_pairs(self.pairs))
        verb, noun, count = table.unbind(1)
        members = {"pair": torch.arange(len(table)), "verb": verb, "noun": noun}
        sizes = head_sizes(self.heads, len(table), *self.classes)
        for head, size in sizes.items():
            counts = torch.zeros(size).index_add_(0, members[head], count.float()).clamp_min(1)
            self._offsets[head] = (self.tau * (counts / counts.sum()).log()).to(device)
            self._members[head] = members[head].to(device)
        self._sizes = sizes
