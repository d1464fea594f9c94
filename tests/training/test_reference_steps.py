"""Compare the first two steps of a recipe with a loop written from the published code alone.

Each loop below is one of the published training loops in plain torch: its loss, its groups of
parameters, its rates, its clipping and mixing. It gets a network and the clips and labels of two
batches. None of this project's training is in it. Where the recipe differs from its source, it says
so in `differs`; these names are the argument `listed` of the loop.

Sources, at the commits that the recipes name: tools/train_net.py, slowfast/models/optimizer.py and
slowfast/utils/lr_policy.py of epic-kitchens-slowfast; src/systems.py and src/models/tsm.py of
C1-Action-Recognition-TSN-TRN-TSM; main_finetune_classification.py of LaViLa;
scripts/main_lavila_finetune_cls.py of AVION, with timm's Mixup; run_class_finetuning.py and
optim_factory.py of VideoMAE; lr_policy.py and optimizer.py of SlowFast (X3D).
"""

import copy
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from torch import nn

from epic100.segments.pairs import read_pairs
from epic100.settings import TrainSettings
from epic100.training.train import train
from support.small_runs import copy_results, job
from support.zoo import DEFAULT, shrunk
from tools.recipe_pages import recipe

pytestmark = pytest.mark.slow

BATCH, SEGMENTS = 4, 8
# This is the number of steps of an epoch.
STEPS = SEGMENTS // BATCH


class TwoSteps(Exception):
    """Ends a training after its second step."""


