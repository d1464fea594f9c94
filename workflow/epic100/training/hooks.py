"""What MMEngine calls in a training: hooks, validation, and rules for groups of parameters.

MMEngine calls the hook with the lowest priority first. Its own have these: RuntimeInfoHook 10,
IterTimerHook, SyncBuffersHook and EMAHook 50, LoggerHook 60, ParamSchedulerHook 70, CheckpointHook
90. `training.resume` has the hooks for seeds and saves.
"""

import logging
import math
import re
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import HOOKS, LOOPS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.dist import all_reduce, get_world_size, is_main_process, master_only
from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.runner import CheckpointLoader, Runner, ValLoop
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from epic100.base.errors import EpicError
from epic100.model.precision import dtype_of
from epic100.model.weights import read_weights
from epic100.scoring.epoch_table import FILE, METRIC_OF_COLUMN, write_epochs
from epic100.training.resume import last_saved

log = logging.getLogger(__name__)


# What an epoch sums up: iterations, segments, losses, and seconds, of which some wait for data.
SUMS = ("iters", "segments", "loss", "time", "data_time")


@HOOKS.register_module()
class EpochHook(Hook):
    """Writes `training.tsv`, stops at a loss that is no number, and says if loading is too slow.

    The rows, and the sums of the present epoch, are in MMEngine's message hub, which each
    checkpoint has. So a resumed training counts no batch twice.

    Args:
        limit: Loading is too slow above this share (0 to 1) of an iteration's time.
        enough: Iterations of an epoch after which the share is judged.
    """

    priority = 61

    def __init__(self, limit: float = 0.5, enough: int = 50) -> None:
        """Store the settings, which the class describes."""
        self.limit = limit
        self.enough = enough

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add the iteration to the sums of the epoch.

        Raises:
            EpicError: The loss is NaN or infinite; the error names the segments of the batch.
        """
        hub, samples = runner.message_hub, data_batch["data_samples"]
        loss = outputs["loss"].detach().double().cpu()
        all_reduce(loss, "mean")
        if not math.isfinite(loss):
            ids = ", ".join(sample.metainfo["narration_id"] for sample in samples)
            raise EpicError(
                f"epoch {runner.epoch + 1}, iteration {runner.iter + 1}: the loss is {float(loss)};"
                f" the batch of this process is {ids}; {last_saved(runner)}; the same command ends "
                "here again, so lower the learning rate or check these segments"
            )
        sums = hub.runtime_info.get("sums") or dict.fromkeys(SUMS, 0.0)
        sums = {
            "iters": sums["iters"] + 1,
            "segments": sums["segments"] + len(samples) * get_world_size(),
            "loss": sums["loss"] + float(loss),
            "time": sums["time"] + float(hub.get_scalar("train/time").current()),
            "data_time": sums["data_time"] + float(hub.get_scalar("train/data_time").current()),
        }
        hub.update_info("sums", sums)
        share = sums["data_time"] / sums["time"]
        if sums["iters"] == self.enough and share > self.limit and is_main_process():
            log.warning(
                f"loading is the limit: {100 * share:.0f} % of the time waits for clips, "
                f"{sums['segments'] / sums['time']:.0f} clips/s come; small copies of the videos "
                "(`videos: proxy:`) or more cores make it faster"
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Add the row of the epoch."""
        hub = runner.message_hub
        sums = hub.get_info("sums")
        row = {
            "epoch": runner.epoch + 1,
            "iter": runner.iter,
            "lr": hub.get_scalar("train/lr").current(),
            "loss": sums["loss"] / sums["iters"],
            "samples_per_s": sums["segments"] / sums["time"],
            "data_share": sums["data_time"] / sums["time"],
            "seconds": sums["time"],
        }
        hub.update_info("rows", [*hub.runtime_info.get("rows", []), row])
        hub.update_info("sums", None)
        self._write(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Add the metrics of a validation to the row of its epoch."""
        *rows, last = runner.message_hub.get_info("rows")
        values = {column: (metrics or {}).get(name) for column, name in METRIC_OF_COLUMN.items()}
        runner.message_hub.update_info("rows", [*rows, last | values])
        self._write(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Log the last row as a sentence, which the screen shows."""
        row = runner.message_hub.get_info("rows")[-1]
        top1 = row.get("action_top1")
        accuracy = "" if top1 is None else f", action top-1 {top1:.2f} %"
        log.info(
            f"epoch {row['epoch']}/{runner.max_epochs}: loss {row['loss']:.4g}{accuracy}, "
            f"{row['samples_per_s']:.1f} segments/s, {100 * row['data_share']:.0f} % of the time "
            "waiting for data"
        )

    @master_only
    def _write(self, runner: Runner) -> None:
        """Write the table of epochs."""
        write_epochs(runner.message_hub.get_info("rows"), Path(runner.work_dir, FILE))


@HOOKS.register_module()
class UpdateSchedulerHook(ParamSchedulerHook):
    """MMEngine's ParamSchedulerHook, which changes no rate between the parts of a batch.

    MMEngine changes rates after each iteration, which is a part if a batch has several
    (`accumulative_counts`). So an update would see the rate of its last part.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """After an update, step the schedules once for each of its parts."""
        if runner.optim_wrapper.should_update():
            parts = runner.cfg.optim_wrapper.get("accumulative_counts", 1)
            # The last update of an epoch may have fewer parts.
            parts_of_this_update = batch_idx % parts + 1
            for _ in range(parts_of_this_update):
                super().after_train_iter(runner, batch_idx, data_batch, outputs)


@LOOPS.register_module()
class PrecisionValLoop(ValLoop):
    """MMEngine's validation in the number format of the training.

    MMEngine's `fp16` switches autocast on, but always to torch's default type, float16.
    """

    def run(self) -> dict[str, float]:
        """Validate, and return the metrics by name."""
        dtype = dtype_of(self.runner.cfg)
        self.fp16 = dtype is not None
        torch.set_autocast_dtype("cuda", dtype or torch.float16)
        return super().run()


def bare(model: Any) -> Any:
    """Unwrap a model from MMEngine's wrapper for several processes, if it has one."""
    return model.module if is_model_wrapper(model) else model


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """List all BatchNorm layers of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@HOOKS.register_module()
class FrozenBatchNormHook(Hook):
    """Keeps the statistics of BatchNorm at their start values, as `BN.FREEZE` of PySlowFast does.

    Scale and shift are frozen when the model is built (`training.train`), since MMEngine wraps the
    model for several processes before any hook runs.
    """

    priority = 12

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set BatchNorm to evaluation mode again: each epoch begins with `model.train()`."""
        for layer in batch_norms(bare(runner.model)):
            layer.eval()


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the backbone with `torch.compile` for training.

    MMEngine's own `compile` compiles the complete step. There the optimizer wrapper counts the
    steps, so torch compiles each of the first eight steps anew, and then no more.
    """

    def before_train(self, runner: Runner) -> None:
        """Replace the backbone's forward pass by a compiled one; names of weights do not change."""
        backbone = bare(runner.model).backbone
        eager = backbone.forward
        # With dynamic sizes, a second shape would recompile for any size. A resumed run meets the
        # shapes in another order and would then use other kernels.
        compiled = torch.compile(eager, dynamic=False)
        # Validation has other sizes, and each would be compiled again.
        backbone.forward = lambda clips: compiled(clips) if backbone.training else eager(clips)


# `paramwise_cfg` may have these keys.
RULES = ("decay_from", "no_decay", "layer_decay")
# The parameters of a transformer's blocks and embeddings have these names.
BLOCK = re.compile(r"backbone\.(?:blocks|transformer_layers\.layers)\.(\d+)\.")
EMBEDDING = re.compile(r"backbone\.(cls_token|pos_embed|time_embed|patch_embed)")


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
      head has the full rate, and embeddings are below the first block (`optim_factory.py` of
      VideoMAE at 14ef8d8).

    Frozen parameters are in no group.
    """

    def _validate_cfg(self) -> None:
        """Reject a key of `paramwise_cfg` that is no rule; MMEngine's constructor calls this."""
        if unknown := set(self.paramwise_cfg) - set(RULES):
            raise EpicError(
                f"`optim_wrapper.paramwise_cfg` has {min(unknown)}, which is none of "
                f"{', '.join(RULES)}; take it out, or set `optim_wrapper.constructor` to "
                "DefaultOptimWrapperConstructor, which is MMEngine's"
            )

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the groups of the parameters of `module` to the list `params`, in place.

        Raises:
            EpicError: `layer_decay` is set, but the backbone has no blocks of a known name.
        """
        min_ndim = self.paramwise_cfg.get("decay_from") or 0
        undecayed = self.paramwise_cfg.get("no_decay") or ()
        layer_decay = self.paramwise_cfg.get("layer_decay")
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}

        # The embeddings are layer 0, block n is layer n + 1, and the head comes after the blocks.
        layers: dict[str, int] = {}
        for name in trainable:
            if block := BLOCK.match(name):
                layers[name] = int(block[1]) + 1
            elif EMBEDDING.match(name):
                layers[name] = 0
        head_layer = max(layers.values(), default=0) + 1
        if layer_decay and head_layer == 1:
            raise EpicError(
                f"`optim_wrapper.paramwise_cfg.layer_decay` is {layer_decay}, but no parameter "
                f"of the backbone is in a block (`{BLOCK.pattern}`), the first is "
                f"{next(iter(trainable), 'none')}; set it to None"
            )

        groups: dict[tuple[bool, int], dict[str, Any]] = {}
        for name, parameter in trainable.items():
            has_undecayed_part = any(part in name for part in undecayed)
            decays = parameter.ndim >= min_ndim and not has_undecayed_part
            layers_below_head = 0
            if layer_decay:
                layers_below_head = head_layer - layers.get(name, head_layer)
            group = groups.setdefault((decays, layers_below_head), {"params": []})
            group["params"].append(parameter)
            if not decays:
                group["weight_decay"] = 0.0
            if layer_decay:
                group["lr"] = self.base_lr * layer_decay**layers_below_head
        params += groups.values()


# MMEngine reads a path with this prefix through `load_start_weights`.
START_WEIGHTS = "start_weights:"


@CheckpointLoader.register_scheme(prefixes=START_WEIGHTS)
def load_start_weights(path: str, map_location: object = None) -> dict[str, dict[str, Tensor]]:
    """Read start weights, which may come from anyone, so that no code in the file runs."""
    return {"state_dict": read_weights(path.removeprefix(START_WEIGHTS))}
