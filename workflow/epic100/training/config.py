"""Turn the workflow's settings into the MMEngine config of what is learned.

The MMEngine file is the recipe: it states what is trained. A run adds only what it knows: where
files are, and the keys of `train:` that are set. Nothing is changed in place. The stamp of a run is
computed from this config; `training.plan` then adds how a machine trains it. Each function below
`build_config` returns some dotted keys of the config with their values.
"""

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from epic100.base.errors import EpicError
from epic100.model.heads import HEAD, named_head
from epic100.segments.pairs import pairs_path, read_pairs
from epic100.settings import TrainSettings
from epic100.training.config_file import (
    changed,
    custom_hooks,
    items_of,
    present,
    read_config,
    require_known_options,
    tree_of,
)

Changes = dict[str, Any]

DEFAULT = "config/x3d_s_epic_rgb_segments.py"
AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")
NO_VALIDATION: Changes = dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator"))
# Steps of MMAction2 that take a whole video for the segment, and those in their place.
OWN_STEPS = {
    f"{library}{step}": ours
    for library in ("Decord", "PyAV", "OpenCV")
    for step, ours in (("Init", "OpenSegment"), ("Decode", "DecodeSegment"))
}
# Where else a model says how many classes it learns: mixed labels, and TPN's second head.
COUNTS = (".num_classes", ".aux_head_cfg.out_channels")


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
        EpicError: The MMEngine config cannot be read, or has parts that do not go with the
            workflow's; or nothing reads one of the options.
    """
    config = read_config(settings.config)
    _require_parts(config, settings.config)
    if settings.split != "train":
        config = changed(config, NO_VALIDATION)  # it would validate on training segments
    if settings.epochs is not None:
        config = changed(config, schedule_for(config, settings.epochs))
    config = changed(config, {"model.cls_head": _epic_head(config.model.cls_head)})
    config = changed(
        config,
        {
            **_named(config, settings, results, video_root, index_dir or f"{results}/scan"),
            "default_hooks.checkpoint.seconds": settings.checkpoint.seconds,
            "default_hooks.checkpoint.keep": settings.checkpoint.keep,
            "default_hooks.checkpoint.go_on": True,
            **_precision(settings.precision),
            **({"sync_bn": "torch"} if settings.bn == "sync" else {}),
            "custom_hooks": [*custom_hooks(config), *_hooks(settings)],
            "randomness.seed": settings.seed,
            "load_from": settings.load_from,
        },
    )
    require_known_options(config, settings.options)
    try:
        config.merge_from_dict(copy.deepcopy(settings.options))  # MMEngine pops `_delete_` keys
    except TypeError as error:  # a dict for what is none
        raise EpicError(f"config: `train: options:` cannot be set: {error}") from error
    pairs = pairs_path(results, settings.split)
    return changed(
        config, _counted(config, {"pairs": pairs, "num_verbs": classes[0], "num_nouns": classes[1]})
    )


def model_text(config: Config) -> str:
    """The text of a result of `build_config` for a model file: no other file is needed to build it.

    Args:
        config: The result of `build_config`, or of `training.plan` on top of it.
    """
    head = {key: value for key, value in config.model.cls_head.items() if key != "type"}
    return changed(config, {"model.cls_head": named_head(**head)}).pretty_text


def heads_of(config: Config) -> str:
    """The heads of the model in the result of `build_config`, a key of `model.head_sizes.HEADS`."""
    return config.model.cls_head.heads


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


def _require_parts(config: Config, where: str) -> None:
    """Refuse a config whose loop, hooks or data are MMAction2's own, with the lines to change."""
    found = dict(items_of(tree_of(config.to_dict())))
    wanted = {
        "train_cfg.type": "ResumableEpochLoop",
        "default_hooks.checkpoint.type": "SafeCheckpointHook",
        "default_hooks.telemetry.type": "TelemetryHook",
        **{f"{name}.dataset.type": "EpicSegmentVideoDataset" for name in present(config, *LOADERS)},
        **{f"{name}.type": "EpicPairMetric" for name in present(config, *EVALUATORS)},
        **{
            key: OWN_STEPS[kind]
            for key, kind in found.items()
            if key.startswith(LOADERS) and kind in OWN_STEPS
        },
    }
    lines = [f"{key} = {kind!r}" for key, kind in wanted.items() if found.get(key) != kind]
    if "SampleSeedHook" not in [hook.type for hook in custom_hooks(config)]:
        lines.append("custom_hooks = [dict(type='SampleSeedHook')]")
    if "model.cls_head.type" not in found:
        lines.append(f"model.cls_head = dict(type={HEAD!r}, head=...)")
    if lines:
        raise EpicError(
            f"{where}: the workflow cannot train this MMEngine config as it is; expected "
            f"{', '.join(lines)}; a config on top of {DEFAULT} (`_base_`) has all of them, and "
            "states its own model and pipelines alone"
        )


