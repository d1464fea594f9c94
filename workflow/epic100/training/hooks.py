"""What MMEngine calls in a training beside its loop: hooks, and which parameters decay.

The seeds let a run resume at any batch. Compilation and parts change time and memory but not what
is learned, except for rounding. Two hooks only say what a recipe wants of saves and reports, which
the loop makes itself; one of them chooses what a run resumes from.
"""

import re
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.hooks import Hook
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from epic100.base.errors import EpicError
from epic100.base.ranks import on_rank_0, rank, world
from epic100.model.forward import bare
from epic100.model.weights import read_weights, tensors_of
from epic100.training.report import Report
from epic100.training.run import checkpoints, pick_up, read_stamp, run_stamp
from epic100.training.state import Saves, take_own_state

# MMEngine reads a path with this prefix by `load_from_guarded`.
GUARDED = "guarded:"
# These are the rules of `paramwise_cfg`, and the names of a transformer that they go by.
RULES = ("decay_from", "no_decay", "layer_decay")
BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.")
EMBEDDING = re.compile(r"backbone\.(cls_token|pos_embed|time_embed|patch_embed)")

# MMEngine calls the hook with the lowest number first. Its own hooks have these numbers:
# RuntimeInfoHook 10; IterTimerHook, DistSamplerSeedHook, SyncBuffersHook and EMAHook 50; LoggerHook
# 60; ParamSchedulerHook 70. If two numbers are equal, the default hook runs first.
PRIORITIES = {
    "SampleSeedHook": 10,  # It runs before any random number is drawn.
    "FrozenBatchNormHook": 12,
    "CompileHook": 51,
    "AccumulateHook": 52,
    "RecomputeHook": 53,
    "TelemetryHook": 71,
    "SafeCheckpointHook": 90,
}


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Seed augmentation with (seed, epoch, sample), and dropout with (seed, iteration, rank).

    MMEngine restores no random state on resume and gives workers the same seeds in every epoch.
    With these seeds nothing needs restoring, and the number of workers does not change the result.
    """

    priority = PRIORITIES["SampleSeedHook"]

    def before_train_epoch(self, runner: Runner) -> None:
        """Pass the epoch to the dataset, also in workers that are already running."""
        runner.train_dataloader.dataset.set_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the random draws of the model in this iteration."""
        torch.manual_seed((runner.seed << 32) + (runner.iter << 8) + rank())
        np.random.seed([runner.seed, runner.iter, rank()])  # TRN's head draws from NumPy.


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All BatchNorm layers of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def freeze_scales(model: nn.Module) -> None:
    """Freeze scale and shift of every BatchNorm layer.

    Call it before DistributedDataParallel wraps the model, which waits for the gradients of all
    trainable parameters.
    """
    for layer in batch_norms(model):
        for parameter in layer.parameters():
            parameter.requires_grad_(False)


