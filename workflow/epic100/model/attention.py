"""Fused attention, which never holds the weights of all token pairs, and VideoMAE with it.

MMAction2's own holds them three times for the backward pass: 90 MiB a layer and segment of 1,568
tokens, in float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor

from epic100.model.mmaction_import import models


class FusedAttention(models.backbones.vit_mae.Attention):
    """MMAction2's attention of VideoMAE, computed by torch in one operation."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: Tokens [B, N, C].

        Returns:
            Tokens [B, N, C].
        """
        return self.joined(self.mixed(*self.parts(x)))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of tokens [B, N, C], each [B, heads, N, C / heads]."""
        bias = None
        if hasattr(self, "q_bias"):
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return query, key, value

    def mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The mean of the values, weighted for each query."""
        dropped = self.attn_drop.p if self.training else 0.0
        return F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropped, scale=self.scale
        )

    def joined(self, mixed: Tensor) -> Tensor:
        """Tokens [B, N, C] of [B, heads, N, C / heads]."""
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))


@MODELS.register_module()
class FusedVisionTransformer(models.VisionTransformer):
    """MMAction2's VisionTransformer (VideoMAE) with `FusedAttention`.

    Weights of either load into the other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for block in self.blocks:
            block.attn.__class__ = FusedAttention  # the same parameters, another forward pass
