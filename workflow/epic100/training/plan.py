"""How this machine trains a config: processes, shares of a batch, loaders, memory layout.

Nothing here changes what is learned, except for rounding, and for BatchNorm and dropout over
several processes. So it is not part of a run's stamp, and a run may resume with another plan.
"""

import os
from dataclasses import dataclass

import pandas as pd
from mmengine.config import Config, ConfigDict

from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores, workers_for
from epic100.segments.clean_list import read_clean_list
from epic100.segments.segment_list import NO_LABEL
from epic100.settings import TrainSettings
from epic100.training.config import LOADERS, NO_VALIDATION, Changes
from epic100.training.config_file import changed, custom_hooks, present
from epic100.training.device import CHANNELS_LAST, PLAIN, Placement, autocast_refused

# Clips that the workers of one process prefetch; a clip of 13 frames of 160 pixels takes 1 MB.
CLIPS_AHEAD = 2048


@dataclass(frozen=True)
class TrainingPlan:
    """How a run is trained on this machine.

    Args:
        config: The complete MMEngine config.
        placement: Device and processes.
        share: Segments per step of one process.
        parts: Number of parts that each share is split into and trained on one after the other.
        dtype: Name of the torch dtype that is computed in.
        channels_last: Whether the backbone's layout is channels-last.
        compiled: Whether the backbone is compiled.
        ema: Decay of the average of the weights, or None.
        val: The val list; None if training runs without validation.
        no_val: Why there is no validation, or "".
    """

    config: Config
    placement: Placement
    share: int
    parts: int
    dtype: str
    channels_last: bool
    compiled: bool
    ema: float | None
    val: pd.DataFrame | None
    no_val: str

    @property
    def bn(self) -> str:
        """BatchNorm's statistics: local, sync or frozen."""
        if any(hook["type"] == "FrozenBatchNormHook" for hook in custom_hooks(self.config)):
            return "frozen"
        return "sync" if self.config.get("sync_bn") else "local"

    @property
    def batch(self) -> int:
        """Segments per step, over all processes."""
        return self.share * self.placement.processes

    @property
    def validated(self) -> int:
        """Number of segments in each validation."""
        if self.val is None:
            return 0
        return min(self.config.val_dataloader.dataset.get("part") or len(self.val), len(self.val))


def plan_run(
    config: Config,
    settings: TrainSettings,
    placement: Placement,
    *,
    work_dir: str | os.PathLike,
) -> TrainingPlan:
    """Plan how this machine trains the result of `build_config`.

    Args:
        config: The result of `build_config`; it is not changed.
        settings: The settings that it was built from.
        placement: Device and processes.
        work_dir: The run's own folder.

    Raises:
        EpicError: The batch cannot be split evenly, the device lacks a precision or BatchNorm over
            processes, or a val segment has no label.
    """
    _require_even_shares(config, placement, settings.accumulate)
    _require_device(config, settings, placement.device)
    val, no_val = _val_list(config, settings)
    channels_last = _channels_last(config, settings, placement)
    laid_out = {} if channels_last or config.model.type != CHANNELS_LAST else {"model.type": PLAIN}
    planned = changed(
        config,
        {
            "work_dir": str(work_dir),
            **_loaders(config, settings, placement),
            **_processes(placement),
            **(NO_VALIDATION if val is None else _evaluator(placement)),
            **laid_out,
            "custom_hooks": [*custom_hooks(config), *_hooks(settings, placement)],
        },
    )
    return TrainingPlan(
        config=planned, placement=placement, share=planned.train_dataloader.batch_size,
        parts=settings.accumulate, dtype=planned.optim_wrapper.get("dtype", "float32"),
        channels_last=channels_last, compiled=settings.compile,
        ema=_average_decay(planned), val=val, no_val=no_val,
    )  # fmt: skip


def _require_device(config: Config, settings: TrainSettings, device: str) -> None:
    if why := autocast_refused(settings.precision, device):
        raise EpicError(f"train: precision is {settings.precision}, but {why}")
    if config.get("sync_bn") and device == "cpu":
        raise EpicError(
            "train: bn is sync, but torch's SyncBatchNorm needs GPUs and this training runs on the "
            "CPU; expected local or frozen"
        )


