"""Networks that MMAction2 lacks: transformers with fused attention, and PySlowFast's SlowFast.

Fused attention never stores the attention weights of all token pairs. MMAction2's own attention
stores them three times for the backward pass: 90 MiB per layer for a segment of 1,568 tokens, in
float32.

The published weights of AVION and LaViLa were learned on Ego4D. Both apply CLIP's transformer to
all patches of all frames, with a class token, an embedding of the place and one of the time. AVION
attends to all tokens at once (Zhao and Kraehenbuehl, 2023); LaViLa attends over time, then over
space (Zhao et al., CVPR 2023; Bain et al., Frozen in Time, ICCV 2021). Their keys have a bias. It
adds the same number to all scores of a query, so it changes nothing, and is left out here.
`cli.adopt` converts their weights.

MMAction2's SlowFast is the same network as PySlowFast's except for two things. Of 32 frames, the
slow pathway of PySlowFast takes 0, 4, 8, 13, 17, 22, 26 and 31, and MMAction2's takes 0, 4, 8 ...
28. In a test, PySlowFast's head scores windows of the size that it was trained on, and takes the
mean of their probabilities. Source: epic-kitchens/epic-kitchens-slowfast at bf50519,
`pack_pathway_output` of slowfast/datasets/utils.py and slowfast/models/head_helper.py.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn

from epic100.model.mmaction_import import models
from epic100.model.model_file import split_outputs

PatchEmbed = models.backbones.vit_mae.PatchEmbed
DropPath = models.backbones.vit_mae.DropPath
ModuleList = models.backbones.vit_mae.ModuleList


class FusedAttention(models.backbones.vit_mae.Attention):
    """MMAction2's attention of VideoMAE, computed by torch in one fused operation."""

    def forward(self, x: Tensor) -> Tensor:
        """Let every token attend to all tokens.

        Args:
            x: Tokens [B, N, C].

        Returns:
            Tokens [B, N, C].
        """
        return self.join_heads(self.attend(*self.query_key_value(x)))

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute query, key and value of tokens [B, N, C], each [B, heads, N, C / heads]."""
        # The keys have no bias (see the docstring of this module), so theirs is 0.
        bias = None
        if hasattr(self, "q_bias"):
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Compute, for each query, the mean of the values, weighted by its match with the keys."""
        dropout = self.attn_drop.p if self.training else 0.0
        return F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, scale=self.scale
        )

    def join_heads(self, attended: Tensor) -> Tensor:
        """Join the heads' results, [B, heads, N, C / heads], to tokens [B, N, C]; project them."""
        return self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))


@MODELS.register_module()
class FusedVisionTransformer(models.VisionTransformer):
    """MMAction2's VisionTransformer (VideoMAE) with `FusedAttention`.

    Weights of one of the two classes also load into the other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build MMAction2's transformer, and replace its attention."""
        super().__init__(*args, **kwargs)
        for block in self.blocks:
            # Changing the class of a built module is safe here: `FusedAttention` has the same
            # parameters, and only its forward pass differs.
            block.attn.__class__ = FusedAttention


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the approximation to each value."""
        return x * torch.sigmoid(1.702 * x)


@MODELS.register_module()
class AvionVisionTransformer(FusedVisionTransformer):
    """AVION's encoder of videos: a transformer whose tokens attend to all tokens of all frames.

    Args:
        num_frames: Frames of a clip.
        img_size: Side of the frames, in pixels.
        patch_size: Side of a patch, in pixels.
        embed_dims: Channels of a token.
        drop_path_rate: Share of samples for which a residual branch is left out, the same in each
            block.
        quick_gelu: Whether to compute CLIP's approximation of GELU. AVION's script asks for it, but
            AVION's model ignores this and computes GELU itself.
        frozen: Whether the weights stay as they are, without gradients and dropout.
        **arguments: Further arguments of MMAction2's VisionTransformer: `depth`, `num_heads`.
    """

    def __init__(
        self,
        num_frames: int = 16,
        img_size: int = 224,
        patch_size: int = 16,
        embed_dims: int = 768,
        drop_path_rate: float = 0.0,
        quick_gelu: bool = False,
        frozen: bool = False,
        **arguments: Any,
    ) -> None:
        """Build MMAction2's transformer, and replace the parts in which AVION differs from it."""
        super().__init__(
            num_frames=num_frames,
            img_size=img_size,
            patch_size=patch_size,
            embed_dims=embed_dims,
            drop_path_rate=drop_path_rate,
            tubelet_size=1,
            use_learnable_pos_emb=True,
            use_mean_pooling=False,
            **arguments,
        )
        patch = (1, patch_size, patch_size)
        self.patch_embed = PatchEmbed(
            embed_dims=embed_dims,
            conv_type="Conv3d",
            kernel_size=patch,
            stride=patch,
            padding=(0, 0, 0),
            dilation=(1, 1, 1),
            bias=False,
        )
        patches = (img_size // patch_size) ** 2
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dims))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + patches, embed_dims))
        self.time_embed = nn.Parameter(torch.zeros(1, num_frames, embed_dims))
        self.norm_pre = nn.LayerNorm(embed_dims, eps=1e-6)
        for block in self.blocks:
            # MMAction2's rate rises from block to block.
            block.drop_path = DropPath(drop_path_rate)
            if quick_gelu:
                # This is the activation between the two linear layers.
                block.mlp.layers[0][1] = QuickGELU()
        self.frozen = frozen
        self.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        """Compute one vector of features for each clip.

        Args:
            x: Clips [B, 3, T, H, W].

        Returns:
            Features of the class token [B, C].
        """
        x, _ = self.patch_embed(x)
        frames = self.time_embed.shape[1]
        # The tokens [B, T * P, C] are in order of time, P places for each frame. So the embeddings
        # of all places are repeated for each frame, and the embedding of a frame for each place.
        position = self.pos_embed[:, 1:].repeat(1, frames, 1)
        time = self.time_embed.repeat_interleave(x.shape[1] // frames, 1)
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = self.norm_pre(torch.cat((class_token, x + position + time), 1))
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])