@dataclass
class Seen:
    """The record of a training: its network at the start, and its first two steps."""

    network: nn.Module | None = None
    clips: list[torch.Tensor] = field(default_factory=list)
    labels: list[torch.Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


SEEN = Seen()


@HOOKS.register_module()
class RecorderHook(Hook):
    """Records the first two steps in `SEEN`, then ends the training. A trial is not recorded."""

    priority = "VERY_LOW"

    def before_train(self, runner):
        self.tried = runner.work_dir.endswith("preflight")
        if not self.tried:
            SEEN.network = copy.deepcopy(runner.model)
            runner.optim_wrapper.optimizer.register_step_pre_hook(self.before_step)

    def before_step(self, optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        SEEN.norms.append(norm_of([grad for grad in gradients if grad is not None]))
        SEEN.rates.append(sorted({group["lr"] for group in optimizer.param_groups}))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.tried:
            SEEN.clips.append(torch.stack(list(data_batch["inputs"])))
            samples = data_batch["data_samples"]
            SEEN.labels.append(torch.cat([sample.gt_label for sample in samples]))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if not self.tried:
            SEEN.losses.append(float(outputs["loss"]))
            if len(SEEN.losses) == 2:
                SEEN.weights = {k: v.clone() for k, v in runner.model.state_dict().items()}
                raise TwoSteps


def norm_of(gradients):
    """The norm of all gradients together."""
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def ours(name, lab, folder):
    """Train two steps of a recipe, made small, in float32; `SEEN` records them.

    Returns:
        The pair table.
    """
    SEEN.__init__()
    path, _, options = shrunk(name)
    results = copy_results(lab, folder, SEGMENTS)
    options = options | {"default_hooks.recorder": {"type": "RecorderHook"}}
    settings = {
        "config": path,
        "load_from": None,
        "from_scratch": True,
        "batch_size": BATCH,
        "workers": 0,
        "device": "cpu",
        "precision": "fp32",
        "options": options,
    }
    with pytest.raises(TwoSteps):
        train(TrainSettings.model_validate(settings), **job(lab, results))
    return read_pairs(results / "clean/pairs.tsv")


def two_steps(
    network, pairs, *, logits, loss, groups, optimizer, rate, prepare=None, mix=None, clip=None
):
    """Do two steps on the recorded batches: seed, forward, loss, backward, clip, optimizer's step.

    Args:
        network: The network at the start.
        pairs: The pair table.
        logits: Computes the scores of clips.
        loss: Computes the loss of (scores, pair ids, shares of mixed clips, pairs).
        groups: Makes the groups of parameters.
        optimizer: Makes the optimizer of these groups.
        rate: Gives the rate of a step.
        prepare: Sets layers of the network, such as frozen BatchNorm.
        mix: Mixes clips, and returns them with the share of each clip's own label.
        clip: The largest norm of the gradients.

    Returns:
        Losses, norms of the gradients and rates of the steps, and the final weights.
    """
    if prepare:
        prepare(network)
    built = optimizer(groups(network))
    scales = [group.get("scale", 1.0) for group in built.param_groups]
    losses, norms, rates = [], [], []
    for step, (clips, ids) in enumerate(zip(SEEN.clips, SEEN.labels, strict=True)):
        network.train()
        if prepare:
            prepare(network)
        # These are the seeds of `SampleSeedHook` for seed 0 and rank 0.
        torch.manual_seed(step << 8)
        np.random.seed([0, step, 0])
        for group, scale in zip(built.param_groups, scales, strict=True):
            group["lr"] = rate(step) * scale
        inputs = normalized(network, clips)
        inputs, shares = mix(inputs) if mix else (inputs, None)
        batch_loss = loss(logits(network, inputs), ids, shares, pairs)
        built.zero_grad()
        batch_loss.backward()
        learned = [p for group in built.param_groups for p in group["params"]]
        if clip:
            nn.utils.clip_grad_norm_(learned, clip)
        norms.append(norm_of([p.grad for p in learned if p.grad is not None]))
        built.step()
        losses.append(batch_loss.item())
        rates.append(sorted({group["lr"] for group in built.param_groups}))
    return losses, norms, rates, network.state_dict()


def normalized(network, clips):
    """Normalize clips to float32 [B, 3, T, H, W], or [B, T, 3, H, W] for a 2D network."""
    mean, std = (getattr(network.data_preprocessor, name).flatten() for name in ("mean", "std"))
    if clips.dim() == 6:
        # The clips of a 3D network are [B, 1, 3, T, H, W].
        clips = clips.flatten(0, 1)
        return (clips.float() - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
    return (clips.float() - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def of_clips(network, clips):
    """The scores of a 3D network."""
    return network.cls_head(network.backbone(clips))


def of_frames(network, clips):
    """The scores of a 2D network, which sees the frames as pictures."""
    return network.cls_head(network.backbone(clips.flatten(0, 1)), num_segs=clips.shape[1])


def targets(ids, pairs):
    """The labels of samples and the number of classes, for pairs, verbs and nouns."""
    table = torch.tensor(pairs)
    return {"pair": (ids, len(pairs)), "verb": (table[ids, 0], 97), "noun": (table[ids, 1], 300)}


def losses_of(scores, ids, shares, pairs, heads, smoothing=0.0):
    """Compute the cross-entropy of each head; for mixed clips as timm's `SoftTargetCrossEntropy`.

    The scores of the heads stand one after the other. In a mixed batch, each clip is mixed with the
    clip at its place from the end, so its label is, too.
    """
    labels = {head: targets(ids, pairs)[head] for head in heads}
    head_scores = scores.split([classes for _, classes in labels.values()], 1)
    losses = []
    for logits, (label, classes) in zip(head_scores, labels.values(), strict=True):
        if shares is None:
            losses.append(nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, label))
            continue
        off = smoothing / classes
        hot = torch.full((len(label), classes), off)
        hot.scatter_(1, label[:, None], 1 - smoothing + off)
        soft = hot * shares + hot.flip(0) * (1 - shares)
        losses.append((-soft * F.log_softmax(logits, 1)).sum(1).mean())
    return losses


def all_learned(network, **group):
    """A single group of all learned parameters."""
    return [{"params": [p for p in network.parameters() if p.requires_grad], **group}]


def epic_slowfast(network, pairs, listed):
    """`train_epoch` of epic-kitchens-slowfast, with `BN.FREEZE`."""
    later = "warm_up_ends" not in listed

    def freeze(network):
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm3d):
                layer.eval().requires_grad_(False)

    def loss(scores, ids, shares, pairs):
        verb, noun = losses_of(scores, ids, shares, pairs, ("verb", "noun"))
        return 0.5 * (verb + noun)

    def rate(step):
        base, begin = 0.01 * BATCH / 32, 0.001 * BATCH / 32
        epoch = step / STEPS if later else step / (STEPS - 1)
        return begin + (base - begin) * epoch

    return two_steps(
        network,
        pairs,
        logits=of_clips,
        loss=loss,
        prepare=freeze,
        rate=rate,
        groups=lambda network: all_learned(network, weight_decay=1e-4),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=True),
    )


def epic_tsm(network, pairs, listed):
    """`EpicActionRecognitionSystem` of C1, whose `lr_mult` and `decay_mult` torch does not read."""

    def partial(network):
        for number, layer in enumerate(
            m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)
        ):
            if number >= 1:
                layer.eval().requires_grad_(False)

    def loss(scores, ids, shares, pairs):
        return sum(losses_of(scores, ids, shares, pairs, ("verb", "noun"))) / 2

    return two_steps(
        network,
        pairs,
        logits=of_frames,
        loss=loss,
        prepare=partial,
        clip=20,
        rate=lambda step: 0.01 * BATCH / 64,
        groups=lambda network: all_learned(network, weight_decay=5e-4),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9),
    )


