"""Turn the workflow's settings into the MMEngine config of a training.

The MMEngine file is the recipe: it states what is trained. A run adds only the paths of its files
and the keys of `train:` that are set. The fingerprint of a training is computed from this config.
`training.plan` then adds how a machine trains it.
"""

import copy
import difflib
import inspect
import os
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import DATASETS, HOOKS, LOOPS, METRICS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from epic100.data.pairs import pairs_path, read_pairs
from epic100.model.hugging_face import BACKBONE, backbone_config
from epic100.model.hugging_face_folder import HuggingFaceFolder
from epic100.model.precision import dtype_of
from epic100.model.registered import HEAD, head_config
from epic100.settings.training import TrainSettings

DEFAULT = "config/x3d_s_epic_rgb_segments.py"
NO_VALIDATION = dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator"))
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")
METRIC = "EpicPairMetric"


def build_config(
    settings: TrainSettings,
    results: str,
    video_root: str,
    index_dir: str | None = None,
    classes: tuple[int, int] = (97, 300),
) -> Config:
    """Build the MMEngine config of a run from its recipe and the settings.

    Args:
        settings: The workflow's settings; `options` are applied last and override all others.
        results: The folder that contains `clean/` and `scan/`.
        video_root: The folder of the videos.
        index_dir: Folder of the frame indexes of the videos; None means `{results}/scan`.
        classes: Number of verb classes and number of noun classes.

    Raises:
        EpicError: The MMEngine config cannot be read, or has classes that the workflow cannot train
            with; or nothing reads one of the options.
    """
    # A recipe may then name classes of MMAction2 without the prefix `mmaction.`.
    init_default_scope("mmaction")
    config = read_config(settings.config)

    # Settings that change more than one value.
    if settings.split != "train":
        # It would validate on segments that it learns from.
        config.update(NO_VALIDATION)
    if settings.epochs:
        set_epochs(config, settings.epochs)
    if settings.precision:
        set_precision(config, settings.precision)
    if settings.bn == "sync":
        config.sync_bn = "torch"
    config.load_from = settings.load_from
    config.model.cls_head = _epic_head(config.model.cls_head)

    # These hooks change what is learned, as the recipe's own do.
    config.custom_hooks = config.get("custom_hooks") or []
    if settings.bn == "frozen":
        config.custom_hooks.append(ConfigDict(type="FrozenBatchNormHook"))
    if settings.ema is not None:
        average = {"ema_type": "ExponentialMovingAverage", "momentum": 1 - settings.ema}
        config.custom_hooks.append(ConfigDict(type="EMAHook", **average))

    # Settings with a single value, then the options.
    _set_values(config, settings, results, video_root, index_dir or f"{results}/scan")
    options = {key: _checked_option(config, key, settings.options[key]) for key in settings.options}
    try:
        config.merge_from_dict(options)
    except (KeyError, TypeError) as error:  # A key below a value that is no dict, or no item.
        raise EpicError(f"config: `train: options:` cannot be set: {error}") from error
    _require_workflow_classes(config, settings.config)
    if config.optim_wrapper.get("accumulative_counts", 1) != 1:
        raise EpicError("`optim_wrapper.accumulative_counts` is set; expected `train: accumulate:`")

    # An option may choose another backbone or head, so their sizes are set last.
    _fit_encoder(config, settings)
    _set_classes(config, pairs_path(results, settings.split), *classes)
    return config


def read_config(path: str | os.PathLike) -> Config:
    """Read an MMEngine config. It is Python code, and is run.

    Raises:
        EpicError: The file is missing or cannot be read; the error gives the cause in one line.
    """
    if not Path(path).is_file():
        raise EpicError(f"{path}: no such MMEngine config; see `train: config:`")
    try:
        config = Config.fromfile(path)
    except Exception as error:  # A config is code, so any error is possible.
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:  # MMEngine wraps the original error.
            cause = deeper
        reason = " ".join(str(cause).split())
        raise EpicError(
            f"{path}: this MMEngine config cannot be read ({type(cause).__name__}: {reason}); see "
            "`train: config:`, and `custom_imports` in the file itself"
        ) from error
    # MMEngine makes the text of a config nine times a run, and formats it with yapf, which takes a
    # second for long paths. `fromfile` has an argument against this, but ignores it.
    object.__setattr__(config, "_format_python_code", False)
    return config


