"""Plan where and how a training runs: device, processes, micro-batches, loaders, memory layout.

A plan changes what is learned only by rounding, and by BatchNorm and dropout over several
processes. So it is not part of a run's stamp, and a run may resume with another plan.
"""

import inspect
import math
import os
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from epic100.base.errors import EpicError
from epic100.base.gpu import Gpus, gpus_to_use
from epic100.base.machine import usable_cores, workers_for
from epic100.model.precision import dtype_of, lies_channels_last
from epic100.segments.segment_list import NO_LABEL, read_clean_list
from epic100.settings import TrainSettings
from epic100.training.recipe import (
    LOADERS,
    NO_VALIDATION,
    Changes,
    Recipe,
    at_precision,
    changed,
    custom_hooks,
    precision_of,
    present,
)

# The workers of one process together prefetch at most this many clips, but always one batch each.
# A clip of 13 frames of 160 pixels takes 1 MB.
CLIPS_AHEAD = 2048
# A model of this type is a `Recognizer3D` whose backbone has its weights channels-last.
CHANNELS_LAST = "ChannelsLastRecognizer3D"


@dataclass(frozen=True)
class Placement:
    """The device, processes and nodes of a training.

    Args:
        device: "cuda" or "cpu".
        processes: Number of processes that train together, over all nodes; on CUDA each has its
            own GPU.
        nodes: Number of nodes, which have equally many processes.
    """

    device: str
    processes: int
    nodes: int = 1

    @property
    def on_node(self) -> int:
        """Number of processes on each node."""
        return self.processes // self.nodes


def choose_device(device: str, gpus: int | None, visible: Gpus, nodes: int = 1) -> Placement:
    """Choose the device and the number of processes of a training.

    Args:
        device: `train: device:`, auto, cuda or cpu.
        gpus: `train: gpus:`, the number of GPUs on each node, or of processes on the CPU. None
            means one GPU if there is one, otherwise the CPU.
        visible: The GPUs that this process sees.
        nodes: `train: nodes:`.

    Raises:
        EpicError: A GPU was granted or requested, but torch cannot use it.
    """
    used_gpus = gpus_to_use("train", device, gpus, visible)
    # On the CPU, `gpus` is a number of processes.
    processes = (used_gpus or gpus or 1) * nodes
    return Placement("cuda" if used_gpus else "cpu", processes, nodes)


@dataclass(frozen=True)
class TrainingPlan:
    """The plan by which this machine trains a run.

    A step trains on a batch. Each process takes an equal share of it, and may split its share into
    micro-batches.

    Args:
        config: The complete MMEngine config.
        placement: Device and processes.
        batch_per_process: Segments per step of one process.
        micro_batch: Segments that one process trains on at the same time.
        precision: The number format a GPU computes in: fp32, bf16 or fp16.
        val: The val list; None if training runs without validation.
        no_val: Why there is no validation, or "".
    """

    config: Recipe
    placement: Placement
    batch_per_process: int
    micro_batch: int
    precision: str
    val: pd.DataFrame | None
    no_val: str

    @property
    def bn(self) -> str:
        """How BatchNorm gets its statistics: local, sync (over all processes) or frozen."""
        if any(hook["type"] == "FrozenBatchNormHook" for hook in custom_hooks(self.config)):
            return "frozen"
        return "sync" if self.config.get("sync_bn") else "local"

    @property
    def mixing(self) -> Any:
        """Config of the class that mixes the clips of a batch (`blending`), or None."""
        return (self.config.model.get("data_preprocessor") or {}).get("blending")

    @property
    def batch(self) -> int:
        """Segments per step, over all processes."""
        return self.batch_per_process * self.placement.processes

    @property
    def validated(self) -> int:
        """Number of segments in each validation."""
        if self.val is None:
            return 0
        # `part` in the config limits the number of segments; None takes all.
        return len(self.val[: self.config.val_dataloader.dataset.get("part")])


