"""An attentive probe: learned queries look at the features of a segment."""

import torch
from torch import Tensor, nn

WIDTH, QUERIES, ATTENTION_HEADS = 256, 4, 4


class AttentiveProbe(nn.Module):
    """Cross-attention of learned queries over a segment's features, an MLP, and the heads.

    Form: the attentive probe of V-JEPA (Bardes et al. 2024), narrower, with several queries.

    Args:
        channels: C, values of a feature.
        outputs: Outputs of all heads together.
        dropout: On the features and before the last layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.embed = nn.Linear(channels, WIDTH)
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH) * WIDTH**-0.5)
        self.attention = nn.MultiheadAttention(WIDTH, ATTENTION_HEADS, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(QUERIES * WIDTH, outputs)

    def forward(self, feats: Tensor, padded: Tensor) -> Tensor:
        """Compute the scores.

        Args:
            feats: float32 [B, T, C].
            padded: bool [B, T], True for rows that only fill the batch.

        Returns:
            Logits [B, outputs].
        """
        rows = self.embed(self.dropout((feats - self.mean) / self.std))
        queries = self.queries.expand(len(feats), -1, -1)
        seen, _ = self.attention(queries, rows, rows, key_padding_mask=padded, need_weights=False)
        seen = seen + self.mlp(self.norm(seen))
        return self.last(self.dropout(seen.flatten(1)))