def warm_up(first, base, epochs):
    """The rates of a linear warm-up by `np.linspace`, as LaViLa, AVION and VideoMAE have it."""
    rates = np.linspace(first, base, epochs * STEPS)
    return lambda step: float(rates[step])


def flat_apart(network, decay, kept=()):
    """Make two groups: one that decays, and one of biases, norms and the names in `kept`."""
    decayed, undecayed = [], []
    for name, parameter in network.named_parameters():
        is_kept = parameter.ndim < 2 or any(part in name for part in kept)
        (undecayed if is_kept else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]


def lavila(network, pairs, listed):
    """`main` and `train` of LaViLa with `--use-vn-classifier --use-sgd`; all at a tenth."""
    # The three heads are one layer with one dropout, and the recipe must list that.
    assert "dropout_of" in listed

    def loss(scores, ids, shares, pairs):
        return sum(losses_of(scores, ids, shares, pairs, ("pair", "verb", "noun"), 0.1))

    scale = 0.1 * BATCH / 128
    return two_steps(
        network,
        pairs,
        logits=of_clips,
        loss=loss,
        rate=warm_up(1e-6 * scale, 3e-3 * scale, 1),
        groups=lambda network: flat_apart(network, 4e-5),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9),
    )


def mixup(clips):
    """Mix a batch as timm's `Mixup`: by Mixup (alpha 0.8) or, half the time, CutMix (alpha 1.0).

    Timm first draws whether to mix at all. Here this is always so, and the draw is left out.

    Returns:
        The mixed clips, and the share of each clip's own label.
    """
    cut = np.random.rand() < 0.5
    kept = np.random.beta(1.0, 1.0) if cut else np.random.beta(0.8, 0.8)
    if not cut:
        return clips * kept + clips.flip(0) * (1 - kept), kept
    height, width = clips.shape[-2:]
    ratio = math.sqrt(1 - kept)
    tall, wide = int(height * ratio), int(width * ratio)
    y, x = np.random.randint(height), np.random.randint(width)
    top, bottom = max(y - tall // 2, 0), min(y + tall // 2, height)
    left, right = max(x - wide // 2, 0), min(x + wide // 2, width)
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = clips.flip(0)[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def avion(network, pairs, listed):
    """`train` of AVION; `cutmix_of`: the box is of height and width, as timm has it."""
    assert "cutmix_of" in listed

    def loss(scores, ids, shares, pairs):
        return losses_of(scores, ids, shares, pairs, ("pair",), 0.1)[0]

    scale = BATCH / 128
    return two_steps(
        network,
        pairs,
        logits=of_clips,
        loss=loss,
        mix=mixup,
        rate=warm_up(1e-6 * scale, 3e-3 * scale, 2),
        groups=lambda network: flat_apart(network, 4e-5, ("cls_token", "pos_embed")),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9),
    )


def videomae(network, pairs, listed):
    """`train_one_epoch` of VideoMAE; `loss`: three heads in place of one."""
    assert "loss" in listed
    depth = len(network.backbone.blocks)

    def layer_of(name):
        if name.startswith(("backbone.patch_embed", "backbone.pos_embed", "backbone.cls_token")):
            return 0
        return int(name.split(".")[2]) + 1 if name.startswith("backbone.blocks") else depth + 1

    def groups(network):
        made = []
        for name, parameter in network.named_parameters():
            decay = 0.0 if parameter.ndim == 1 or name.endswith(".bias") else 0.05
            scale = 0.75 ** (depth + 1 - layer_of(name))
            made.append({"params": [parameter], "weight_decay": decay, "scale": scale})
        return made

    def loss(scores, ids, shares, pairs):
        return sum(losses_of(scores, ids, shares, pairs, ("pair", "verb", "noun"), 0.1))

    scale = BATCH / 256
    return two_steps(
        network,
        pairs,
        logits=of_clips,
        loss=loss,
        mix=mixup,
        groups=groups,
        rate=warm_up(1e-6 * scale, 5e-4 * scale, 5),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1, betas=(0.9, 0.999), eps=1e-8),
    )


def x3d(network, pairs, listed):
    """The default recipe, whose loss, rate, groups and clipping are listed as ours."""
    assert {"loss", "rate", "no_decay", "clip", "smoothing"} <= listed
    later = "warm_up_ends" not in listed

    def loss(scores, ids, shares, pairs):
        return sum(losses_of(scores, ids, shares, pairs, ("pair", "verb", "noun"), 0.1))

    def rate(step):
        base = 0.0045 * BATCH / 32
        return base * (0.1 + 0.9 * (step / STEPS if later else step / (STEPS - 1)))

    return two_steps(
        network,
        pairs,
        logits=of_clips,
        loss=loss,
        rate=rate,
        clip=40,
        groups=lambda network: flat_apart(network, 5e-5),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=True),
    )


