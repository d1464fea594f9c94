"""Register the modules of models that recipes can name.

- `ChannelsLastRecognizer3D`: a recognizer with channels-last weights;
- `EpicHead`: any head of MMAction2, with outputs for pairs, verbs and nouns, and their loss. The
  last layer has one output per pair, verb or noun, and the scores are split by position. In a
  validation, its `predict` also computes the loss;
- `MixClips`: Mixup and CutMix of a batch, on the device of the model.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.data import default_collate

import epic100.model.hugging_face
import epic100.model.networks  # noqa: F401  (registers what they define)
from epic100.base.errors import EpicError
from epic100.data.pairs import read_pairs
from epic100.model.mmaction_import import models
from epic100.model.model_file import output_sizes, split_outputs

BaseHead = models.heads.BaseHead
HEAD = "EpicHead"
# In a validation, each sample whose pair is in training has this field: the mean loss of these
# samples of its batch, and all other values that the head's `loss` returns, by name.
LOSS_FIELD = "head_values"
# These functions reduce the losses of several tasks to one.
REDUCE_BY_NAME: Mapping[str, Callable[[Tensor], Tensor]] = {"sum": torch.sum, "mean": torch.mean}


@MODELS.register_module()
class ChannelsLastRecognizer3D(models.Recognizer3D):
    """MMAction2's Recognizer3D with channels-last weights in the backbone.

    It computes the same sums, 1.4 times faster on a CPU. Weights of one of the two classes also
    load into the other.

    The layout is set when the model is built, not later by a hook. DistributedDataParallel (torch
    2.13) lays out its gradients as the weights are when it is built. If the layout of the weights
    changes after that, the first iteration gets gradients with permuted elements.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        """Build MMAction2's recognizer, and change the layout of its weights."""
        super().__init__(*args, **kwargs)
        lay_out_channels_last(self.backbone)


