"""Where and how a training runs: device, processes, parts of a batch, loaders, memory layout.

A plan changes what is learned only by rounding, and by BatchNorm and dropout over several
processes. So it is not in the fingerprint, and a training may resume with another plan.
"""

import copy
import math
import os

import torch
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores, workers_for
from epic100.base.processes import Placement
from epic100.data.segment_list import NO_LABEL, read_clean_list
from epic100.model.precision import dtype_of, lies_channels_last
from epic100.settings.training import TrainSettings
from epic100.training.recipe import LOADERS, NO_VALIDATION, precision_of, present, set_precision

# Maximum number of clips that the workers of one process together load ahead, but always one batch
# each. A clip of 13 frames of 160 pixels takes 1 MB.
CLIPS_AHEAD = 2048


def plan_run(
    recipe: Config, settings: TrainSettings, placement: Placement, *, work_dir: str | os.PathLike
) -> Config:
    """Add to a config how this machine trains it.

    Args:
        recipe: The result of `build_config`; it is not changed.
        settings: The settings that it was built from.
        placement: Device and processes.
        work_dir: The folder of the training.

    Raises:
        EpicError: The batch cannot be split evenly, the device cannot compute in the precision or
            has no BatchNorm over processes, or a val segment has no label.
    """
    config = copy.deepcopy(recipe)
    config.work_dir = os.fspath(work_dir)
    on_cpu = placement.device == "cpu"

    # Precision, and the memory layout of the backbone's weights: docs/evidence/gpu.md says why.
    if settings.precision is None and on_cpu:
        set_precision(config, "fp32")
    require_device(config, placement.device)
    is_last = settings.channels_last
    if is_last is None:
        is_last = lies_channels_last(dtype_of(config), placement.device)
    if config.model.type == "ChannelsLastRecognizer3D" and not is_last:
        config.model.type = "Recognizer3D"

    # Parts of a batch. An average is updated once a batch, and MMEngine scales the rate by a part.
    parts = _parts(config, settings, placement)
    config.optim_wrapper.accumulative_counts = parts
    config.custom_hooks = config.get("custom_hooks") or []
    for hook in config.custom_hooks:
        if hook.type == "EMAHook":
            hook.interval = parts
    if config.get("auto_scale_lr"):
        config.auto_scale_lr.base_batch_size /= parts
    if settings.compile:
        config.custom_hooks.append({"type": "CompileHook"})

    # Loaders, and the other processes.
    if not _has_val(config, settings):
        config.update(NO_VALIDATION)
    _plan_loaders(config, settings, placement, parts)
    if placement.processes > 1:
        config.launcher = "pytorch"
        config.model_wrapper_cfg = {
            "type": "MMDistributedDataParallel",
            # Each forward pass begins with rank 0's BatchNorm statistics, so its checkpoint has
            # all.
            "broadcast_buffers": True,
            "find_unused_parameters": config.get("find_unused_parameters", False),
            **({"device_ids": None} if on_cpu else {}),
        }
    return config


def _parts(config: Config, settings: TrainSettings, placement: Placement) -> int:
    """Choose in how many equal parts a process computes its share of a batch.

    A part goes through the model at once; MMEngine sums the gradients (`accumulative_counts`). A
    recipe may limit a part to `most_at_once` segments.
    """
    batch, processes = config.train_dataloader.batch_size, placement.processes
    asked = settings.accumulate or 1
    if batch % (processes * asked):
        nodes_text = f"train.nodes {placement.nodes} x " if placement.nodes > 1 else ""
        raise EpicError(
            f"train.batch_size is {batch}; expected a multiple of {processes * asked} "
            f"({nodes_text}train.gpus {placement.on_node} x train.accumulate {asked}), so that all "
            "get the same share"
        )
    share = batch // processes
    if settings.accumulate is None:
        maximum = config.get("most_at_once") or share
        asked = next(n for n in range(math.ceil(share / maximum), share + 1) if share % n == 0)
    blending = (config.model.get("data_preprocessor") or {}).get("blending")
    if share == asked and blending:
        raise EpicError(
            "the batch is computed a segment at a time, but `model.data_preprocessor.blending` "
            "mixes the segments of a part with each other; lower `train: accumulate:`, raise "
            "`batch_size`, or take `blending` out"
        )
    return asked


def require_device(config: Config, device: str) -> None:
    """Raise EpicError if the device does not support the precision or synced BatchNorm."""
    precision, sync = precision_of(config), bool(config.get("sync_bn"))
    if device == "cpu" and (precision != "fp32" or sync):
        raise EpicError(
            f"train: precision is {precision}, bn is {'sync' if sync else 'not sync'}; MMEngine's "
            "autocast and torch's SyncBatchNorm need GPUs, and this training runs on the CPU; "
            "expected fp32, and bn local or frozen"
        )
    # From here on, bf16 means a GPU.
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise EpicError(
            f"train: precision is bf16, but {torch.cuda.get_device_name()} has no bf16; expected "
            "fp16 or fp32"
        )


def _plan_loaders(
    config: Config, settings: TrainSettings, placement: Placement, parts: int
) -> None:
    """Set batch size, workers and prefetching of each loader of a process."""
    for name in present(config, *LOADERS):
        loader = config[name]
        workers = loader.get("num_workers", 0)
        has_own_number = settings.workers is not None or f"{name}.num_workers" in settings.options
        # A GPU needs as many workers as the cores allow, unless the user chose a number.
        if placement.device == "cuda" and not has_own_number:
            workers = workers_for(usable_cores(), placement.on_node)
        batch_size = max(1, loader.batch_size // (placement.processes * parts))
        # A recipe's own values for these win.
        values = {
            "pin_memory": placement.device == "cuda",
            "collate_fn": {"type": "collate_in_one"},
            # So a stop signal to the process group lets the iteration finish.
            "worker_init_fn": {"type": "ignore_signals"},
        }
        if workers:
            values["prefetch_factor"] = max(1, min(2, CLIPS_AHEAD // (workers * batch_size)))
        values |= loader
        values |= {
            "batch_size": batch_size,
            "num_workers": workers,
            "persistent_workers": workers > 0 and loader.get("persistent_workers", True),
        }
        config[name] = values


def _has_val(config: Config, settings: TrainSettings) -> bool:
    """Whether there are segments to validate on; raise EpicError if one has no label."""
    if settings.split != "train" or not present(config, "val_dataloader"):
        return False
    path = config.val_dataloader.dataset.ann_file
    val = read_clean_list(path)
    unlabelled = val[(val["verb"] == NO_LABEL) | (val["noun"] == NO_LABEL)]
    if len(unlabelled):
        raise EpicError(
            f"{path}: {unlabelled.iloc[0]['narration_id']} and {len(unlabelled) - 1} more segments "
            "have no verb or noun, which validation needs; set `annotations: val:` to "
            "EPIC_100_validation.csv, whose segments are labelled"
        )
    return len(val) > 0