def plan_run(
    config: Recipe,
    settings: TrainSettings,
    placement: Placement,
    *,
    work_dir: str | os.PathLike,
) -> TrainingPlan:
    """Plan how this machine trains the result of `build_config`.

    The plan adds to the config: the precision and the processes, the loaders, and the micro-batches
    of a step. It drops the validation if there is nothing to validate on.

    Args:
        config: The result of `build_config`; it is not changed.
        settings: The settings that it was built from.
        placement: Device and processes.
        work_dir: The folder of the attempt, for logs and checkpoints.

    Raises:
        EpicError: The batch cannot be split evenly, the device cannot compute in the precision or
            has no BatchNorm over processes, or a val segment has no label.
    """
    _require_even_shares(config, placement, micro_batches=settings.accumulate or 1)
    # The plan keeps the precision for a GPU: a check on a CPU may be of a run on a GPU.
    precision = precision_of(config)
    if settings.precision is None and placement.device == "cpu":
        config = changed(config, at_precision(config, "fp32"))
    refuse_device(config, placement.device)
    val, no_val = _val_list(config, settings)
    # The hook that is added here changes how the run is computed, not what it learns, so it is in
    # no stamp.
    hooks = custom_hooks(config)
    if settings.compile:
        hooks.append({"type": "CompileHook"})
    planned = changed(
        config,
        {
            "work_dir": str(work_dir),
            **_loaders(config, settings, placement),
            **_fused(config, placement),
            **(NO_VALIDATION if val is None else {}),
            **(_distribution(config, placement, val) if placement.processes > 1 else {}),
            "model.type": _layout(config, settings, placement),
            "custom_hooks": hooks,
        },
    )
    batch_per_process = planned.train_dataloader.batch_size
    micro_batch = _micro_batch(planned, settings)
    if micro_batch < batch_per_process or planned.get("default_hooks", {}).get("accumulate"):
        planned = changed(
            planned, {"default_hooks.accumulate": {"type": "AccumulateHook", "most": micro_batch}}
        )
    plan = TrainingPlan(
        config=planned,
        placement=placement,
        batch_per_process=batch_per_process,
        micro_batch=micro_batch,
        precision=precision,
        val=val,
        no_val=no_val,
    )
    if micro_batch == 1 and plan.mixing:
        raise EpicError(
            "the batch is computed a segment at a time, but `model.data_preprocessor.blending` "
            "mixes the segments of a part with each other; lower `train: accumulate:`, raise "
            "`batch_size`, or take `blending` out"
        )
    return plan


def _distribution(config: Recipe, placement: Placement, val: pd.DataFrame | None) -> Changes:
    """Return the changes for several processes: launcher, model wrapper and collected results."""
    # MMEngine would choose the same wrapper, but always for a GPU.
    cpu_wrapper = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "device_ids": None,
        "find_unused_parameters": config.get("find_unused_parameters", False),
    }
    return {
        "launcher": "pytorch",
        **({"model_wrapper_cfg": cpu_wrapper} if placement.device == "cpu" else {}),
        # With `cpu`, MMEngine would send the results through files in the current folder.
        **({} if val is None else {"val_evaluator.collect_device": "gpu"}),
    }


def _micro_batch(config: Recipe, settings: TrainSettings) -> int:
    """Compute how many segments a process trains on at the same time.

    `accumulate` is the number of micro-batches. Without it, the recipe limits their size.
    """
    batch_per_process = config.train_dataloader.batch_size
    hook = config.get("default_hooks", {}).get("accumulate")
    if settings.accumulate:
        return math.ceil(batch_per_process / settings.accumulate)
    if not hook:
        return batch_per_process
    # The micro-batches are as few as the recipe's limit allows, and of equal size.
    micro_batches = math.ceil(batch_per_process / hook.most)
    return math.ceil(batch_per_process / micro_batches)