def lay_out_channels_last(module: nn.Module) -> None:
    """Change the 5-D weights of a module to channels-last, in place. Other weights stay unchanged.

    `Module.to(memory_format=torch.channels_last_3d)` fails on modules that also have 4-D weights,
    such as 2D backbones and the patch embedding of transformers.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def head_config(
    head: Mapping[str, Any],
    pairs: str,
    heads: str = "pair",
    num_verbs: int = 97,
    num_nouns: int = 300,
    **_: Any,
) -> dict[str, Any]:
    """Complete the config of MMAction2's head by the number of outputs.

    With this config, the head can be built where there is no pair table. The arguments are as for
    `epic_head`.

    Raises:
        EpicError: The recipe states a number of outputs, or `heads` is unknown.
    """
    outputs = sum(output_sizes(heads, len(read_pairs(pairs)), num_verbs, num_nouns).values())
    if "num_classes" in head:
        raise EpicError(
            f"the head of the model has `num_classes` {head['num_classes']}, but {pairs} and "
            f"`heads` ({heads}) say how many there are, {outputs}; take `num_classes` out"
        )
    return {**head, "num_classes": outputs}


@MODELS.register_module(HEAD)
def epic_head(
    head: Mapping[str, Any],
    pairs: str,
    heads: str = "pair",
    num_verbs: int = 97,
    num_nouns: int = 300,
    loss: Literal["sum", "mean"] = "sum",
) -> nn.Module:
    """Build a head of MMAction2 with outputs for the tasks of `heads`, and with their loss.

    The head is not wrapped in another module, so its weights have their usual names.

    Args:
        head: The config of MMAction2's head, without `num_classes`.
        pairs: Path of the pair table.
        heads: A key of `model_file.OUTPUTS`.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        loss: How to reduce the losses of several tasks, a key of `REDUCE_BY_NAME`.

    Raises:
        EpicError: As for `head_config`; or `loss` is neither sum nor mean, or the loss has weights
            and there are several `heads`.
    """
    built = MODELS.build(head_config(head, pairs, heads, num_verbs, num_nouns))
    if loss not in REDUCE_BY_NAME:
        raise EpicError(f"`loss` of the head is {loss!r}; expected sum or mean")

    if heads != "pair":
        # MMAction2's heads have this cross-entropy if their config names no loss.
        own = built.loss_cls
        if type(own) is models.losses.CrossEntropyLoss and own.loss_weight == 1:
            own = None if own.class_weight is None else own
        # Prediction builds the head without the tasks, so weights would have other names there.
        if isinstance(own, nn.Module) and own.state_dict():
            raise EpicError(
                f"the loss of the head ({type(own).__name__}) has weights, which works for "
                f"pairs alone, but `heads` is {heads!r}; set `train: heads: pair`"
            )
        # `OutputsLoss` smooths the labels itself, so the head must not smooth them, too.
        smoothing, built.label_smooth_eps = built.label_smooth_eps, 0.0
        tasks = (read_pairs(pairs), heads, num_verbs, num_nouns)
        built.loss_cls = OutputsLoss(*tasks, smoothing, loss, own)

    built.predict = MethodType(predict_with_loss, built)
    # MMAction2's function would make a GPU wait for the CPU in each step. A head class with its own
    # way to compute the loss keeps it.
    if type(built).loss_by_feat is BaseHead.loss_by_feat:
        built.loss_by_feat = MethodType(loss_on_device, built)
    return built


class OutputsLoss(nn.Module):
    """The sum or the mean of the losses of pairs, verbs and nouns; by default cross-entropies.

    LaViLa is trained with the sum of three losses. epic-kitchens-slowfast, and the TSN and TSM of
    EPIC-KITCHENS' authors, are trained with the mean of two. With SGD, the choice between sum and
    mean has the effect of another learning rate.

    Args:
        pairs: The pair table: verb, noun and count.
        heads: A key of `model_file.OUTPUTS`.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
        smoothing: Share of each label that is spread evenly over all pairs, verbs or nouns.
        loss: A key of `REDUCE_BY_NAME`.
        own: The loss of each task in place of the cross-entropy: a function of logits [B, classes],
            and labels int64 [B] or, of smoothed labels and mixed clips, shares [B, classes]. It
            returns a scalar, or scalars by name.

    Attributes:
        sizes: The number of outputs by task.
        classes: For each task, the class of every pair, int64 [P].
    """

    def __init__(
        self,
        pairs: Sequence[tuple[int, int, int]],
        heads: str,
        num_verbs: int,
        num_nouns: int,
        smoothing: float = 0.0,
        loss: str = "sum",
        own: Callable[[Tensor, Tensor], Any] | None = None,
    ) -> None:
        """Count the outputs of each task, and list the verb and the noun of each pair."""
        super().__init__()
        # This function joins the losses of the tasks.
        self.reduce = REDUCE_BY_NAME[loss]
        self.sizes = output_sizes(heads, len(pairs), num_verbs, num_nouns)
        self.smoothing = smoothing
        self.own = own
        verbs, nouns, _ = torch.tensor(pairs).unbind(1)
        self.classes = {"pair": torch.arange(len(pairs)), "verb": verbs, "noun": nouns}

    def forward(self, scores: Tensor, label: Tensor) -> Any:
        """Compute the loss of a batch.

        Args:
            scores: Logits [B, all outputs].
            label: Pair ids, int64 [B], or the shares of pairs in mixed clips [B, P]. The share of a
                verb is the sum of the shares of its pairs, and so is the share of a noun.

        Returns:
            The loss, a scalar; or scalars by name, if the own loss returns such.
        """
        losses = []
        for task, logits in split_outputs(scores.float(), self.sizes).items():
            # The copy on the device is stored, so that the classes are copied only once.
            classes = self.classes[task] = self.classes[task].to(scores.device)
            if label.is_floating_point():
                labels = torch.zeros_like(logits).index_add_(1, classes, label.to(logits.dtype))
            else:
                labels = classes[label]
            losses.append(self._loss_of_task(logits, labels))
        # The losses of the tasks, or their values of each name, become one tensor.
        return tree_map(self.reduce, default_collate(losses))

    def _loss_of_task(self, logits: Tensor, labels: Tensor) -> Any:
        """Compute the loss of one task from its logits [B, classes] and its labels."""
        if self.own is not None:
            return self.own(logits, smoothed(labels, logits.shape[1], self.smoothing))
        if labels.is_floating_point():
            return mixed_cross_entropy(logits, labels, self.smoothing)
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)


def mixed_cross_entropy(logits: Tensor, shares: Tensor, smoothing: float) -> Tensor:
    """Compute the mean cross-entropy of labels that are shares of several classes.

    If each label has only one class, the result equals `F.cross_entropy` of these classes to the
    bit: the sums are the same and in the same order. Torch's own function for shares differs.

    Args:
        logits: float32 [B, classes].
        shares: float32 [B, classes], which add up to 1.
        smoothing: Share of each label that is spread evenly over the classes.
    """
    log_probs = logits.log_softmax(dim=1)
    weighted = (log_probs * shares).sum(dim=1, keepdim=True)
    # `nll_loss` of a single column is minus its mean, summed in the order of `cross_entropy`.
    column = torch.zeros(len(weighted), dtype=torch.int64, device=weighted.device)
    loss_sum = -log_probs.sum(dim=1).mean()
    return (1 - smoothing) * F.nll_loss(weighted, column) + loss_sum * (smoothing / logits.shape[1])


def loss_on_device(head: Any, scores: Tensor, samples: list[ActionDataSample]) -> dict[str, Tensor]:
    """Compute loss and top-k accuracy as MMAction2's `BaseHead.loss_by_feat`, but on the device.

    MMAction2's function (1.2.0) computes top-k with NumPy between the forward and the backward
    pass. So the GPU waits for a full sort on the CPU, and bfloat16, which NumPy does not have, is
    an error. This function computes in float32.

    Args:
        head: A head of MMAction2.
        scores: Logits [B, P] in any float type, such as autocast's.
        samples: Samples with the labels: class ids, or probabilities [P] (Mixup and CutMix).

    Returns:
        The losses, and `top{k}_acc` (0 to 1) if the labels are ids.
    """
    scores = scores.float()
    labels = torch.stack([sample.gt_label for sample in samples]).to(scores.device)
    accuracies: dict[str, Tensor] = {}
    if not labels.is_floating_point():
        labels = labels.flatten()
        # The share of samples whose label is among their k highest scores.
        highest = scores.detach().topk(min(max(head.topk), scores.shape[1]), dim=1).indices
        is_correct = highest.eq(labels[:, None])
        for k in head.topk:
            accuracies[f"top{k}_acc"] = is_correct[:, :k].any(dim=1).double().mean()
    loss = head.loss_cls(scores, smoothed(labels, head.num_classes, head.label_smooth_eps))
    return accuracies | (loss if isinstance(loss, dict) else {"loss_cls": loss})


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Spread a share of each label evenly over all classes, as MMAction2's heads do.

    Args:
        labels: int64 [B], or shares [B, classes].
        classes: Number of classes.
        smoothing: The share that is spread; with 0, the labels are returned as they are.
    """
    if not smoothing:
        return labels
    if labels.dim() == 1:
        labels = F.one_hot(labels, num_classes=classes)
    return (1 - smoothing) * labels + smoothing / classes