def set_epochs(config: Config, epochs: int) -> None:
    """Set the number of epochs of a config.

    Each schedule that ended with the training ends with it again. A schedule that would begin only
    after the new end is dropped.
    """
    old_epochs = config.train_cfg.max_epochs
    config.train_cfg.max_epochs = epochs
    schedules = config.get("param_scheduler") or []
    config.param_scheduler = [s for s in schedules if s.get("begin", 0) < epochs]
    for schedule in config.param_scheduler:
        if schedule.get("end") == old_epochs:
            schedule.end = epochs
            # A cosine may begin after a warm-up, whose length stays.
            if "T_max" in schedule:
                schedule.T_max = max(1, schedule.T_max + epochs - old_epochs)


# Autocast is part of what is learned: a resumed run keeps its precision. bf16 has the exponent
# range of fp32, so its gradients need no scaling against underflow.
AUTOCAST: dict[str, dict[str, Any]] = {
    "fp32": {"type": "OptimWrapper"},
    "bf16": {"type": "AmpOptimWrapper", "dtype": "bfloat16", "loss_scale": {"enabled": False}},
    "fp16": {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"},
}


def set_precision(config: Config, precision: str) -> None:
    """Set the precision of a training, a key of `AUTOCAST`."""
    # The keys of bf16 include those of the others, so nothing is left of an earlier precision.
    for key in AUTOCAST["bf16"]:
        config.optim_wrapper.pop(key, None)
    config.optim_wrapper.update(AUTOCAST[precision])


def precision_of(config: Config) -> str:
    """Name the precision that a config trains in: fp32, bf16 or fp16."""
    return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype_of(config)]


def _set_values(
    config: Config, settings: TrainSettings, results: str, video_root: str, index_dir: str
) -> None:
    """Set the paths of the data, and the settings with a single value; None changes nothing."""
    values: dict[str, Any] = {
        "randomness.seed": settings.seed,
        "train_cfg.val_interval": settings.validation.every,
        "auto_scale_lr.enable": settings.scale_lr,
        "model.cls_head.heads": settings.heads,
        "model.cls_head.head.label_smooth_eps": settings.label_smoothing,
        "model.cls_head.head.dropout_ratio": settings.dropout,
    }
    for name in present(config, *LOADERS):
        split = settings.split if name == "train_dataloader" else "val"
        values |= {
            f"{name}.batch_size": settings.batch_size,
            f"{name}.num_workers": settings.workers,
            f"{name}.dataset.ann_file": f"{results}/clean/{split}.txt",
            f"{name}.dataset.pairs": pairs_path(results, settings.split),
            f"{name}.dataset.data_root": video_root,
            f"{name}.dataset.index_dir": index_dir,
            f"{name}.dataset.seed": settings.seed,
        }
        if settings.workers is not None:
            values[f"{name}.persistent_workers"] = settings.workers > 0
        if name == "val_dataloader":
            # A validation may take this number of segments of val.
            values[f"{name}.dataset.part"] = settings.validation.segments
    config.merge_from_dict({key: value for key, value in values.items() if value is not None})


# The top-level keys that MMEngine's Runner reads: these, and its own arguments.
RUNNER_KEYS = {
    "activation_checkpointing",
    "auto_scale_lr",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "most_at_once",
    "sync_bn",
} | set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
# A known name that is at least this similar (0 to 1) is suggested for one that nothing reads. Where
# any name is possible, a name that is `TYPO` similar to a known one counts as a typo.
SIMILAR, TYPO = 0.6, 0.85


