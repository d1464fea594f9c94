"""Compare the first two steps of a recipe with a loop written from the published code alone.

Each `PublishedLoop` is one of the published training loops in plain torch: its loss, its groups of
parameters, its rates, its clipping and mixing. It gets a network and the clips and labels of two
batches. None of this project's training is in it. Where a loop is not as its source has it, the
recipe must list that in `differs`; `PublishedLoop.differs` has these names.

Sources, at the commits that the recipes name: tools/train_net.py, slowfast/models/optimizer.py and
slowfast/utils/lr_policy.py of epic-kitchens-slowfast; src/systems.py and src/models/tsm.py of
C1-Action-Recognition-TSN-TRN-TSM; main_finetune_classification.py of LaViLa;
scripts/main_lavila_finetune_cls.py of AVION, with timm's Mixup; run_class_finetuning.py and
optim_factory.py of VideoMAE; lr_policy.py and optimizer.py of SlowFast (X3D).
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from torch import nn
from torch.optim import SGD, AdamW

from epic100.data.pairs import read_pairs
from epic100.settings.training import TrainSettings
from epic100.training.train import train
from support.small_runs import copy_results, job
from support.zoo import DEFAULT, shrunk
from tools.recipe_pages import recipe

pytestmark = pytest.mark.slow

BATCH, SEGMENTS = 4, 8
STEPS_OF_AN_EPOCH = SEGMENTS // BATCH
BOTH_CLASSES, ALL_HEADS = ("verb", "noun"), ("pair", "verb", "noun")


class TwoSteps(Exception):
    """Ends a training after its second step."""


# The clips, labels, losses, gradient norms and rates of two steps, with the network before them and
# the weights after. MMEngine builds the hook by its name, so hook and test share this variable.
RECORDED = SimpleNamespace()


@HOOKS.register_module()
class RecorderHook(Hook):
    """Records the first two steps of a training in `RECORDED`, then ends it."""

    priority = "VERY_LOW"

    def before_train(self, runner):
        RECORDED.__dict__.update(clips=[], labels=[], losses=[], norms=[], rates=[])
        RECORDED.network = copy.deepcopy(runner.model)
        runner.optim_wrapper.optimizer.register_step_pre_hook(self.before_step)

    def before_step(self, optimizer, *_):
        RECORDED.norms.append(gradient_norm(optimizer))
        RECORDED.rates.append(sorted({group["lr"] for group in optimizer.param_groups}))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        samples = data_batch["data_samples"]
        RECORDED.clips.append(torch.stack(list(data_batch["inputs"])))
        RECORDED.labels.append(torch.cat([sample.gt_label for sample in samples]))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        RECORDED.losses.append(float(outputs["loss"]))
        if len(RECORDED.losses) == 2:
            RECORDED.weights = copy.deepcopy(runner.model.state_dict())
            raise TwoSteps


def gradient_norm(optimizer):
    """Compute the norm of all gradients together."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


@pytest.fixture
def record_training(lab, tmp_path):
    """Train two steps of a recipe, made small, in float32; return its pair table.

    The fixture is a function of the name of the recipe.
    """
    results = copy_results(lab, tmp_path, SEGMENTS)

    def recorded(name):
        path, _, options = shrunk(name)
        settings = {
            "config": path,
            "load_from": None,
            "from_scratch": True,
            "batch_size": BATCH,
            "workers": 0,
            "device": "cpu",
            "precision": "fp32",
            "options": options | {"default_hooks.recorder": {"type": "RecorderHook"}},
        }
        with pytest.raises(TwoSteps):
            train(TrainSettings.model_validate(settings), **job(lab, results))
        return read_pairs(results / "clean/pairs.tsv")

    return recorded


def normalized(network, clips):
    """Normalize clips to float32 [B, 3, T, H, W], or [B, T, 3, H, W] for a 2D network."""
    mean, std = (getattr(network.data_preprocessor, name).flatten() for name in ("mean", "std"))
    channels = (3, 1, 1)
    if clips.dim() == 6:
        # The clips of a 3D network are [B, 1, 3, T, H, W].
        clips = clips.flatten(0, 1)
        channels = (3, 1, 1, 1)
    return (clips.float() - mean.view(channels)) / std.view(channels)


def scores_of(network, clips):
    """Compute the scores of normalized clips; a 2D network sees their frames as pictures."""
    if network.backbone.__class__.__name__ == "ResNetTSM":
        return network.cls_head(network.backbone(clips.flatten(0, 1)), num_segs=clips.shape[1])
    return network.cls_head(network.backbone(clips))