def predict_with_loss(
    head: Any, feats: Any, data_samples: list[ActionDataSample], **arguments: Any
) -> list[ActionDataSample]:
    """Predict as the head's class does, and give samples with a known pair the field `LOSS_FIELD`.

    The loss is computed by the head's `loss`, so it is what a training with this head minimises.
    MMEngine's validation calls this function; a prediction calls the head itself.

    Args:
        head: The head.
        feats: Features of V views of each of B samples: tensors [B * V, ...], also nested in lists.
            A 2D model has V frames.
        data_samples: B samples. The label of an unknown pair is negative.
        **arguments: The other arguments of the head's `forward`, such as `num_segs`.
    """
    predicted = type(head).predict(head, feats, data_samples, **arguments)
    # The samples whose loss is defined, and their features.
    known = []
    for row, sample in enumerate(data_samples):
        if sample.gt_label.item() >= 0 and not sample.get("broken"):
            known.append(row)
    if not known:
        return predicted
    by_sample = (len(data_samples), -1)
    feats = tree_map_only(
        Tensor, lambda rows: rows.unflatten(0, by_sample)[known].flatten(0, 1), feats
    )

    # The head makes one row of scores from the `num_segs` frames of a view of a 2D model.
    views = max(1, len(tree_leaves(feats)[0]) // len(known) // (arguments.get("num_segs") or 1))
    samples_of_views = [data_samples[row] for row in np.repeat(known, views)]
    # The sum of what is called a loss is taken as in a training step; the method uses no `self`.
    _, outputs = BaseModel.parse_losses(head, head.loss(feats, samples_of_views, **arguments))
    values = tree_map(Tensor.item, dict(outputs))
    for row in known:
        data_samples[row].set_metainfo({LOSS_FIELD: values})
    return predicted


@MODELS.register_module()
class MixClips:
    """Mixes a batch with itself in reverse order, by Mixup or CutMix.

    One of the two is drawn for each batch, with one share for all its clips. So does timm's Mixup,
    which VideoMAE and AVION use. MMAction2's own classes are not used, since they read labels back
    from the device. NumPy's generator draws all numbers; `SampleSeedHook` seeds it in each
    iteration.

    Args:
        num_classes: Number of pairs; the workflow sets it.
        mixup: Alpha of Mixup: both parameters of the beta distribution of a clip's share.
        cutmix: Alpha of CutMix, likewise.
        cutmix_share: Share of the batches that are mixed by CutMix.
    """

    def __init__(
        self, num_classes: int, mixup: float = 0.8, cutmix: float = 1.0, cutmix_share: float = 0.5
    ):
        """Store the settings, which the class describes."""
        self.num_classes = num_classes
        self.mixup_alpha, self.cutmix_alpha = mixup, cutmix
        self.cutmix_share = cutmix_share

    def __call__(
        self, clips: Tensor, samples: list[ActionDataSample]
    ) -> tuple[Tensor, list[ActionDataSample]]:
        """Mix the clips of a batch, and their labels with the same shares.

        Args:
            clips: float [B, ..., H, W].
            samples: Samples with pair ids.

        Returns:
            The mixed clips, and the samples, whose labels are now shares of pairs [P].
        """
        is_cutmix = np.random.rand() < self.cutmix_share
        alpha = self.cutmix_alpha if is_cutmix else self.mixup_alpha
        kept_share = np.random.beta(alpha, alpha)
        other_clips = clips.flip(0)
        if is_cutmix:
            height, width = clips.shape[-2:]
            # A rectangle that has this share of both sides has the area that is not kept.
            side_share = np.sqrt(1 - kept_share)
            (top, bottom), (left, right) = _span(height, side_share), _span(width, side_share)
            clips = clips.clone()
            clips[..., top:bottom, left:right] = other_clips[..., top:bottom, left:right]
            # A rectangle near an edge is cut, so the share is computed from its real area.
            kept_share = 1 - (bottom - top) * (right - left) / (height * width)
        else:
            clips = other_clips.lerp(clips, kept_share)
        ids = torch.stack([sample.gt_label for sample in samples]).flatten()
        labels = F.one_hot(ids, self.num_classes).float()
        for sample, label in zip(samples, labels.flip(0).lerp(labels, kept_share), strict=True):
            sample.set_gt_label(label)
        return clips, samples


def _span(length: int, fraction: float) -> tuple[int, int]:
    """Draw start and end of a window along one side, of this fraction of it, cut at the edges."""
    centre, half = np.random.randint(length), int(length * fraction) // 2
    return max(0, centre - half), min(length, centre + half)
