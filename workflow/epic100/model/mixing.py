"""Mixup and CutMix of a batch, where the model is. Nothing is read back from the device."""

import numpy as np
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor


@MODELS.register_module()
class MixClips:
    """Mix each clip of a batch with the one at its place from the end, by Mixup or CutMix.

    One of the two is drawn for each batch, with one share for all its clips. So does timm's Mixup,
    which VideoMAE and AVION use. MMAction2's own classes read labels back from the device.

    All draws are from NumPy, which `SampleSeedHook` seeds in each iteration.

    Args:
        num_classes: Number of pairs; the workflow sets it.
        mixup: Both parameters of the beta distribution of a clip's share, for Mixup.
        cutmix: The same for CutMix.
        cutmix_share: Share of the batches that CutMix is for.
    """

    def __init__(
        self, num_classes: int, mixup: float = 0.8, cutmix: float = 1.0, cutmix_share: float = 0.5
    ):
        self.num_classes = num_classes
        self.mixup, self.cutmix, self.cutmix_share = mixup, cutmix, cutmix_share

    def __call__(
        self, clips: Tensor, samples: list[ActionDataSample]
    ) -> tuple[Tensor, list[ActionDataSample]]:
        """Mix a batch.

        Args:
            clips: float [B, ..., H, W].
            samples: Samples with pair ids.

        Returns:
            The mixed clips, and the samples, whose labels are now shares of pairs [P].
        """
        cut = np.random.rand() < self.cutmix_share
        alpha = self.cutmix if cut else self.mixup
        kept = np.random.beta(alpha, alpha)
        others = clips.flip(0)
        if cut:
            height, width = clips.shape[-2:]
            side = np.sqrt(1 - kept)
            (top, bottom), (left, right) = _span(height, side), _span(width, side)
            clips = clips.clone()
            clips[..., top:bottom, left:right] = others[..., top:bottom, left:right]
            kept = 1 - (bottom - top) * (right - left) / (height * width)
        else:
            clips = others.lerp(clips, kept)
        ids = torch.stack([sample.gt_label for sample in samples]).flatten()
        labels = F.one_hot(ids, self.num_classes).float()
        for sample, label in zip(samples, labels.flip(0).lerp(labels, kept), strict=True):
            sample.set_gt_label(label)
        return clips, samples


def _span(length: int, share: float) -> tuple[int, int]:
    """Where a part of this share begins and ends, around a drawn centre; cut at the edges."""
    centre, half = np.random.randint(length), int(length * share) // 2
    return max(0, centre - half), min(length, centre + half)