def refuse_device(config: Recipe, device: str) -> None:
    """Refuse a precision, or synced BatchNorm, that the device does not support.

    Raises:
        EpicError: The device does not support a key of the config.
    """
    precision = precision_of(config)
    if precision != "fp32" and device == "cpu":
        raise EpicError(
            f"train: precision is {precision}, but MMEngine's autocast needs a GPU and this "
            "training runs on the CPU; expected fp32"
        )
    if (
        precision == "bf16"
        and device == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise EpicError(
            f"train: precision is bf16, but {torch.cuda.get_device_name()} has no bf16; expected "
            "fp16 or fp32"
        )
    if config.get("sync_bn") and device == "cpu":
        raise EpicError(
            "train: bn is sync, but torch's SyncBatchNorm needs GPUs and this training runs on the "
            "CPU; expected local or frozen"
        )


def _require_even_shares(config: Recipe, placement: Placement, micro_batches: int) -> None:
    """Raise EpicError unless all micro-batches of all processes can have the same size."""
    batch = config.train_dataloader.batch_size
    shares = placement.processes * micro_batches
    if batch % shares:
        nodes_text = f"train.nodes {placement.nodes} x " if placement.nodes > 1 else ""
        raise EpicError(
            f"train.batch_size is {batch}; expected a multiple of {shares} ({nodes_text}train.gpus "
            f"{placement.on_node} x train.accumulate {micro_batches}), so that all get the same "
            "share"
        )


def _loaders(config: Recipe, settings: TrainSettings, placement: Placement) -> Changes:
    """Return the changes that set each loader of a process: batch size, workers, prefetching."""
    changes: Changes = {}
    for name in present(config, *LOADERS):
        loader = config[name]
        batch_size = max(1, loader.batch_size // placement.processes)
        workers = loader.get("num_workers")
        # A recipe's own values for these two win.
        values: Changes = {
            "batch_size": batch_size,
            "pin_memory": loader.get("pin_memory", placement.device == "cuda"),
            "collate_fn": loader.get("collate_fn", {"type": "collate_in_one"}),
        }
        has_own_number = settings.workers is not None or f"{name}.num_workers" in settings.options
        # A GPU needs as many workers as the cores allow, unless the user chose a number.
        if placement.device == "cuda" and not has_own_number:
            workers = workers_for(usable_cores(), placement.on_node)
            values |= {"num_workers": workers, "persistent_workers": workers > 0}
        if workers:
            values["prefetch_factor"] = loader.get(
                "prefetch_factor", batches_ahead(workers, batch_size)
            )
        changes |= {f"{name}.{key}": value for key, value in values.items()}
    return changes


def _fused(config: Recipe, placement: Placement) -> Changes:
    """Return the change that lets the optimizer do its step in one kernel on a GPU.

    It is empty on a CPU, and if torch has no such kernel.

    A config that chooses an implementation (`fused`, `foreach`) keeps it.
    """
    optimizer = config.optim_wrapper.get("optimizer", {})
    optimizer_class = getattr(torch.optim, optimizer.get("type", ""), None)
    has_fused = (
        optimizer_class is not None and "fused" in inspect.signature(optimizer_class).parameters
    )
    if placement.device == "cpu" or not has_fused or {"fused", "foreach"} & set(optimizer):
        return {}
    return {"optim_wrapper.optimizer.fused": True}


def batches_ahead(workers: int, batch_size: int) -> int:
    """Compute how many batches a worker prefetches: two, as torch does, or one.

    It is one if two batches of each worker would have more than `CLIPS_AHEAD` clips together.

    Args:
        workers: Loader processes of one training process.
        batch_size: Segments per batch of one process.
    """
    return max(1, min(2, CLIPS_AHEAD // (workers * batch_size)))


def _layout(config: Recipe, settings: TrainSettings, placement: Placement) -> str:
    """Choose the type of the model, which decides the memory layout of the backbone's weights.

    It is channels-last, except for fp32 on a GPU: docs/evidence/layout.md says why. The setting
    overrides this. A model of any other type keeps its type.
    """
    channels_last = (
        lies_channels_last(dtype_of(config), placement.device)
        if settings.channels_last is None
        else settings.channels_last
    )
    is_replaced = config.model.type == CHANNELS_LAST and not channels_last
    return "Recognizer3D" if is_replaced else config.model.type


def _val_list(config: Recipe, settings: TrainSettings) -> tuple[pd.DataFrame | None, str]:
    """Read the segments to validate on, or return None and the reason."""
    if settings.split != "train":
        return None, f"`train: split: {settings.split}` leaves no segment to validate on"
    if not present(config, "val_dataloader"):
        return None, "the MMEngine config has no val_dataloader"
    path = config.val_dataloader.dataset.ann_file
    val = read_clean_list(path)
    if val.empty:
        return None, "the list of val has no segment to validate on"
    unlabelled = val[(val["verb"] == NO_LABEL) | (val["noun"] == NO_LABEL)]
    if len(unlabelled):
        raise EpicError(
            f"{path}: {unlabelled.iloc[0]['narration_id']} and {len(unlabelled) - 1} more segments "
            "have no verb or noun, which validation needs; set `annotations: val:` to "
            "EPIC_100_validation.csv, whose segments are labelled"
        )
    return val, ""