class DividedAttention(FusedAttention):
    """Attention divided into groups of tokens: over time, or over space.

    The class token attends to all tokens. Each other token attends to the class token and to its
    group: the tokens of the same place in all frames, or all tokens of the same frame.

    Attributes:
        frames: Frames of a clip.
        over_time: Whether a group is a place in all frames; else it is a frame.
    """

    frames = 0
    over_time = False

    def forward(self, x: Tensor) -> Tensor:
        """Let every token attend to its group and to the class token.

        Args:
            x: Tokens [B, 1 + T * P, C] of T frames with P places, the class token first.

        Returns:
            Tokens of the same shape.
        """
        query, key, value = self.query_key_value(x)
        class_token = self.attend(query[:, :, :1], key, value)
        # The patch tokens become [B, heads, T, P, D]. This axis of theirs numbers the groups.
        axis = 3 if self.over_time else 2
        # These tensors are [B, groups, heads, tokens of a group, D].
        grouped = [
            tensor[:, :, 1:].unflatten(2, (self.frames, -1)).movedim(axis, 1)
            for tensor in (query, key, value)
        ]
        groups = grouped[0].shape[1]
        # Each group becomes a separate sample, [B * groups, heads, tokens of a group, D].
        group_query, group_key, group_value = (tensor.flatten(0, 1) for tensor in grouped)
        # The key and the value of the class token are put before the keys and values of each group.
        key_and_value = [
            torch.cat((tensor[:, :, :1].repeat_interleave(groups, 0), group_tokens), 2)
            for tensor, group_tokens in ((key, group_key), (value, group_value))
        ]
        attended = self.attend(group_query, *key_and_value)
        patch_tokens = attended.unflatten(0, (-1, groups)).movedim(1, axis)
        return self.join_heads(torch.cat((class_token, patch_tokens.flatten(2, 3)), 2))


class DividedBlock(models.backbones.vit_mae.Block):
    """A block of LaViLa's transformer: attention over time, then over space, then an MLP.

    Attention over space sees the result of attention over time. Only the result of attention over
    space is added to the block's input.
    """

    def __init__(self, embed_dims: int, frames: int, **arguments: Any) -> None:
        """Build MMAction2's block, and add the attention over time.

        Args:
            embed_dims: Channels of a token.
            frames: Frames of a clip.
            **arguments: Further arguments of MMAction2's block, with `num_heads`.
        """
        super().__init__(embed_dims, **arguments)
        # LaViLa calls the norm before the attention over time `norm3`.
        self.norm3 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.time_attn = DividedAttention(embed_dims, arguments["num_heads"])
        self.time_attn.frames, self.time_attn.over_time = frames, True
        # MMAction2's block has built `attn` with its weights. Only its `forward` is replaced.
        self.attn.__class__ = DividedAttention
        self.attn.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block: tokens [B, 1 + T * P, C] give tokens of the same shape."""
        over_time = x + self.time_attn(self.norm3(x))
        x = x + self.drop_path(self.attn(self.norm1(over_time)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@MODELS.register_module()
class LavilaVisionTransformer(AvionVisionTransformer):
    """LaViLa's encoder of videos, a TimeSformer. It takes the arguments of AVION's."""

    def __init__(self, **arguments: Any) -> None:
        """Build AVION's encoder, and replace its blocks."""
        super().__init__(**arguments)
        self.norm_pre = nn.LayerNorm(self.embed_dims)
        # MMAction2's defaults are 12 blocks of 12 heads.
        depth, heads = arguments.get("depth", 12), arguments.get("num_heads", 12)
        frames = self.time_embed.shape[1]
        # The rate of left-out branches rises evenly from 0 in the first block to the given rate in
        # the last.
        last_rate = arguments.get("drop_path_rate", 0.0)
        self.blocks = ModuleList(
            DividedBlock(self.embed_dims, frames, num_heads=heads, drop_path_rate=rate)
            for rate in torch.linspace(0, last_rate, depth).tolist()
        )
        for block in self.blocks:
            block.mlp.layers[0][1] = QuickGELU()
        self.requires_grad_(not self.frozen)


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
        """Build MMAction2's head, and store the tasks, and the window of the eval mode."""
        super().__init__(**arguments)
        # `split_outputs` takes sizes by name; any names will do.
        self.parts: Mapping[str, int] = {str(task): size for task, size in enumerate(parts)}
        self.window = window

    def forward(self, x: tuple[Tensor, Tensor], **unused: Any) -> Tensor:
        """Compute the scores of clips; in eval mode, as a mean over windows of the feature map.

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
        # frames of its pathway, so each result is [B, C, 1, rows, columns].
        pooled = [
            F.avg_pool3d(features, (features.shape[2], window, window), stride=1)
            for features in (fast, slow)
        ]
        # All windows of a clip are put in a row, [B, windows, C], and each gets scores,
        # [B, windows, all outputs].
        windows = torch.cat(pooled, 1).movedim(1, -1).flatten(1, 3)
        scores = self.fc_cls(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        # The log of a mean of probabilities: logsumexp of the logs, minus the log of their number.
        means = []
        for task_scores in split_outputs(scores, self.parts).values():
            log_sums = task_scores.log_softmax(-1).logsumexp(1)
            means.append(log_sums - math.log(windows.shape[1]))
        return torch.cat(means, 1)