def cross_entropies(scores, pair_ids, own_share, pairs, heads, smoothing):
    """Compute the loss of each head; for mixed clips as timm's `SoftTargetCrossEntropy`.

    The scores of the heads stand one after the other. In a mixed batch, each clip is mixed with the
    clip at its place from the end, so its label is, too.
    """
    table = torch.tensor(pairs)
    labels = {"pair": pair_ids, "verb": table[pair_ids, 0], "noun": table[pair_ids, 1]}
    classes = {"pair": len(pairs), "verb": 97, "noun": 300}
    head_scores = scores.split([classes[head] for head in heads], dim=1)
    losses = []
    for head, logits in zip(heads, head_scores, strict=True):
        if own_share is None:
            losses.append(F.cross_entropy(logits, labels[head], label_smoothing=smoothing))
            continue
        off = smoothing / classes[head]
        hot = torch.full(logits.shape, off)
        hot.scatter_(1, labels[head][:, None], 1 - smoothing + off)
        soft = hot * own_share + hot.flip(0) * (1 - own_share)
        losses.append((-soft * F.log_softmax(logits, 1)).sum(1).mean())
    return losses


def mixup(clips):
    """Mix a batch as timm's `Mixup`: by Mixup (alpha 0.8) or, half the time, CutMix (alpha 1.0).

    Timm first draws whether to mix at all. Here this is always so, and the draw is left out.

    Returns:
        The mixed clips, and the share of each clip's own label.
    """
    cut = np.random.rand() < 0.5
    own_share = np.random.beta(1.0, 1.0) if cut else np.random.beta(0.8, 0.8)
    if not cut:
        return clips * own_share + clips.flip(0) * (1 - own_share), own_share
    height, width = clips.shape[-2:]
    ratio = math.sqrt(1 - own_share)
    tall, wide = int(height * ratio), int(width * ratio)
    y, x = np.random.randint(height), np.random.randint(width)
    top, bottom = max(y - tall // 2, 0), min(y + tall // 2, height)
    left, right = max(x - wide // 2, 0), min(x + wide // 2, width)
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = clips.flip(0)[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def all_learned(network, decay):
    """Make a single group of all learned parameters."""
    learned = [p for p in network.parameters() if p.requires_grad]
    return [{"params": learned, "weight_decay": decay}]


def flat_apart(network, decay, undecayed=()):
    """Make a group of biases, norms and the names in `undecayed`, and one of all others."""
    decaying, flat = [], []
    for name, parameter in network.named_parameters():
        is_flat = parameter.ndim < 2 or any(part in name for part in undecayed)
        (flat if is_flat else decaying).append(parameter)
    return [{"params": decaying, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


def by_layers(network, decay, layer_decay):
    """Make a group for each parameter; a layer has a share of the rate of the layer above it."""
    depth, groups = len(network.backbone.blocks), []
    for name, parameter in network.named_parameters():
        layer = depth + 1
        if name.startswith("backbone.blocks"):
            layer = int(name.split(".")[2]) + 1
        if name.startswith(("backbone.patch_embed", "backbone.pos_embed", "backbone.cls_token")):
            layer = 0
        own_decay = 0.0 if parameter.ndim == 1 or name.endswith(".bias") else decay
        scale = layer_decay ** (depth + 1 - layer)
        groups.append({"params": [parameter], "weight_decay": own_decay, "scale": scale})
    return groups


def freeze_batch_norm(network, learning=0):
    """Freeze all BatchNorm layers of the backbone but for the first `learning` ones."""
    layers = [
        m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)
    ]
    for layer in layers[learning:]:
        layer.eval().requires_grad_(False)


def warm_up(first, base, epochs):
    """Give the rates of the first two steps of a linear warm-up, which ends with its last step."""
    return np.linspace(first, base, epochs * STEPS_OF_AN_EPOCH).tolist()[:2]


@dataclass(frozen=True, kw_only=True)
class PublishedLoop:
    """A published training loop.

    Attributes:
        heads: The heads that learn, in the order of their scores.
        loss_share: Factor of the sum of their losses; 0.5 makes it the mean of two.
        smoothing: Label smoothing.
        groups: Makes the optimizer's groups of parameters for a network.
        optimizer: Makes the optimizer for these groups.
        rates: Learning rates of the two steps.
        freeze: Freezes layers of a network.
        mixes: Whether clips are mixed.
        clip: Largest norm of the gradients.
        differs: Names of what is not so in the source.
    """

    heads: Sequence[str] = ALL_HEADS
    loss_share: float = 1.0
    smoothing: float = 0.1
    groups: Callable[[nn.Module], list[dict[str, Any]]]
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    rates: Sequence[float]
    freeze: Callable[[nn.Module], None] = lambda network: None
    mixes: bool = False
    clip: float = math.inf
    differs: Sequence[str] = ()

    def two_steps(self, network, pairs):
        """Do two steps on the recorded batches; return the losses, gradient norms and rates."""
        self.freeze(network)
        optimizer = self.optimizer(self.groups(network))
        losses, norms, rates = [], [], []
        batches = zip(RECORDED.clips, RECORDED.labels, self.rates, strict=True)
        for step, (clips, pair_ids, rate) in enumerate(batches):
            network.train()
            self.freeze(network)
            # These are the seeds of `SampleSeedHook` for seed 0 and rank 0.
            torch.manual_seed(step << 8)
            np.random.seed([0, step, 0])
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
            inputs, own_share = normalized(network, clips), None
            if self.mixes:
                inputs, own_share = mixup(inputs)
            scores = scores_of(network, inputs)
            parts = cross_entropies(scores, pair_ids, own_share, pairs, self.heads, self.smoothing)
            loss = self.loss_share * sum(parts)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(
                [p for p in network.parameters() if p.requires_grad], self.clip
            )
            norms.append(gradient_norm(optimizer))
            optimizer.step()
            losses.append(loss.item())
            rates.append(sorted({group["lr"] for group in optimizer.param_groups}))
        return losses, norms, rates


# The constructors set a rate of 1, which each step replaces by its own.
MOMENTUM = partial(SGD, lr=1, momentum=0.9)
NESTEROV = partial(SGD, lr=1, momentum=0.9, nesterov=True)
# Rates are published for a batch of this many segments, and are in proportion to the batch.
BATCH_OF_32, BATCH_OF_64, BATCH_OF_128, BATCH_OF_256 = (BATCH / n for n in (32, 64, 128, 256))
LOOPS = {
    # `train_epoch` of epic-kitchens-slowfast, with `BN.FREEZE`.
    "slowfast_r50": PublishedLoop(
        heads=BOTH_CLASSES,
        loss_share=0.5,
        smoothing=0.0,
        groups=partial(all_learned, decay=1e-4),
        optimizer=NESTEROV,
        rates=warm_up(0.001 * BATCH_OF_32, 0.01 * BATCH_OF_32, epochs=1),
        freeze=freeze_batch_norm,
        differs=["warm_up_ends"],
    ),
    # `EpicActionRecognitionSystem` of C1, whose `lr_mult` and `decay_mult` torch does not read.
    "tsm_r50": PublishedLoop(
        heads=BOTH_CLASSES,
        loss_share=0.5,
        smoothing=0.0,
        groups=partial(all_learned, decay=5e-4),
        optimizer=MOMENTUM,
        rates=[0.01 * BATCH_OF_64] * 2,
        freeze=partial(freeze_batch_norm, learning=1),
        clip=20,
    ),
    # `main` and `train` of LaViLa with `--use-vn-classifier --use-sgd`; all at a tenth. The three
    # heads are one layer with one dropout.
    "lavila_b": PublishedLoop(
        groups=partial(flat_apart, decay=4e-5),
        optimizer=MOMENTUM,
        rates=warm_up(0.1 * 1e-6 * BATCH_OF_128, 0.1 * 3e-3 * BATCH_OF_128, epochs=1),
        differs=["dropout_of"],
    ),
    # `train` of AVION. The box of CutMix is of height and width, as timm has it.
    "avion_b": PublishedLoop(
        heads=["pair"],
        groups=partial(flat_apart, decay=4e-5, undecayed=("cls_token", "pos_embed")),
        optimizer=MOMENTUM,
        rates=warm_up(1e-6 * BATCH_OF_128, 3e-3 * BATCH_OF_128, epochs=2),
        mixes=True,
        differs=["cutmix_of"],
    ),
    # `train_one_epoch` of VideoMAE, with three heads in place of one.
    "videomae_b": PublishedLoop(
        groups=partial(by_layers, decay=0.05, layer_decay=0.75),
        optimizer=partial(AdamW, lr=1, betas=(0.9, 0.999), eps=1e-8),
        rates=warm_up(1e-6 * BATCH_OF_256, 5e-4 * BATCH_OF_256, epochs=5),
        mixes=True,
        differs=["loss"],
    ),
    # The warm-up and the optimizer of X3D in SlowFast. The recipe lists all else as its own choice.
    DEFAULT: PublishedLoop(
        groups=partial(flat_apart, decay=5e-5),
        optimizer=NESTEROV,
        rates=warm_up(0.1 * 0.0045 * BATCH_OF_32, 0.0045 * BATCH_OF_32, epochs=1),
        clip=40,
        differs=["loss", "rate", "no_decay", "clip", "smoothing", "warm_up_ends"],
    ),
}


def distance(weights, others):
    """Compute the norm of the differences between two sets of weights."""
    names = [name for name, value in weights.items() if value.is_floating_point()]
    return math.hypot(*(float((weights[name] - others[name]).norm()) for name in names))


@pytest.mark.parametrize("name", LOOPS)
def test_two_steps_equal_the_reference_loop(name, record_training):
    loop = LOOPS[name]
    pairs = record_training(name)
    assert set(loop.differs) <= set(recipe(name).reference.differs)
    start = copy.deepcopy(RECORDED.network.state_dict())
    losses, norms, rates = loop.two_steps(RECORDED.network, pairs)
    weights = RECORDED.network.state_dict()
    torch.testing.assert_close(RECORDED.losses, losses, rtol=1e-6, atol=0)
    torch.testing.assert_close(RECORDED.norms, norms, rtol=1e-5, atol=0)
    torch.testing.assert_close(RECORDED.rates, rates, rtol=1e-9, atol=0)
    assert weights.keys() == RECORDED.weights.keys()
    # Mixed clips and labels are summed in another order, so they may differ in the last bits.
    tolerance = 1e-4 if loop.mixes else 0.0
    moved = distance(weights, start)
    assert distance(weights, RECORDED.weights) <= tolerance * moved and moved > 0
