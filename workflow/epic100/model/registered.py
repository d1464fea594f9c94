"""The classes of models that are registered by name, once this is imported.

A recognizer with channels-last weights, and any head of MMAction2 with outputs for pairs, verbs and
nouns, and their loss: its last layer gets one output per pair, verb or noun, and the scores are
split again by position. And Mixup and CutMix of a batch, where the model is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from types import MethodType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

import epic100.model.encoders
import epic100.model.slowfast  # noqa: F401  (registers what they define)
from epic100.base.errors import EpicError
from epic100.model.mmaction_import import models
from epic100.model.model_file import output_sizes, split_outputs
from epic100.segments.pairs import read_pairs

BaseHead = models.heads.BaseHead
HEAD = "EpicHead"
# OutputsLoss replaces the loss of a head that states none, or one of this name.
OWN_LOSSES = (None, "CrossEntropyLoss")
REDUCED: Mapping[str, Callable[[Tensor], Tensor]] = {"sum": torch.sum, "mean": torch.mean}


@MODELS.register_module()
class ChannelsLastRecognizer3D(models.Recognizer3D):
    """MMAction2's Recognizer3D with channels-last weights in the backbone.

    It computes the same sums, 1.4 times faster on a CPU. Weights of either load into the other.

    The layout is set when the model is built, not by a hook. DistributedDataParallel (torch 2.13)
    keeps the layout that it finds. If the weights change their layout later, the first iteration
    after each start gets gradients with permuted elements.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        lay_out_channels_last(self.backbone)