MIXED = ("avion_b", "videomae_b")
LOOPS = {
    "slowfast_r50": epic_slowfast,
    "tsm_r50": epic_tsm,
    "lavila_b": lavila,
    "avion_b": avion,
    "videomae_b": videomae,
    DEFAULT: x3d,
}


@pytest.mark.parametrize("name", LOOPS)
def test_two_steps_are_those_of_a_loop_written_from_the_source(name, lab, tmp_path):
    pairs = ours(name, lab, tmp_path)
    listed = set(recipe(name).reference.differs)
    start = copy.deepcopy(SEEN.network)
    losses, norms, rates, weights = LOOPS[name](SEEN.network, pairs, listed)
    torch.testing.assert_close(SEEN.losses, losses, rtol=1e-6, atol=0)
    torch.testing.assert_close(SEEN.norms, norms, rtol=1e-5, atol=0)
    torch.testing.assert_close(SEEN.rates, rates, rtol=1e-9, atol=0)
    assert weights.keys() == SEEN.weights.keys()
    before = start.state_dict()

    def distance(first, second):
        keys = [key for key, value in first.items() if value.is_floating_point()]
        return sum(float((first[key] - second[key]).norm() ** 2) for key in keys) ** 0.5

    # Mixed clips and labels are summed in another order, so they may differ in the last bits.
    difference, moved = distance(weights, SEEN.weights), distance(weights, before)
    assert difference == 0 or name in MIXED and difference <= 1e-4 * moved
    assert moved > 0
    # The published warm-up ends a step later: its first rate is the same, and its second is lower.
    if "warm_up_ends" in listed:
        _, _, others, _ = LOOPS[name](start, pairs, listed - {"warm_up_ends"})
        assert others[0] == rates[0] and others[1] < rates[1]
