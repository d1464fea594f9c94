"""The first two steps of a recipe, and of a loop that was written from its source alone.

Each function below is one of the published training loops in plain torch: its loss, its groups of
parameters, its rates, its clipping and mixing. It gets a network, the clips and labels of two
batches, and the seed of each step. None of this project's training is in it. What is not as there
is an argument of the loop, `listed`, and a name of `differs` in the recipe.

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
# An epoch has so many steps.
STEPS = SEGMENTS // BATCH


class TwoSteps(Exception):
    """Ends a training."""


@dataclass
class Seen:
    """What a training did."""

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
    """Keeps what the first two steps see and do, then ends the training."""

    priority = "VERY_LOW"

    def before_train(self, runner):
        self.tried = runner.work_dir.endswith("preflight")
        if not self.tried:
            SEEN.network = copy.deepcopy(runner.model)
            runner.optim_wrapper.optimizer.register_step_pre_hook(self.before_step)

    def before_step(self, optimizer, *_):
        given = [p.grad for group in optimizer.param_groups for p in group["params"]]
        SEEN.norms.append(norm_of([grad for grad in given if grad is not None]))
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
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def ours(name, lab, folder):
    """Two steps of this project's training of a recipe, in small and in float32."""
    SEEN.__init__()
    path, _, options = shrunk(name)
    results = copy_results(lab, folder, SEGMENTS)
    kept = options | {"default_hooks.recorder": {"type": "RecorderHook"}}
    settings = {"config": path, "load_from": None, "from_scratch": True, "batch_size": BATCH,
                "workers": 0, "device": "cpu", "precision": "fp32", "options": kept}  # fmt: skip
    with pytest.raises(TwoSteps):
        train(TrainSettings.model_validate(settings), **job(lab, results))
    return read_pairs(results / "clean/pairs.tsv")


def two_steps(network, pairs, *, logits, loss, groups, optimizer, rate, prepare=None, mix=None,
              clip=None):  # fmt: skip
    """What every loop does: seed, prepare, forward, loss, backward, clip, step."""
    if prepare:
        prepare(network)
    chosen = optimizer(groups(network))
    scales = [group.get("scale", 1.0) for group in chosen.param_groups]
    losses, norms, rates = [], [], []
    for step, (clips, ids) in enumerate(zip(SEEN.clips, SEEN.labels, strict=True)):
        network.train()
        if prepare:
            prepare(network)
        torch.manual_seed(step << 8)
        np.random.seed([0, step, 0])
        for group, scale in zip(chosen.param_groups, scales, strict=True):
            group["lr"] = rate(step) * scale
        inputs = normalized(network, clips)
        inputs, shares = mix(inputs) if mix else (inputs, None)
        lost = loss(logits(network, inputs), ids, shares, pairs)
        chosen.zero_grad()
        lost.backward()
        learned = [p for group in chosen.param_groups for p in group["params"]]
        if clip:
            nn.utils.clip_grad_norm_(learned, clip)
        norms.append(norm_of([p.grad for p in learned if p.grad is not None]))
        chosen.step()
        losses.append(lost.item())
        rates.append(sorted({group["lr"] for group in chosen.param_groups}))
    return losses, norms, rates, network.state_dict()