@HOOKS.register_module()
class FrozenBatchNormHook(Hook):
    """Keep BatchNorm as it starts: statistics, scale and shift.

    It does what epic-kitchens-slowfast does with `BN.FREEZE` (`freeze_fn` in
    video_model_builder.py). Scale and shift are frozen when the model is built (`QuietRunner`), the
    statistics here.
    """

    priority = PRIORITIES["FrozenBatchNormHook"]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Undo `model.train()`, which is called at the start of each epoch."""
        for layer in batch_norms(bare(runner.model)):
            layer.eval()


@HOOKS.register_module()
class CompileHook(Hook):
    """Run the backbone through `torch.compile` in training.

    Validation is not compiled: its other picture size and batch size would each need another
    compilation. MMEngine's own `compile` takes the whole step, in which its optimizer wrapper
    counts: torch compiles each of the first eight steps anew, then compiles nothing.
    """

    priority = PRIORITIES["CompileHook"]

    def before_train(self, runner: Runner) -> None:
        """Compile at the first batch of each shape; names of weights do not change."""
        backbone = bare(runner.model).backbone
        eager: Callable[..., torch.Tensor] = backbone.forward
        # With dynamic sizes, a second shape would recompile for any size. A resumed run meets the
        # shapes in another order and would then use other kernels.
        compiled = torch.compile(eager, dynamic=False)
        backbone.forward = lambda x: (compiled if backbone.training else eager)(x)


@HOOKS.register_module()
class AccumulateHook(Hook):
    """Train on each batch in parts: the memory of one part, the optimizer step of the whole batch.

    The split is inside the iteration (MMEngine's own accumulation counts iterations). So no step
    spans a checkpoint or the end of an epoch, and a resumed run stays exact.

    Args:
        most: Segments of a part, at most. The parts are of equal size, but for the last.
    """

    priority = PRIORITIES["AccumulateHook"]

    def __init__(self, most: int) -> None:
        self.most = most

    def before_train(self, runner: Runner) -> None:
        """Tell the loop."""
        runner.train_loop.most = self.most


@HOOKS.register_module()
class RecomputeHook(Hook):
    """Keep what one block of a model computes, not all, and compute it again in the backward pass.

    The gradients are the same, dropout included. It costs a forward pass more. Parts of a batch
    save as much memory for nothing, until a single segment is too much.

    Args:
        blocks: Name of the list of blocks in the model, such as `backbone.blocks`.
        on: Whether to do so.
    """

    priority = PRIORITIES["RecomputeHook"]

    def __init__(self, blocks: str, on: bool = False) -> None:
        self.blocks, self.on = blocks, on

    def before_train(self, runner: Runner) -> None:
        """Wrap the forward pass of each block; names of weights do not change."""
        for block in attrgetter(self.blocks)(bare(runner.model)) if self.on else ():
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


@HOOKS.register_module()
class TelemetryHook(Hook):
    """What a recipe says about the reports of a training, which the loop makes.

    Args:
        limit: As of `Report`.
        enough: As of `Report`.
        bar: As of `Report`.
    """

    priority = PRIORITIES["TelemetryHook"]

    def __init__(self, limit: float = 0.2, enough: int = 20, bar: bool = True) -> None:
        self.report = Report(limit, enough, bar)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """What a recipe says about saves; and it chooses what a run resumes from.

    It replaces MMEngine's CheckpointHook and needs ResumableEpochLoop, which saves: after and
    during epochs, and on a signal.

    Args:
        iterations: Save after this many batches within an epoch; None means never.
        seconds: Save this many seconds after the last save; None means never.
        keep: Number of newest checkpoints to keep.
        go_on: True in the workflow: the work directory belongs to one attempt (`begin_attempt`),
            and its checkpoints are resumed. If False, only a Runner with `resume` set resumes.
    """

    priority = PRIORITIES["SafeCheckpointHook"]

    def __init__(
        self,
        iterations: int | None = None,
        seconds: float | None = 600.0,
        keep: int = 2,
        go_on: bool = False,
    ) -> None:
        self.saves, self.go_on = Saves(iterations, seconds, keep), go_on

    def before_run(self, runner: Runner) -> None:
        """Choose what to resume from, the same on all ranks, before the Runner loads anything."""
        work_dir, stamp = Path(runner.work_dir), self.saves.stamp
        if runner._resume and runner._load_from is not None:
            raise EpicError(
                f"--resume {runner._load_from}: expected --resume alone, which goes on from the "
                f"newest checkpoint in {work_dir}; set `load_from` to start from other weights"
            )
        # The loop writes this stamp into each checkpoint, so the one of `saves` itself is filled.
        of_run = partial(read_stamp, work_dir.parent)
        of_config = partial(run_stamp, runner.cfg, world())
        stamp.update(on_rank_0(of_run if self.go_on else of_config))
        if runner._resume or self.go_on:
            path = on_rank_0(lambda: pick_up(work_dir, stamp))
            runner._resume = path is not None
            runner._load_from = path or runner._load_from
        elif checkpoints(work_dir):
            raise EpicError(
                f"{work_dir} holds checkpoints already; resume them (tools/train.py --resume), or "
                "take another work directory"
            )
        # Start weights are a file of others: the prefix makes MMEngine read it by our reader.
        if not runner._resume and Path(runner._load_from or "").is_file():
            runner._load_from = f"{GUARDED}{runner._load_from}"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore each rank's own state on a resume; otherwise convert foreign tensor names."""
        if runner._resume:
            runner.train_loop.history = take_own_state(checkpoint)
        else:
            checkpoint["state_dict"] = tensors_of(checkpoint)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuledOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Make one group of all parameters that decay alike and learn at the same rate.

    MMEngine's own constructor goes by the kind of a layer and by names, and a rate for a part of
    the model switches its rules for norms and biases off there.

    `paramwise_cfg` holds the rules, each of which may be absent:

    - `decay_from`: Parameters with fewer dimensions do not decay; 2: neither norms nor biases.
    - `no_decay`: Parts of names; parameters with one of them do not decay either.
    - `layer_decay`: The rate of a transformer's block as a share of that of the block above it. The
      head has the whole rate, and embeddings are below the first block (`optim_factory.py` of
      VideoMAE at 14ef8d8).

    Frozen parameters are in no group.
    """

    def _validate_cfg(self) -> None:
        if unknown := set(self.paramwise_cfg) - set(RULES):
            raise EpicError(
                f"`optim_wrapper.paramwise_cfg` has {min(unknown)}, which is none of "
                f"{', '.join(RULES)}; take it out, or set `optim_wrapper.constructor` to "
                "DefaultOptimWrapperConstructor, which is MMEngine's"
            )

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the groups of the parameters of `module` to `params`."""
        min_ndim, names, share = (self.paramwise_cfg.get(rule) for rule in RULES)
        learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
        blocks = {name: int(match[1]) for name in learned if (match := BLOCK.match(name))}
        head_layer = max(blocks.values(), default=0) + 2
        groups: dict[tuple[bool, int], dict[str, Any]] = {}
        for name, parameter in learned.items():
            decays = parameter.ndim >= (min_ndim or 0) and not any(n in name for n in names or ())
            layer = 0 if EMBEDDING.match(name) else blocks.get(name, head_layer - 1) + 1
            depth = head_layer - layer if share else 0
            group = groups.setdefault((decays, depth), {"params": []})
            group["params"].append(parameter)
            if not decays:
                group["weight_decay"] = 0.0
            if share:
                group["lr"] = self.base_lr * share**depth
        params += groups.values()


@CheckpointLoader.register_scheme(prefixes=GUARDED)
def load_from_guarded(path: str, map_location: object = None) -> dict[str, dict[str, Tensor]]:
    """What MMEngine calls to read a path that begins with `GUARDED`."""
    return {"state_dict": read_weights(path.removeprefix(GUARDED))}
