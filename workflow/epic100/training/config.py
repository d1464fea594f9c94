"""Turn the workflow's settings into the MMEngine config of what is learned.

Nothing is changed in place. The stamp of a run is computed from this config; `training.plan` then
adds how a machine trains it. Each function below `build_config` returns some dotted keys of the
config with their values.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from epic100.base.errors import EpicError
from epic100.model.head_sizes import HEADS
from epic100.segments.pairs import pairs_path
from epic100.settings import TrainSettings
from epic100.training.config_crop import cropping
from epic100.training.config_file import changed, custom_hooks, present, read_config
from epic100.training.config_heads import with_heads
from epic100.training.option_check import require_known_options

Changes = dict[str, Any]

AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
NO_VALIDATION: Changes = dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator"))
# What an MMEngine config may say to the workflow, each a variable of its file.
RECIPE = {"heads": tuple(HEADS), "sampling": ("dense", "segment")}
CHECKPOINT_HOOK = "SafeCheckpointHook"


def build_config(
    settings: TrainSettings,
    results: str,
    video_root: str,
    index_dir: str | None = None,
    classes: tuple[int, int] = (97, 300),
) -> Config:
    """Build the MMEngine config of what is learned.

    Args:
        settings: The workflow's settings; `options` are applied last and override all others.
        results: The folder that contains `clean/` and `scan/`.
        video_root: The folder of the videos.
        index_dir: Folder of the frame indexes of the videos; None means the scan's.
        classes: Number of verb classes and number of noun classes.

    Raises:
        EpicError: The MMEngine config cannot be read, trains on another split, or uses another
            checkpoint hook; or nothing reads one of the options.
    """
    config = read_config(
        settings.config,
        {
            "EPIC100_RESULTS": results,
            "EPIC100_VIDEOS": video_root,
            "EPIC100_INDEXES": index_dir or f"{results}/scan",
            "EPIC100_SPLIT": settings.split,
        },
    )
    settings = _recipe(config, settings)
    if settings.split != "train":
        _require_split(config, settings)
        config = changed(config, NO_VALIDATION)  # it would validate on training segments
    if settings.epochs is not None:
        config = changed(config, schedule_for(config, settings.epochs))
    pairs = pairs_path(results, settings.split)
    config = changed(config, _sampling(config, settings))
    if settings.crop is not None:
        config = changed(config, cropping(config, settings.crop, settings.config))
    config = changed(config, _named(config, settings))
    config = changed(
        config,
        {
            **_chosen(config, settings, pairs),
            **with_heads(config, settings, pairs, classes),
            **_checkpoints(config, settings),
            **_precision(settings.precision),
            **({"sync_bn": "torch"} if settings.bn == "sync" else {}),
            "custom_hooks": [*custom_hooks(config), *_hooks(settings)],
            "randomness.seed": settings.seed,
            "load_from": settings.load_from,
        },
    )
    require_known_options(config, settings.options)
    config.merge_from_dict(copy.deepcopy(settings.options))  # MMEngine pops its `_delete_` keys
    return config


def _recipe(config: Config, settings: TrainSettings) -> TrainSettings:
    """Take what the settings leave open from the MMEngine config's own `heads` and `sampling`.

    They are for the workflow alone, so they are taken out of the config.
    """
    for key, known in RECIPE.items():
        value = config.pop(key, None)
        if value is not None and value not in known:
            raise EpicError(
                f"{settings.config}: {key} is {value!r}; expected {', '.join(known)} or None, for "
                f"`train: {key}:`"
            )
        if getattr(settings, key) is None:
            settings = settings.model_copy(update={key: value})
    return settings


def schedule_for(config: Config, epochs: int) -> Changes:
    """Set the number of epochs, and extend or shorten each schedule that ended with the training.

    A schedule that would start only after the new end is dropped.
    """
    before = config.train_cfg.max_epochs
    schedules = []
    for part in map(ConfigDict, config.get("param_scheduler") or []):
        if part.get("end") == before:
            part["end"] = epochs
            if "T_max" in part:
                part["T_max"] = max(1, part["T_max"] + epochs - before)
        if part.get("begin", 0) < epochs:
            schedules.append(part)
    return {"train_cfg.max_epochs": epochs, "param_scheduler": schedules}


def _named(config: Config, settings: TrainSettings) -> Changes:
    """Settings that set one value of the MMEngine config; None keeps the config's value."""
    workers, validate = settings.workers, settings.validation
    values = {
        "train_cfg.val_interval": validate.every,
        "model.cls_head.label_smooth_eps": settings.label_smoothing,
        "model.cls_head.dropout_ratio": settings.dropout,
    }
    for name in present(config, *LOADERS):
        values[f"{name}.batch_size"] = settings.batch_size
        values[f"{name}.num_workers"] = workers
        values[f"{name}.persistent_workers"] = None if workers is None else workers > 0
        values[f"{name}.dataset.seed"] = settings.seed
        values[f"{name}.dataset.max_broken"] = settings.max_broken
    if present(config, "val_dataloader"):
        values["val_dataloader.dataset.part"] = validate.segments
    for step in _steps(config.to_dict(), "SampleFrames"):
        values[f"{step}.target_fps"] = settings.target_fps
    return {key: value for key, value in values.items() if value is not None}