def _hooks(settings: TrainSettings, placement: Placement) -> list[ConfigDict]:
    """Hooks that change how the run is computed; they come after all others."""
    hooks = []
    if placement.processes > 1 and settings.bn == "local":
        hooks.append(ConfigDict(type="PooledStatisticsHook"))
    if settings.compile:
        hooks.append(ConfigDict(type="CompileHook"))
    if settings.accumulate > 1:
        hooks.append(ConfigDict(type="AccumulateHook", parts=settings.accumulate))
    return hooks


def _average_decay(config: Config) -> float | None:
    momenta = [hook["momentum"] for hook in custom_hooks(config) if hook["type"] == "EMAHook"]
    return 1 - momenta[-1] if momenta else None


def _require_even_shares(config: Config, placement: Placement, parts: int) -> None:
    batch, shares = config.train_dataloader.batch_size, placement.processes * parts
    if batch % shares:
        nodes = f"train.nodes {placement.nodes} x " if placement.nodes > 1 else ""
        raise EpicError(
            f"train.batch_size is {batch}; expected a multiple of {shares} ({nodes}train.gpus "
            f"{placement.on_node} x train.accumulate {parts}), so that all get the same share"
        )


def _loaders(config: Config, settings: TrainSettings, placement: Placement) -> Changes:
    changes: Changes = {}
    for name in present(config, *LOADERS):
        loader = config[name]
        share = max(1, loader.batch_size // placement.processes)
        workers = loader.get("num_workers", 0)
        chosen = settings.workers is not None or f"{name}.num_workers" in settings.options
        if placement.device == "cuda" and not chosen:
            workers = workers_for(usable_cores(), placement.on_node)
            changes[f"{name}.num_workers"] = workers
            changes[f"{name}.persistent_workers"] = workers > 0
        changes[f"{name}.batch_size"] = share
        changes[f"{name}.pin_memory"] = loader.get("pin_memory", placement.device == "cuda")
        changes[f"{name}.collate_fn"] = loader.get("collate_fn", {"type": "collate_in_one"})
        if workers:
            ahead = batches_ahead(workers, share)
            changes[f"{name}.prefetch_factor"] = loader.get("prefetch_factor", ahead)
    return changes


def batches_ahead(workers: int, share: int) -> int:
    """Batches that each worker prefetches: two, torch's default, or one if they are large.

    Args:
        workers: Loader processes of one training process.
        share: Segments per batch of one process.
    """
    return max(1, min(2, CLIPS_AHEAD // (workers * share)))


def _channels_last(config: Config, settings: TrainSettings, placement: Placement) -> bool:
    """The layout of the backbone's weights: docs/performance.md says why, for each device."""
    if config.model.type != CHANNELS_LAST:  # a model of another type keeps its type
        return False
    if settings.channels_last is not None:
        return settings.channels_last
    return placement.device == "cpu" or settings.precision != "fp32"


def _processes(placement: Placement) -> Changes:
    if placement.processes == 1:
        return {}
    wrapper = {"type": "EpicDistributed", "broadcast_buffers": False}
    return {"launcher": "pytorch", "model_wrapper_cfg": wrapper}


def _evaluator(placement: Placement) -> Changes:
    # Otherwise ranks exchange results through files in `.`.
    return {"val_evaluator.collect_device": "gpu"} if placement.processes > 1 else {}


def _val_list(config: Config, settings: TrainSettings) -> tuple[pd.DataFrame | None, str]:
    """The segments to validate on, or None and the reason."""
    if settings.split != "train":
        return None, f"`train: split: {settings.split}` leaves no segment to validate on"
    if not present(config, "val_dataloader"):
        return None, "the MMEngine config has no val_dataloader"
    path = config.val_dataloader.dataset.ann_file
    val = read_clean_list(path)
    if val.empty:
        return None, f"{path} has no segment to validate on"
    unlabelled = val[(val["verb"] == NO_LABEL) | (val["noun"] == NO_LABEL)]
    if len(unlabelled):
        raise EpicError(
            f"{path}: {unlabelled.iloc[0]['narration_id']} and {len(unlabelled) - 1} more segments "
            "have no verb or noun, which validation needs; set `annotations: val:` to "
            "EPIC_100_validation.csv, whose segments are labelled"
        )
    return val, ""
