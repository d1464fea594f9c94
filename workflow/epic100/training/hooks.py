"""The hooks that MMEngine calls in a training, and the rules for which parameters decay.

The seeds let a run resume at any batch. Compilation and micro-batches change time and memory but
not what is learned, except for rounding. Two hooks only pass the recipe's settings of saves and
reports on to the loop, which makes these itself; one of the hooks also chooses the checkpoint that
a run resumes.
"""

import re
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

# MMEngine reads a path with this prefix through `load_from_guarded`.
GUARDED = "guarded:"
# `RuledOptimWrapperConstructor` reads these keys of `paramwise_cfg`.
RULES = ("decay_from", "no_decay", "layer_decay")
# The parameters of a transformer's blocks and embeddings have these names.
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
    """Seeds augmentation with (seed, epoch, sample), and dropout with (seed, iteration, rank).

    MMEngine restores no random state on resume and gives workers the same seeds in every epoch.
    With these seeds nothing needs restoring, and the number of workers does not change the result.
    """

    priority = PRIORITIES["SampleSeedHook"]

    def before_train_epoch(self, runner: Runner) -> None:
        """Pass the epoch to the dataset, also in workers that are already running."""
        runner.train_dataloader.dataset.set_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the random draws of the model in this iteration."""
        # Rank and iteration have bits of their own: there are up to 2**8 ranks and 2**24
        # iterations.
        torch.manual_seed((runner.seed << 32) + (runner.iter << 8) + rank())
        np.random.seed([runner.seed, runner.iter, rank()])  # TRN's head draws from NumPy.


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """List all BatchNorm layers of a model."""
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
    """Keeps the statistics, scale and shift of BatchNorm at their start values.

    It does what epic-kitchens-slowfast does with `BN.FREEZE` (`freeze_fn` in
    video_model_builder.py). Scale and shift are frozen when the model is built (`QuietRunner`), the
    statistics here.
    """

    priority = PRIORITIES["FrozenBatchNormHook"]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set BatchNorm to evaluation mode again: each epoch begins with `model.train()`."""
        for layer in batch_norms(bare(runner.model)):
            layer.eval()


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the backbone with `torch.compile` for training.

    Validation is not compiled: its other picture size and batch size would each need another
    compilation. MMEngine's own `compile` is not used, because it compiles the whole step. There the
    optimizer wrapper counts the steps, so torch compiles each of the first eight steps anew, and
    then no more.
    """

    priority = PRIORITIES["CompileHook"]

    def before_train(self, runner: Runner) -> None:
        """Replace the backbone's forward pass by a compiled one; names of weights do not change.

        Torch compiles at the first batch of each shape.
        """
        backbone = bare(runner.model).backbone
        eager = backbone.forward
        # With dynamic sizes, a second shape would recompile for any size. A resumed run meets the
        # shapes in another order and would then use other kernels.
        compiled = torch.compile(eager, dynamic=False)
        backbone.forward = lambda clips: compiled(clips) if backbone.training else eager(clips)


@HOOKS.register_module()
class AccumulateHook(Hook):
    """Splits each batch into micro-batches, whose gradients are summed for one optimizer step.

    It needs the memory of one micro-batch only. The split is inside the iteration (MMEngine's own
    accumulation counts iterations). So no step spans a checkpoint or the end of an epoch, and a
    resumed run stays exact.

    Args:
        most: Largest number of segments in a micro-batch. All have the same size, but for the last.
    """

    priority = PRIORITIES["AccumulateHook"]

    def __init__(self, most: int) -> None:
        """Store the largest size; recipes name it `most`."""
        self.most = most

    def before_train(self, runner: Runner) -> None:
        """Set the size of the loop's micro-batches."""
        runner.train_loop.micro_batch = self.most


@HOOKS.register_module()
class RecomputeHook(Hook):
    """Saves memory: drops the values inside each block, and computes them again for the gradients.

    The gradients are the same, dropout included. It costs one more forward pass. Micro-batches save
    as much memory at no cost, so this only helps where a single segment does not fit.

    Args:
        blocks: Name of the list of blocks in the model, such as `backbone.blocks`.
        on: Whether the hook does anything.
    """

    priority = PRIORITIES["RecomputeHook"]

    def __init__(self, blocks: str, on: bool = False) -> None:
        """Store the settings, which the class describes."""
        self.blocks = blocks
        self.on = on

    def before_train(self, runner: Runner) -> None:
        """Let the backward pass compute the values inside each block again (torch's checkpoint).

        Only `forward` of a block is replaced. A module around it would rename its weights.
        """
        if self.on:
            for block in attrgetter(self.blocks)(bare(runner.model)):
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)


