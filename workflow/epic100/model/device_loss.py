"""The loss of MMAction2's heads, computed on the GPU without a copy to the CPU.

MMAction2's own loss (`BaseHead.loss_by_feat`, 1.2.0) computes top-k with NumPy between forward and
backward. The GPU then waits for a full sort on the CPU, and NumPy has no bfloat16.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from epic100.model.mmaction_import import models

BaseHead = models.heads.BaseHead


def keep_loss_on_device(model: nn.Module) -> None:
    """Replace MMAction2's loss in the model's head with `loss_on_device`.

    A head with a loss of its own keeps it. The names of the weights and the head's type in configs
    and model files do not change.

    Args:
        model: Any recognizer. It is changed in place.
    """
    head = getattr(model, "cls_head", None)
    if isinstance(head, BaseHead) and type(head).loss_by_feat is BaseHead.loss_by_feat:
        head.loss_by_feat = MethodType(loss_on_device, head)


def loss_on_device(head: Any, scores: Tensor, samples: list[ActionDataSample]) -> dict[str, Tensor]:
    """Compute what `BaseHead.loss_by_feat` does, in float32 and on the device.

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
    if labels.shape[1:] != scores.shape[1:]:
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
