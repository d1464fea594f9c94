"""Necks of MMAction2 that pool the tokens of a clip to one vector."""

from typing import Any

import torch
from mmaction.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class MeanOfTokens(nn.Module):
    """Takes the mean of all tokens."""

    def forward(self, tokens: Tensor, data_samples: Any = None) -> tuple[Tensor, dict]:
        """Pool tokens [B, N, C] to [B, C]; a neck of MMAction2 also returns losses, here none."""
        return tokens.mean(dim=1), {}


@MODELS.register_module()
class AttentivePooling(nn.Module):
    """Pools tokens by the attention of a learned query to all of them, then by an MLP.

    This is the attentive pooler of V-JEPA 2's evaluation (Assran et al. 2025), which has three
    blocks of self-attention before it. Here, each token also gets a sinusoid of its place in the
    order: an image encoder does not tell its tokens when a frame was.

    Args:
        channels: Channels C of a token, a multiple of `heads`.
        heads: Heads of each attention.
        blocks: Blocks of self-attention before the query.
    """

    def __init__(self, channels: int, heads: int = 16, blocks: int = 0) -> None:
        """Build the layers."""
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels,
                heads,
                dim_feedforward=4 * channels,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(blocks)
        )
        self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, channels), std=0.02))
        self.token_norm, self.norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, tokens: Tensor, data_samples: Any = None) -> tuple[Tensor, dict]:
        """Pool tokens [B, N, C] to [B, C]; a neck of MMAction2 also returns losses, here none."""
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.token_norm(tokens) + sinusoids(*tokens.shape[1:]).to(tokens.device)
        query = self.query.expand(len(tokens), -1, -1)
        attended, _ = self.attention(query, tokens, tokens, need_weights=False)
        pooled = query + attended
        return (pooled + self.mlp(self.norm(pooled)))[:, 0], {}


def sinusoids(rows: int, width: int) -> Tensor:
    """Compute the sinusoidal positional encoding of Vaswani et al. 2017, float32 [rows, width]."""
    rates = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(rows)[:, None] * rates
    # Sines and cosines alternate; an odd width leaves out the last cosine.
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