def lay_out_channels_last(module: nn.Module) -> None:
    """Change the 5-D weights of `module` to channels-last, in place. Others are not changed.

    `Module.to(memory_format=torch.channels_last_3d)` fails on modules that also have 4-D weights,
    such as 2D backbones and the patch embedding of transformers.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


@dataclass(frozen=True)
class HeadOf:
    """What a recipe says of its head: a head of MMAction2, and what its outputs stand for.

    Args:
        head: The config of MMAction2's head, without `num_classes`.
        pairs: The pair table.
        heads: A key of `model_file.OUTPUTS`.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        loss: What is learned of the losses of several `heads`: their sum or their mean.
    """

    head: Mapping[str, Any]
    pairs: str
    heads: str = "pair"
    num_verbs: int = 97
    num_nouns: int = 300
    loss: Literal["sum", "mean"] = "sum"

    def config(self) -> dict[str, Any]:
        """The config of MMAction2's head with its number of outputs, which needs no pair table.

        Raises:
            EpicError: The config has a number of its own.
        """
        pairs = len(read_pairs(self.pairs))
        outputs = sum(output_sizes(self.heads, pairs, self.num_verbs, self.num_nouns).values())
        if "num_classes" in self.head:
            raise EpicError(
                f"the head of the model has `num_classes` {self.head['num_classes']}, but "
                f"{self.pairs} and `heads` ({self.heads}) say how many there are, {outputs}; take "
                "`num_classes` out"
            )
        return {**self.head, "num_classes": outputs}

    def build(self) -> nn.Module:
        """Build that head itself, so its weights have their usual names, with the loss of `heads`.

        Raises:
            EpicError: As `config`; or it has a loss of its own beside several `heads`, or another
                `loss` than sum and mean.
        """
        built = MODELS.build(self.config())
        if self.loss not in REDUCED:
            raise EpicError(f"`loss` of the head is {self.loss!r}; expected sum or mean")
        if self.heads != "pair":
            if (loss_type := self.head.get("loss_cls", {}).get("type")) not in OWN_LOSSES:
                raise EpicError(
                    f"the head of the model has a loss of its own ({loss_type}), which is for "
                    f"pairs alone, but `heads` is {self.heads!r}; set `train: heads: pair`, or "
                    "take `loss_cls` out"
                )
            smoothing, built.label_smooth_eps = built.label_smooth_eps, 0.0
            classes = (self.num_verbs, self.num_nouns)
            pairs = read_pairs(self.pairs)
            built.loss_cls = OutputsLoss(pairs, self.heads, *classes, smoothing, self.loss)
        if type(built).loss_by_feat is BaseHead.loss_by_feat:
            built.loss_by_feat = MethodType(loss_on_device, built)
        return built


def epic_head(**said: Any) -> nn.Module:
    """Build what a recipe says of its head (`HeadOf`)."""
    return HeadOf(**said).build()


# `update_wrapper` gives the function the arguments of `HeadOf`, which the check of options reads.
MODELS.register_module(HEAD, module=update_wrapper(epic_head, HeadOf))


class OutputsLoss(nn.Module):
    """The sum or the mean of the softmax cross-entropies of pairs, verbs and nouns.

    LaViLa learns the sum of three, epic-kitchens-slowfast and the TSN and TSM of EPIC-KITCHENS'
    authors the mean of two. With SGD the two differ as learning rates do.

    Args:
        pairs: The pair table: verb, noun and count.
        heads: A key of `model_file.OUTPUTS`.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        smoothing: Share of each label that is spread evenly over the classes of its kind.
        loss: A key of `REDUCED`.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[int, int, int]],
        heads: str,
        num_verbs: int,
        num_nouns: int,
        smoothing: float = 0.0,
        loss: str = "sum",
    ) -> None:
        super().__init__()
        self.reduced = REDUCED[loss]
        self.sizes = output_sizes(heads, len(pairs), num_verbs, num_nouns)
        self.smoothing = smoothing
        verb, noun, _ = torch.tensor(pairs).unbind(1)
        self._classes = {"pair": torch.arange(len(pairs)), "verb": verb, "noun": noun}

    def forward(self, scores: Tensor, label: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            scores: Logits [B, all outputs].
            label: Pair ids, int64 [B], or the shares of pairs in mixed clips [B, pairs]. A verb's
                share is the sum over its pairs; so is a noun's.

        Returns:
            A scalar.
        """
        losses = []
        for task, logits in split_outputs(scores.float(), self.sizes).items():
            classes = self._classes[task] = self._classes[task].to(scores.device)
            if label.is_floating_point():
                shares = torch.zeros_like(logits).index_add_(1, classes, label.to(logits.dtype))
                losses.append(mixed_cross_entropy(logits, shares, self.smoothing))
            else:
                class_ids = classes[label]
                losses.append(F.cross_entropy(logits, class_ids, label_smoothing=self.smoothing))
        return self.reduced(torch.stack(losses))


def mixed_cross_entropy(logits: Tensor, shares: Tensor, smoothing: float) -> Tensor:
    """Compute the mean cross-entropy of labels that are shares of classes.

    If each label has one class alone, it is `F.cross_entropy` of these classes to the bit: the same
    sums in the same order, which torch's own for shares does not have.

    Args:
        logits: float32 [B, classes].
        shares: float32 [B, classes], which add up to 1.
        smoothing: Share of each label that is spread evenly over the classes.
    """
    log_probs = logits.log_softmax(dim=1)
    weighted = (log_probs * shares).sum(dim=1, keepdim=True)
    column = torch.zeros(len(weighted), dtype=torch.int64, device=weighted.device)
    even = -log_probs.sum(dim=1).mean()
    return (1 - smoothing) * F.nll_loss(weighted, column) + even * (smoothing / logits.shape[1])


def loss_on_device(head: Any, scores: Tensor, samples: list[ActionDataSample]) -> dict[str, Tensor]:
    """Compute what MMAction2's `BaseHead.loss_by_feat` does, in float32 and on the device.

    Its own (1.2.0) computes top-k with NumPy between forward and backward. The GPU then waits for a
    full sort on the CPU, and NumPy has no bfloat16.

    Args:
        head: A head of MMAction2.
        scores: Logits [B, P] in any float type, such as autocast's.
        samples: Samples with the labels: class ids, or probabilities [P] (Mixup and CutMix).

    Returns:
        The losses, and `top{k}_acc` (0 to 1) if the labels are ids.
    """
    scores = scores.float()
    labels = torch.stack([sample.gt_label for sample in samples]).to(scores.device)
    figures: dict[str, Tensor] = {}
    if not labels.is_floating_point():
        labels = labels.flatten()
        figures |= _top_k(scores.detach(), labels, head.topk)
    if smooth := head.label_smooth_eps:
        if labels.dim() == 1:
            labels = F.one_hot(labels, num_classes=head.num_classes)
        labels = (1 - smooth) * labels + smooth / head.num_classes
    loss = head.loss_cls(scores, labels)
    return figures | (loss if isinstance(loss, dict) else {"loss_cls": loss})


def _top_k(scores: Tensor, labels: Tensor, ranks: tuple[int, ...]) -> dict[str, Tensor]:
    """For each k, the share of samples with the label among the k highest scores."""
    highest = scores.topk(min(max(ranks), scores.shape[1]), dim=1).indices
    hit = highest.eq(labels[:, None])
    return {f"top{k}_acc": hit[:, :k].any(dim=1).double().mean() for k in ranks}


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
        is_cutmix = np.random.rand() < self.cutmix_share
        alpha = self.cutmix if is_cutmix else self.mixup
        kept_share = np.random.beta(alpha, alpha)
        other_clips = clips.flip(0)
        if is_cutmix:
            height, width = clips.shape[-2:]
            side = np.sqrt(1 - kept_share)
            (top, bottom), (left, right) = _span(height, side), _span(width, side)
            clips = clips.clone()
            clips[..., top:bottom, left:right] = other_clips[..., top:bottom, left:right]
            kept_share = 1 - (bottom - top) * (right - left) / (height * width)
        else:
            clips = other_clips.lerp(clips, kept_share)
        ids = torch.stack([sample.gt_label for sample in samples]).flatten()
        labels = F.one_hot(ids, self.num_classes).float()
        for sample, label in zip(samples, labels.flip(0).lerp(labels, kept_share), strict=True):
            sample.set_gt_label(label)
        return clips, samples


def _span(length: int, share: float) -> tuple[int, int]:
    """Where a part of this share begins and ends, around a drawn centre; cut at the edges."""
    centre, half = np.random.randint(length), int(length * share) // 2
    return max(0, centre - half), min(length, centre + half)