def _chosen(config: Config, settings: TrainSettings, pairs: str) -> Changes:
    """Settings that replace a component of the MMEngine config."""
    changes: Changes = {}
    if number := settings.videos_at_once:
        sampler = {"type": "VideoPoolSampler", "videos_at_once": number}
        changes["train_dataloader.sampler"] = sampler
    if tau := settings.logit_adjustment:  # its prior is the counts of the pair table
        loss = {"type": "LogitAdjustedLoss", "pairs": pairs, "tau": tau}
        changes["model.cls_head.loss_cls"] = loss
    if settings.scale_lr is not None:
        scale = config.get("auto_scale_lr") or {}
        changes["auto_scale_lr"] = {**scale, "enable": settings.scale_lr}
    return changes


def _sampling(config: Config, settings: TrainSettings) -> Changes:
    """Sample frames over the whole segment instead of a dense stretch, in every pipeline."""
    steps = {place: _at(config, place) for place in _steps(config.to_dict(), "SampleFrames")}
    dense = [place for place, step in steps.items() if step["clip_len"] > 1]
    # Elsewhere are variables of a base config, which may be unused by now.
    read = any(place.startswith(LOADERS) for place in dense)
    or_dense = ", or set `sampling: dense`" if read else ""
    if settings.target_fps is not None and (settings.sampling == "segment" or not read):
        raise EpicError(
            f"train: target_fps is {settings.target_fps:g}, but {settings.config} takes its frames "
            f"over the whole segment, at no rate of its own; set it to null{or_dense}"
        )
    if settings.sampling == "dense" and not read:
        raise EpicError(
            f"train: sampling is dense, but {settings.config} takes its frames over the whole "
            "segment and has no interval; set it to null"
        )
    if settings.sampling != "segment":
        return {}
    return {
        place: {
            "type": "UniformSample",
            "clip_len": steps[place]["clip_len"],
            "test_mode": steps[place].get("test_mode", False),
        }
        for place in dense
    }


def _at(config: Config, place: str) -> Any:
    node: Any = config
    for name in place.split("."):
        node = node[int(name)] if isinstance(node, (list, tuple)) else node[name]
    return node


def _checkpoints(config: Config, settings: TrainSettings) -> Changes:
    hook = config.get("default_hooks", {}).get("checkpoint") or {}
    if hook.get("type") != CHECKPOINT_HOOK:
        raise EpicError(
            f"{config.filename}: default_hooks.checkpoint is {hook.get('type')}; expected "
            f"{CHECKPOINT_HOOK}, as in config/x3d_s_epic_rgb_segments.py: MMEngine's own cannot be "
            "killed at any moment"
        )
    chosen = {**settings.checkpoint.model_dump(), "go_on": True}
    return {f"default_hooks.checkpoint.{key}": value for key, value in chosen.items()}


def _precision(precision: str) -> Changes:
    """Set autocast, which is part of what is learned: a resumed run keeps its precision."""
    if precision == "fp32":
        return {}
    # bf16 has the exponent range of fp32, so its gradients need no scaling against underflow.
    scale = "dynamic" if precision == "fp16" else {"enabled": False}
    amp = {"type": "AmpOptimWrapper", "dtype": AUTOCAST[precision], "loss_scale": scale}
    return {f"optim_wrapper.{key}": value for key, value in amp.items()}


def _hooks(settings: TrainSettings) -> list[ConfigDict]:
    """Hooks that change what is learned, added after those of the MMEngine config."""
    hooks = []
    if settings.bn == "frozen":
        hooks.append(ConfigDict(type="FrozenBatchNormHook"))
    if settings.tf32 is not None:
        hooks.append(ConfigDict(type="Tf32Hook", allowed=settings.tf32))
    if settings.ema is not None:
        kind = "ExponentialMovingAverage"
        hooks.append(ConfigDict(type="EMAHook", ema_type=kind, momentum=1 - settings.ema))
    return hooks


def _require_split(config: Config, settings: TrainSettings) -> None:
    listed = Path(config.train_dataloader.dataset.get("ann_file", "")).stem
    if listed != settings.split:
        raise EpicError(
            f"{settings.config}: trains on {listed}, but `train: split:` is {settings.split}; take "
            "its lists from the environment variable EPIC100_SPLIT, as config/x3d_s_epic_rgb_"
            "segments.py does"
        )


def _steps(node: Any, kind: str, place: str = "") -> Iterator[str]:
    """The dotted key of every dict with this `type` in a nested config."""
    if isinstance(node, dict) and node.get("type") == kind:
        yield place
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    for key, item in node.items() if isinstance(node, dict) else ():
        yield from _steps(item, kind, f"{place}.{key}" if place else str(key))