def normalized(network, clips):
    """float32 [B, 3, T, H, W], or [B, T, 3, H, W] of a 2D network."""
    mean, std = (getattr(network.data_preprocessor, name).flatten() for name in ("mean", "std"))
    if clips.dim() == 6:
        clips = clips.flatten(0, 1)
        return (clips.float() - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
    return (clips.float() - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def of_clips(network, clips):
    return network.cls_head(network.backbone(clips))


def of_frames(network, clips):
    return network.cls_head(network.backbone(clips.flatten(0, 1)), num_segs=clips.shape[1])


def targets(ids, pairs):
    """Pair, verb and noun of each sample, and the number of classes of each."""
    table = torch.tensor(pairs)
    return {"pair": (ids, len(pairs)), "verb": (table[ids, 0], 97), "noun": (table[ids, 1], 300)}


def losses_of(scores, ids, shares, pairs, heads, smoothing=0.0):
    """The cross-entropy of each head; of mixed clips as timm's `SoftTargetCrossEntropy`."""
    known = targets(ids, pairs)
    found = []
    for logits, head in zip(scores.split([known[h][1] for h in heads], 1), heads, strict=True):
        label, classes = known[head]
        if shares is None:
            found.append(nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, label))
            continue
        off = smoothing / classes
        hot = torch.full((len(label), classes), off)
        hot.scatter_(1, label[:, None], 1 - smoothing + off)
        soft = hot * shares + hot.flip(0) * (1 - shares)
        found.append((-soft * F.log_softmax(logits, 1)).sum(1).mean())
    return found


def all_learned(network, **group):
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
        network, pairs, logits=of_clips, loss=loss, prepare=freeze, rate=rate,
        groups=lambda network: all_learned(network, weight_decay=1e-4),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=True),
    )  # fmt: skip


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
        network, pairs, logits=of_frames, loss=loss, prepare=partial, clip=20,
        rate=lambda step: 0.01 * BATCH / 64,
        groups=lambda network: all_learned(network, weight_decay=5e-4),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9),
    )  # fmt: skip


def warm_up(first, base, epochs):
    """`np.linspace` of the warm-up, as LaViLa, AVION and VideoMAE have it."""
    rates = np.linspace(first, base, epochs * STEPS)
    return lambda step: float(rates[step])


def flat_apart(network, decay, kept=()):
    """Two groups: what decays, and what has fewer than two dimensions or one of the names."""
    decayed, flat = [], []
    for name, parameter in network.named_parameters():
        own = parameter.ndim < 2 or any(part in name for part in kept)
        (flat if own else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


def lavila(network, pairs, listed):
    """`main` and `train` of LaViLa with `--use-vn-classifier --use-sgd`; all at a tenth."""
    # The three heads are one layer with one dropout, and the recipe must list that.
    assert "dropout_of" in listed

    def loss(scores, ids, shares, pairs):
        return sum(losses_of(scores, ids, shares, pairs, ("pair", "verb", "noun"), 0.1))

    scale = 0.1 * BATCH / 128
    return two_steps(
        network, pairs, logits=of_clips, loss=loss, rate=warm_up(1e-6 * scale, 3e-3 * scale, 1),
        groups=lambda network: flat_apart(network, 4e-5),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9),
    )  # fmt: skip


def mixup(clips):
    """timm's `Mixup` of a batch: (0.8, 1.0), each half the time. Its first draw is always yes."""
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
        network, pairs, logits=of_clips, loss=loss, mix=mixup,
        rate=warm_up(1e-6 * scale, 3e-3 * scale, 2),
        groups=lambda network: flat_apart(network, 4e-5, ("cls_token", "pos_embed")),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9),
    )  # fmt: skip


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
        network, pairs, logits=of_clips, loss=loss, mix=mixup, groups=groups,
        rate=warm_up(1e-6 * scale, 5e-4 * scale, 5),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1, betas=(0.9, 0.999), eps=1e-8),
    )  # fmt: skip


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
        network, pairs, logits=of_clips, loss=loss, rate=rate, clip=40,
        groups=lambda network: flat_apart(network, 5e-5),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9, nesterov=True),
    )  # fmt: skip


MIXED = ("avion_b", "videomae_b")
LOOPS = {"slowfast_r50": epic_slowfast, "tsm_r50": epic_tsm, "lavila_b": lavila,
         "avion_b": avion, "videomae_b": videomae, DEFAULT: x3d}  # fmt: skip


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
    learned = [key for key, value in weights.items() if value.is_floating_point()]
    far = sum(float((weights[key] - SEEN.weights[key]).norm() ** 2) for key in learned) ** 0.5
    moved = sum(float((weights[key] - before[key]).norm() ** 2) for key in learned) ** 0.5
    # Mixed clips and labels are summed in another order, so they may differ in the last bits.
    assert far == 0 or name in MIXED and far <= 1e-4 * moved
    assert moved > 0
    # The published warm-up ends a step later: its first rate is the same, and its second is lower.
    if "warm_up_ends" in listed:
        _, _, others, _ = LOOPS[name](start, pairs, listed - {"warm_up_ends"})
        assert others[0] == rates[0] and others[1] < rates[1]