def _epic_head(head: ConfigDict) -> dict[str, Any]:
    """The head of a config. One of MMAction2 that stands alone gets outputs for pairs."""
    if head.type == HEAD:
        return {"heads": "pair", **head}
    own = {key: value for key, value in head.items() if key != "num_classes"}
    return {"type": HEAD, "heads": "pair", "head": own}


def _counted(config: Config, table: Mapping[str, Any]) -> Changes:
    """What counts pairs and classes: the head, the metric, and a few parts of MMAction2.

    Args:
        config: The config with the options, which may have another head.
        table: The pair table and the numbers of classes, as arguments of the head.
    """
    model = config.model
    head = {**_epic_head(model.cls_head), **table}
    changes: Changes = {"model.cls_head": head}
    for name in present(config, *EVALUATORS):
        changes |= {f"{name}.{key}": head[key] for key in (*table, "heads")}
    for part in present(model, "neck", "data_preprocessor"):
        for key, _ in items_of(tree_of(model[part]), f"model.{part}."):
            if key.endswith(COUNTS):
                changes[key] = len(read_pairs(table["pairs"]))
    if (model.get("test_cfg") or {}).get("fcn_test"):
        # TPN's head would then make itself a layer in the first test, and never change it again.
        # The layer that learns gives the same scores.
        changes["model.test_cfg.fcn_test"] = False
    return changes


def _named(
    config: Config, settings: TrainSettings, results: str, video_root: str, index_dir: str
) -> Changes:
    """Where the data are, and settings of one value each; None keeps the config's value."""
    workers, validate = settings.workers, settings.validation
    values: Changes = {
        "train_cfg.val_interval": validate.every,
        "auto_scale_lr.enable": settings.scale_lr,
        "model.cls_head.heads": settings.heads,
        "model.cls_head.head.label_smooth_eps": settings.label_smoothing,
        "model.cls_head.head.dropout_ratio": settings.dropout,
    }
    for name in present(config, *LOADERS):
        split = settings.split if name == "train_dataloader" else "val"
        own = {
            "batch_size": settings.batch_size,
            "num_workers": workers,
            "persistent_workers": None if workers is None else workers > 0,
            "dataset.ann_file": f"{results}/clean/{split}.txt",
            "dataset.pairs": pairs_path(results, settings.split),
            "dataset.data_root": video_root,
            "dataset.index_dir": index_dir,
            "dataset.seed": settings.seed,
            "dataset.max_broken": settings.max_broken,
            "dataset.part": validate.segments if name == "val_dataloader" else None,
        }
        values |= {f"{name}.{key}": value for key, value in own.items()}
    return {key: value for key, value in values.items() if value is not None}


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
    if settings.ema is not None:
        kind = "ExponentialMovingAverage"
        hooks.append(ConfigDict(type="EMAHook", ema_type=kind, momentum=1 - settings.ema))
    return hooks