@HOOKS.register_module()
class TelemetryHook(Hook):
    """Passes a recipe's settings of the reports on to the loop, which makes the reports.

    Args:
        limit: Warn if at least this share (0 to 1) of the time is spent waiting for data.
        enough: Iterations needed before this share is judged.
        bar: Whether to show the bar, and to log each epoch's row as a sentence.
    """

    priority = PRIORITIES["TelemetryHook"]

    def __init__(self, limit: float = 0.2, enough: int = 20, bar: bool = True) -> None:
        """Make the report, which the loop takes over and fills."""
        self.report = Report(limit, enough, bar)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Passes a recipe's settings of checkpoints on to the loop, and chooses what a run resumes.

    It replaces MMEngine's CheckpointHook. ResumableEpochLoop saves: after and during epochs, and on
    a signal.

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
        """Make the settings of saves, which the loop takes over."""
        self.saves = Saves(iterations, seconds, keep)
        self.resumes_by_itself = go_on

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint or start weights that the Runner loads next, on all ranks alike."""
        work_dir = Path(runner.work_dir)
        # `--resume FILE` of MMEngine's own tool sets both of these.
        if runner._resume and runner._load_from is not None:
            raise EpicError(
                f"--resume {runner._load_from}: expected --resume alone, which goes on from the "
                f"newest checkpoint in {work_dir}; set `load_from` to start from other weights"
            )
        make_stamp = (
            partial(read_stamp, work_dir.parent)
            if self.resumes_by_itself
            else partial(run_stamp, runner.cfg, world())
        )
        # The loop writes this stamp into each checkpoint.
        self.saves.stamp = on_rank_0(make_stamp)
        if runner._resume or self.resumes_by_itself:
            path = on_rank_0(lambda: pick_up(work_dir, self.saves.stamp))
            runner._resume = path is not None
            runner._load_from = path or runner._load_from
        elif checkpoints(work_dir):
            raise EpicError(
                f"{work_dir} holds checkpoints already; resume them (tools/train.py --resume), or "
                "take another work directory"
            )
        # Start weights may come from anyone. The prefix makes MMEngine read them through
        # `load_from_guarded`, which runs no code from the file.
        if not runner._resume and Path(runner._load_from or "").is_file():
            runner._load_from = f"{GUARDED}{runner._load_from}"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make a checkpoint what this rank loads: its own state, or the tensors of start weights.

        This changes `checkpoint` in place, before the Runner loads it.
        """
        if runner._resume:
            runner.train_loop.history = take_own_state(checkpoint)
        else:
            checkpoint["state_dict"] = tensors_of(checkpoint)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RuledOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Makes the optimizer's groups of parameters, each with one learning rate and weight decay.

    MMEngine's own constructor goes by layer types and names. If it has a rate for a part of the
    model, its rules for norms and biases do not apply to this part.

    `paramwise_cfg` contains the rules, each of which may be absent:

    - `decay_from`: Parameters with fewer dimensions do not decay. With 2, these are all norms and
      biases.
    - `no_decay`: Parts of names; parameters with one of them in their name do not decay either.
    - `layer_decay`: The rate of a transformer's block as a share of that of the block above it. The
      head has the whole rate, and embeddings are below the first block (`optim_factory.py` of
      VideoMAE at 14ef8d8).

    Frozen parameters are in no group.
    """

    def _validate_cfg(self) -> None:
        """Refuse a key of `paramwise_cfg` that is no rule; MMEngine's constructor calls this."""
        if unknown := set(self.paramwise_cfg) - set(RULES):
            raise EpicError(
                f"`optim_wrapper.paramwise_cfg` has {min(unknown)}, which is none of "
                f"{', '.join(RULES)}; take it out, or set `optim_wrapper.constructor` to "
                "DefaultOptimWrapperConstructor, which is MMEngine's"
            )

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the groups of the parameters of `module` to the list `params`, in place."""
        min_ndim = self.paramwise_cfg.get("decay_from") or 0
        undecayed = self.paramwise_cfg.get("no_decay") or ()
        layer_decay = self.paramwise_cfg.get("layer_decay")
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        # The embeddings are layer 0, block n is layer n + 1, and the head comes after the blocks.
        layers = {name: 0 for name in trainable if EMBEDDING.match(name)}
        layers |= {name: int(match[1]) + 1 for name in trainable if (match := BLOCK.match(name))}
        head_layer = max(layers.values(), default=0) + 1
        groups: dict[tuple[bool, int], dict[str, Any]] = {}
        for name, parameter in trainable.items():
            decays = parameter.ndim >= min_ndim and not any(part in name for part in undecayed)
            layers_below_head = head_layer - layers.get(name, head_layer) if layer_decay else 0
            group = groups.setdefault((decays, layers_below_head), {"params": []})
            group["params"].append(parameter)
            if not decays:
                group["weight_decay"] = 0.0
            if layer_decay:
                group["lr"] = self.base_lr * layer_decay**layers_below_head
        params += groups.values()


@CheckpointLoader.register_scheme(prefixes=GUARDED)
def load_from_guarded(path: str, map_location: object = None) -> dict[str, dict[str, Tensor]]:
    """Read start weights safely; MMEngine calls this for a path that begins with `GUARDED`."""
    return {"state_dict": read_weights(path.removeprefix(GUARDED))}