def _checked_option(config: Config, key: str, value: Any) -> Any:
    """Reject a typo in an option's key, and return a copy of its value for the config.

    At the top, the Runner reads only its own keys; the others there are variables of the config's
    file. Below, a name may be new, unless it is similar to one next to it: the class that is built
    there rejects what it does not take.

    A list becomes a tuple where the config has a tuple. YAML has no tuples, but some classes of
    MMAction2 take nothing else.

    Args:
        config: The config before the options are applied.
        key: The dotted key of the option.
        value: Its value.

    Raises:
        EpicError: The key is probably a typo; MMEngine takes any key.
    """
    # `node` is what the names of the key so far lead to.
    node: Any = config.to_dict()
    known, similarity = RUNNER_KEYS, SIMILAR
    names = key.split(".")
    for depth, name in enumerate(names):
        similar = difflib.get_close_matches(name, known, n=1, cutoff=similarity)
        # Names such as `_delete_` tell MMEngine how to merge.
        is_new = name not in known and not name.startswith("_")
        if is_new and (similar or depth == 0):
            ends = f".{name}"
            meant = next((k for k in by_key(config.to_dict()) if k.endswith(ends)), "")
            if similar:
                meant = ".".join([*names[:depth], similar[0], *names[depth + 1 :]])
            hint = f"; did you mean {meant}?" if meant else ""
            raise EpicError(
                f"config: `train: options:` sets {key}, but nothing reads {name}{hint}; expected a "
                "dotted key of the MMEngine config, such as optim_wrapper.optimizer.lr"
            )
        node = _named(node).get(name)
        known, similarity = set(_named(node)), TYPO
    if isinstance(node, tuple) and isinstance(value, list):
        return tuple(value)
    # MMEngine removes the `_delete_` of a dict that it gets, so it gets a copy.
    return copy.deepcopy(value)


# The pipeline steps of MMAction2 that open or decode a video, each with the workflow's step to use
# instead: MMAction2's would read the complete video as the segment.
STEPS_TO_REPLACE = {
    f"{library}{step}": ours
    for library in ("Decord", "PyAV", "OpenCV")
    for step, ours in (("Init", "OpenSegment"), ("Decode", "DecodeSegment"))
}


def _require_workflow_classes(config: Config, path: str) -> None:
    """Raise EpicError if a config, options included, lacks classes that the workflow needs.

    A subclass of a needed class is as good. The error names each key, and the class to put there.
    """
    values = by_key(config.to_dict())
    needed = {
        "train_cfg": "ResumableTrainLoop",
        "default_hooks.checkpoint": "SaveHook",
        "default_hooks.epoch": "EpochHook",
        "default_hooks.seeds": "SampleSeedHook",
    }
    needed |= dict.fromkeys(present(config, "val_cfg"), "PrecisionValLoop")
    needed |= {f"{name}.dataset": "EpicSegmentVideoDataset" for name in present(config, *LOADERS)}
    lines = []
    for key, name in needed.items():
        if not _is_subclass(values.get(f"{key}.type"), name):
            lines.append(f"{key}.type = {name!r}")
    for name in present(config, *EVALUATORS):
        if not any(_is_subclass(metric.type, METRIC) for metric in _listed(config[name])):
            lines.append(f"{name} = [dict(type={METRIC!r}, ...), ...]")
    for key, value in values.items():
        if key.startswith(LOADERS) and value in STEPS_TO_REPLACE:
            lines.append(f"{key} = {STEPS_TO_REPLACE[value]!r}")
    if "model.cls_head.type" not in values:
        lines.append(f"model.cls_head = dict(type={HEAD!r}, head=...)")
    if lines:
        raise EpicError(
            f"{path}: the workflow cannot train this MMEngine config, with `train: options:`, as "
            f"it is; expected {', '.join(lines)}, or a subclass; a config on top of {DEFAULT} "
            "(`_base_`) has all of them, and states its own model and pipelines alone"
        )


def _is_subclass(name: Any, needed: str) -> bool:
    """Whether the class that is registered as `name` is `needed` or a subclass of it.

    Both are looked up in the registry of MMEngine that has `needed`.
    """
    for registry in (LOOPS, HOOKS, DATASETS, METRICS):
        if base := registry.get(needed):
            found = registry.get(name) if isinstance(name, str) else None
            return inspect.isclass(found) and issubclass(found, base)
    return False


