"""Turn the workflow's settings into the MMEngine config of a training.

The MMEngine file is the recipe: it states what is trained. A run adds only the paths of its files
and the keys of `train:` that are set. Functions copy a config and do not change the one that they
get. The stamp of a run is computed from this config; `training.plan` then adds how a machine trains
it.
"""

import copy
import difflib
import inspect
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import mmaction.registry
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from epic100.model.precision import dtype_of
from epic100.model.registered import HEAD, HeadOf
from epic100.segments.pairs import pairs_path, read_pairs
from epic100.settings import TrainSettings

# A recipe states what is learned. After `training.plan` it also states how a machine learns it.
Recipe: TypeAlias = Config
# New values of a config by dotted key: `{"train_cfg.max_epochs": 3}`.
Changes = dict[str, Any]

DEFAULT = "config/x3d_s_epic_rgb_segments.py"
# Autocast is part of what is learned: a resumed run keeps its precision. bf16 has the exponent
# range of fp32, so its gradients need no scaling against underflow.
AUTOCAST: dict[str, Changes] = {
    "fp32": {"type": "OptimWrapper"},
    "bf16": {"type": "AmpOptimWrapper", "dtype": "bfloat16", "loss_scale": {"enabled": False}},
    "fp16": {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"},
}
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")
NO_VALIDATION: Changes = dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator"))
# The pipeline steps of MMAction2 that open or decode a video, each with the workflow's step to use
# instead: MMAction2's would read the whole video as the segment.
STEPS_TO_REPLACE = {
    f"{library}{step}": ours
    for library in ("Decord", "PyAV", "OpenCV")
    for step, ours in (("Init", "OpenSegment"), ("Decode", "DecodeSegment"))
}
# A model also states its number of classes at these keys: for mixed labels, and for TPN's second
# head.
CLASS_COUNT_KEYS = (".num_classes", ".aux_head_cfg.out_channels")
# The top-level keys that MMEngine's Runner reads: these, and its own arguments.
RUNNER_KEYS = {
    "activation_checkpointing",
    "auto_scale_lr",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "sync_bn",
} | set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
# MMEngine takes these keys out of a dict before it builds the class.
BUILD_KEYS = {"type", "constructor", "paramwise_cfg", "priority"}
# A known name that is at least this similar (0 to 1) is suggested for a name that nothing reads.
SUGGESTED_SIMILARITY = 0.6
# If any name is possible, a name this similar to a known one counts as a typo.
TYPO_SIMILARITY = 0.85


def build_config(
    settings: TrainSettings,
    results: str,
    video_root: str,
    index_dir: str | None = None,
    classes: tuple[int, int] = (97, 300),
) -> Recipe:
    """Build the MMEngine config of a run from its recipe and the settings.

    The settings of schedule and validation are applied first, then all others, then the options.
    The head gets its numbers of classes last, because an option may choose another head.

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
    _require_workflow_classes(config, settings.config)
    # The hooks that are added here change what is learned.
    hooks = custom_hooks(config)
    if settings.bn == "frozen":
        hooks.append(ConfigDict(type="FrozenBatchNormHook"))
    if settings.ema is not None:
        average = {"ema_type": "ExponentialMovingAverage", "momentum": 1 - settings.ema}
        hooks.append(ConfigDict(type="EMAHook", **average))
    config = changed(
        config,
        {
            # A training on train and val would validate on segments that it learns from.
            **({} if settings.split == "train" else NO_VALIDATION),
            **(schedule_for(config, settings.epochs) if settings.epochs else {}),
            "model.cls_head": _epic_head(config.model.cls_head),
        },
    )
    config = changed(
        config,
        {
            **(at_precision(config, settings.precision) if settings.precision else {}),
            **_paths_and_values(
                config, settings, results, video_root, index_dir or f"{results}/scan"
            ),
            "default_hooks.checkpoint.seconds": settings.checkpoint.seconds,
            "default_hooks.checkpoint.keep": settings.checkpoint.keep,
            "default_hooks.checkpoint.go_on": True,
            **({"sync_bn": "torch"} if settings.bn == "sync" else {}),
            "custom_hooks": hooks,
            "randomness.seed": settings.seed,
            "load_from": settings.load_from,
        },
    )
    require_known_options(config, settings.options)
    # MMEngine removes `_delete_` keys from the dicts that it gets, so it gets copies.
    options = copy.deepcopy(settings.options)
    try:
        config.merge_from_dict({key: _like_config(config, key, options[key]) for key in options})
    except TypeError as error:  # An option sets a key below a value that is no dict.
        raise EpicError(f"config: `train: options:` cannot be set: {error}") from error
    if config.optim_wrapper.get("accumulative_counts", 1) != 1:
        raise EpicError("`optim_wrapper.accumulative_counts` is set; expected `train: accumulate:`")
    table = {
        "pairs": pairs_path(results, settings.split),
        "num_verbs": classes[0],
        "num_nouns": classes[1],
    }
    return changed(config, _class_counts(config, table))


def at_precision(config: Recipe, precision: str) -> Changes:
    """Return the changes that set the precision of a training, a key of `AUTOCAST`."""
    # The keys of bf16 include those of fp16 and fp32, so without them no earlier precision is left.
    wrapper = {k: v for k, v in config.optim_wrapper.items() if k not in AUTOCAST["bf16"]}
    return {"optim_wrapper": wrapper | AUTOCAST[precision]}


def precision_of(config: Recipe) -> str:
    """Name the precision that a config trains in: fp32, bf16 or fp16."""
    return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype_of(config)]


def _like_config(node: Any, key: str, value: Any) -> Any:
    """Turn the value of an option from a list into a tuple if the config has a tuple at this key.

    YAML has no tuples, but some classes of MMAction2 take nothing else.
    """
    # `node` is the config, then what the names of the key so far lead to.
    for name in key.split("."):
        if isinstance(node, (list, tuple)):
            node = node[int(name)]
        else:
            node = node.get(name) if isinstance(node, Mapping | Config) else None
    return tuple(value) if isinstance(node, tuple) and isinstance(value, list) else value


def model_config(config: Recipe) -> dict[str, Any]:
    """Make the config in a model file, from which alone the model can be built again.

    Args:
        config: The result of `build_config`, or of `training.plan` on top of it.
    """
    head = {key: value for key, value in config.model.cls_head.items() if key != "type"}
    content = changed(config, {"model.cls_head": HeadOf(**head).config()}).to_dict()
    # The folder names the attempt, and a training that went on is to give the same file.
    content.pop("work_dir", None)
    return content


def schedule_for(config: Recipe, epochs: int) -> Changes:
    """Return the changes that set the number of epochs.

    Each schedule that ended with the training ends with it again. A schedule that would begin only
    after the new end is dropped.
    """
    old_epochs = config.train_cfg.max_epochs
    schedules = []
    for schedule in map(ConfigDict, config.get("param_scheduler") or []):
        if schedule.get("end") == old_epochs:
            schedule["end"] = epochs
            if "T_max" in schedule:
                schedule["T_max"] = max(1, schedule["T_max"] + epochs - old_epochs)
        if schedule.get("begin", 0) < epochs:
            schedules.append(schedule)
    return {"train_cfg.max_epochs": epochs, "param_scheduler": schedules}


def _require_workflow_classes(config: Recipe, path: str) -> None:
    """Raise EpicError with the lines to change if a config has loop, hooks or data of MMAction2."""
    values = dict(items_of(tree_of(config.to_dict())))
    # The workflow needs these values at these dotted keys.
    required = {
        "train_cfg.type": "ResumableEpochLoop",
        **({"val_cfg.type": "ClipValLoop"} if present(config, "val_cfg") else {}),
        "default_hooks.checkpoint.type": "SafeCheckpointHook",
        "default_hooks.telemetry.type": "TelemetryHook",
        **{f"{name}.dataset.type": "EpicSegmentVideoDataset" for name in present(config, *LOADERS)},
        **{f"{name}.type": "EpicPairMetric" for name in present(config, *EVALUATORS)},
        **{
            key: STEPS_TO_REPLACE[value]
            for key, value in values.items()
            if key.startswith(LOADERS) and value in STEPS_TO_REPLACE
        },
    }
    lines = [f"{key} = {value!r}" for key, value in required.items() if values.get(key) != value]
    if "SampleSeedHook" not in [hook.type for hook in custom_hooks(config)]:
        lines.append("custom_hooks = [dict(type='SampleSeedHook')]")
    if "model.cls_head.type" not in values:
        lines.append(f"model.cls_head = dict(type={HEAD!r}, head=...)")
    if lines:
        raise EpicError(
            f"{path}: the workflow cannot train this MMEngine config as it is; expected "
            f"{', '.join(lines)}; a config on top of {DEFAULT} (`_base_`) has all of them, and "
            "states its own model and pipelines alone"
        )


def _epic_head(head: ConfigDict) -> dict[str, Any]:
    """Make the EpicHead of a config; a plain head of MMAction2 gets one output for each pair."""
    if head.type == HEAD:
        return {"heads": "pair", **head}
    inner_head = {key: value for key, value in head.items() if key != "num_classes"}
    return {"type": HEAD, "heads": "pair", "head": inner_head}


def _class_counts(config: Recipe, table: Mapping[str, Any]) -> Changes:
    """Return the changes that set the numbers of pairs and classes, in head, metric and model.

    Args:
        config: The config with the options, which may have another head.
        table: Path of the pair table and the numbers of classes, as arguments of the head.
    """
    model = config.model
    head = {**_epic_head(model.cls_head), **table}
    changes: Changes = {"model.cls_head": head}
    for name in present(config, *EVALUATORS):
        changes |= {f"{name}.{key}": head[key] for key in (*table, "heads")}
    trees = {name: tree_of(model[name]) for name in present(model, "neck", "data_preprocessor")}
    count_keys = [key for key, _ in items_of(trees, "model.") if key.endswith(CLASS_COUNT_KEYS)]
    changes |= {key: len(read_pairs(table["pairs"])) for key in count_keys}
    if (model.get("test_cfg") or {}).get("fcn_test"):
        # In its first test, TPN's head would make a copy of its last layer, and use this copy in
        # all later tests. The layer that learns gives the same scores.
        changes["model.test_cfg.fcn_test"] = False
    return changes


def _paths_and_values(
    config: Recipe, settings: TrainSettings, results: str, video_root: str, index_dir: str
) -> Changes:
    """Return the changes that set the paths of the data, and the settings with a single value.

    A setting that is None changes nothing.
    """
    values: Changes = {
        "train_cfg.val_interval": settings.validation.every,
        "auto_scale_lr.enable": settings.scale_lr,
        "model.cls_head.heads": settings.heads,
        "model.cls_head.head.label_smooth_eps": settings.label_smoothing,
        "model.cls_head.head.dropout_ratio": settings.dropout,
    }
    for name in present(config, *LOADERS):
        split = settings.split if name == "train_dataloader" else "val"
        loader_values = {
            "batch_size": settings.batch_size,
            "num_workers": settings.workers,
            "persistent_workers": None if settings.workers is None else settings.workers > 0,
            "dataset.ann_file": f"{results}/clean/{split}.txt",
            "dataset.pairs": pairs_path(results, settings.split),
            "dataset.data_root": video_root,
            "dataset.index_dir": index_dir,
            "dataset.seed": settings.seed,
            "dataset.max_broken": settings.max_broken,
            # A validation may take a part of val, this many segments.
            "dataset.part": settings.validation.segments if name == "val_dataloader" else None,
        }
        values |= {f"{name}.{key}": value for key, value in loader_values.items()}
    return {key: value for key, value in values.items() if value is not None}


def read_config(path: str | os.PathLike) -> Recipe:
    """Read an MMEngine config. It is Python code, and is run.

    Raises:
        EpicError: The file is missing or cannot be read; the error gives the cause in one line.
    """
    if not Path(path).is_file():
        raise EpicError(f"{path}: no such MMEngine config; see `train: config:`")
    try:
        config = Config.fromfile(path)
        # MMEngine makes the text of a config nine times a run, and formats it with yapf, which
        # takes a second for long paths. `fromfile` has an argument against this, but ignores it.
        object.__setattr__(config, "_format_python_code", False)
        return config
    except Exception as error:  # A config is code, so any error is possible.
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:  # MMEngine wraps the original error.
            cause = deeper
        reason = " ".join(str(cause).split())
        raise EpicError(
            f"{path}: this MMEngine config cannot be read ({type(cause).__name__}: {reason}); see "
            "`train: config:`, and `custom_imports` in the file itself"
        ) from error


def changed(config: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Copy a config and replace the value of each dotted key as a whole."""
    copied = copy.deepcopy(config)
    for key, value in changes.items():
        *parents, last = key.split(".")
        node: Any = copied
        for name in parents:
            if isinstance(node, (list, tuple)):
                node = node[int(name)]
            else:
                node = node.setdefault(name, ConfigDict())
        index = int(last) if isinstance(node, list) else last
        node[index] = ConfigDict(value) if isinstance(value, dict) else value
    return copied


def present(config: Recipe, *names: str) -> list[str]:
    """List the keys in `names` that the config sets to a value other than None or empty."""
    return [name for name in names if config.get(name)]


def custom_hooks(config: Recipe) -> list[ConfigDict]:
    """Copy the hooks that a config adds to the default ones."""
    return [ConfigDict(hook) for hook in config.get("custom_hooks") or []]


def tree_of(value: Any) -> Any:
    """Replace the lists of a nested config by dicts: `[a, b]` becomes `{"0": a, "1": b}`."""
    if isinstance(value, (list, tuple)):
        value = {str(index): item for index, item in enumerate(value)}
    return {k: tree_of(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def items_of(
    tree: Mapping[str, Any], prefix: str = "", without: Collection[str] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield each dotted key of a result of `tree_of` with its value: `("model.type", "TSN")`.

    Args:
        tree: The result of `tree_of`.
        prefix: The beginning of each key, such as `model.`.
        without: Names that are left out at any depth, with all that is below them.
    """
    for name, value in tree.items():
        if name in without:
            continue
        if isinstance(value, dict):
            yield from items_of(value, f"{prefix}{name}.", without)
        else:
            yield f"{prefix}{name}", value


def require_known_options(config: Recipe, options: Mapping[str, Any]) -> None:
    """Raise EpicError if nothing reads one of the options, because MMEngine takes any key.

    A key is read if the config has it, or if the class that the `type` beside it names takes it. A
    dict without a class takes any key, unless it looks like a typo of a key beside it. The Runner
    reads some keys at the top. The others there are variables of the config's file, which nothing
    reads any more.

    Args:
        config: The config before the options are applied.
        options: Values by dotted key.

    Raises:
        EpicError: Nothing reads a key. The error names the key that was probably meant.
    """
    tree = tree_of(config.to_dict())
    for key in options:
        # This goes down the tree, a name of the key at a time. `node` is the dict that the names so
        # far lead to, `readable` has the names that may follow, and `is_closed` says that no other
        # name may.
        node = tree
        prefix = ""
        readable = RUNNER_KEYS
        is_closed = True
        for name in key.split("."):
            # Names such as `_delete_` tell MMEngine how to merge.
            if name not in readable and not name.startswith("_"):
                similarity = SUGGESTED_SIMILARITY if is_closed else TYPO_SIMILARITY
                similar_names = difflib.get_close_matches(name, readable, n=1, cutoff=similarity)
                if is_closed or similar_names:
                    similar_keys = [prefix + similar for similar in similar_names]
                    raise EpicError(_unread_option(key, prefix + name, tree, similar_keys))
                break
            node = node.get(name)
            prefix += f"{name}."
            if not isinstance(node, dict):
                break
            built_class = _class_of(options.get(f"{prefix}type", node.get("type")))
            readable = {*node, *(BUILD_KEYS | _arguments(built_class) if built_class else ())}
            # A dict whose keys are all numbers is a list of the config.
            is_list = bool(readable) and all(map(str.isdigit, readable))
            is_closed = built_class is not None or is_list


def _unread_option(key: str, wrong: str, tree: dict[str, Any], similar_keys: list[str]) -> str:
    """Write the message about an option whose key nothing in the config reads.

    Args:
        key: The dotted key, such as `optim_wraper.optimizer.lr`.
        wrong: The beginning of the key, up to the name that nothing reads: `optim_wraper`.
        tree: The config, as a result of `tree_of`.
        similar_keys: Known keys with a similar name at the same place: `optim_wrapper`.
    """
    *_, wrong_name = wrong.split(".")
    # The name may also be right, but at another place.
    keys_elsewhere = [
        known_key
        for known_key, _ in items_of(tree)
        if known_key.endswith(f".{wrong_name}") and known_key.split(".")[0] in RUNNER_KEYS
    ]
    suggestions = [*similar_keys, *keys_elsewhere]
    hint = f"; did you mean {suggestions[0]}?" if suggestions else ""
    return (
        f"config: `train: options:` sets {key}, but nothing reads {wrong}{hint}; expected a dotted "
        "key of the MMEngine config, such as optim_wrapper.optimizer.lr"
    )


def _arguments(built_class: Any) -> set[str]:
    """List the names of the arguments that a class, its bases included, or a function takes."""
    # `__mro__` has a class and its bases. A function has none, and its own arguments count.
    bases = getattr(built_class, "__mro__", ())
    functions = [vars(base).get("__init__") for base in bases] or [built_class]
    return {
        name
        for function in functions
        if function
        for name in inspect.signature(function).parameters
    }


def _class_of(type_name: Any) -> Any:
    """Find the class or function that is registered with MMEngine under this name, or None."""
    for registry in vars(mmaction.registry).values():
        # `mmaction.registry` also has other values; a registry's parent is MMEngine's own.
        while isinstance(registry, Registry):
            if type_name in registry.module_dict:
                return registry.module_dict[type_name]
            registry = registry.parent
    return None