def _listed(value: Any) -> list[Any]:
    """Return a list as it is, and anything else as a list of one item."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _fit_encoder(config: Config, settings: TrainSettings) -> None:
    """Make model and pipelines fit an encoder of Hugging Face, if the recipe has one.

    The folder's files say how many frames and pixels it sees, and how many channels it gives.

    Raises:
        EpicError: No folder is named, or it holds no encoder that works; or one is named, but the
            recipe has another backbone.
    """
    model, backbone = config.model, config.model.backbone
    folder = settings.encoder or backbone.get("encoder_folder")
    has_encoder = backbone.type == BACKBONE
    if not has_encoder and settings.encoder is None:
        return
    if not has_encoder or folder is None:
        raise EpicError(
            f"config: `train: encoder:` is {folder}, and the backbone of {settings.config} is "
            f"{backbone.type}; expected the folder of an encoder and {BACKBONE}, such as "
            "train.config=config/zoo/hf_attentive.py train.encoder=FOLDER"
        )
    encoder, spec = HuggingFaceFolder(folder), backbone_config(folder, backbone.frozen)
    model.backbone = {"type": BACKBONE, **spec}
    model.cls_head.head.in_channels = spec["channels"]
    if "channels" in (model.get("neck") or {}):
        model.neck.channels = spec["channels"]
    # Some encoders have weights that their tokens do not depend on. DDP must not wait for gradients
    # of these.
    config.find_unused_parameters = not backbone.frozen
    # The sampling has the length of a clip. The crops have the size, and a centre crop also has the
    # short side.
    for name in present(config, *LOADERS):
        for step in config[name].dataset.pipeline:
            if "clip_len" in step:
                step.clip_len = encoder.clip_len
            if "size" in step:
                step.size = encoder.size
            if step.get("crop") == "centre":
                step.short_side = encoder.short_side


def _epic_head(head: ConfigDict) -> dict[str, Any]:
    """Make the EpicHead of a config; a plain head of MMAction2 gets one output for each pair."""
    if head.type == HEAD:
        return {"heads": "pair", **head}
    inner_head = {key: value for key, value in head.items() if key != "num_classes"}
    return {"type": HEAD, "heads": "pair", "head": inner_head}


# A model also states its number of classes at these keys: for mixed labels, and for TPN's second
# head.
CLASS_COUNT_KEYS = (".num_classes", ".aux_head_cfg.out_channels")


def _set_classes(config: Config, pairs: str, num_verbs: int, num_nouns: int) -> None:
    """Set the pair table and the numbers of classes, in head, metric and model.

    Args:
        config: The config with the options, which may have another head.
        pairs: Path of the pair table.
        num_verbs: Number of verb classes.
        num_nouns: Number of noun classes.
    """
    model = config.model
    table = {"pairs": pairs, "num_verbs": num_verbs, "num_nouns": num_nouns}
    model.cls_head = _epic_head(model.cls_head) | table
    for name in present(config, *EVALUATORS):
        config[name] = _listed(config[name])
        for metric in config[name]:
            if _is_subclass(metric.type, METRIC):
                metric.update(table, heads=model.cls_head.heads)
    if (model.get("test_cfg") or {}).get("fcn_test"):
        # In its first test, TPN's head would make a copy of its last layer, and use this copy in
        # all later tests. The layer that learns gives the same scores.
        model.test_cfg.fcn_test = False
    parts = {part: model[part] for part in present(model, "neck", "data_preprocessor")}
    counts = [key for key in by_key(parts, "model.") if key.endswith(CLASS_COUNT_KEYS)]
    config.merge_from_dict(dict.fromkeys(counts, len(read_pairs(pairs))))


def model_config(config: Config) -> dict[str, Any]:
    """Make the config in a model file, from which alone the model can be built again.

    Args:
        config: The result of `build_config`.
    """
    content = config.to_dict()
    head = {key: value for key, value in content["model"]["cls_head"].items() if key != "type"}
    content["model"]["cls_head"] = head_config(**head)
    return content


def present(config: Config, *names: str) -> list[str]:
    """List the keys in `names` that the config sets to a value other than None or empty."""
    return [name for name in names if config.get(name)]


def by_key(tree: Any, prefix: str = "") -> dict[str, Any]:
    """List the values of a nested dict by dotted key, such as `param_scheduler.0.type`."""
    values: dict[str, Any] = {}
    for name, value in _named(tree).items():
        if isinstance(value, (dict, list, tuple)):
            values |= by_key(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = value
    return values


def _named(node: Any) -> dict[str, Any]:
    """Return a dict as it is, and the items of a list by number; {} for any other value."""
    if isinstance(node, (list, tuple)):
        return {str(number): item for number, item in enumerate(node)}
    return node if isinstance(node, dict) else {}
