"""Turn the workflow's settings into the MMEngine config of a training.

The MMEngine file is the recipe: it states what is trained. A run adds only the paths of its files
and the keys of `train:` that are set. Functions copy a config and do not change the one that they
get. The fingerprint of a training is computed from this config; `training.plan` then adds how a
machine trains it.
"""

import copy
import difflib
import inspect
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

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
METRIC = "EpicPairMetric"
NO_VALIDATION: Changes = dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator"))
# The pipeline steps of MMAction2 that open or decode a video, each with the workflow's step to use
# instead: MMAction2's would read the complete video as the segment.
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
    "most_at_once",
    "sync_bn",
} | set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
# A known name that is at least this similar (0 to 1) is suggested for one that nothing reads. Where
# any name is possible, a name that is `TYPO` similar to a known one counts as a typo.
SIMILAR, TYPO = 0.6, 0.85


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
    _require_workflow_classes(config, settings.config)
    if config.optim_wrapper.get("accumulative_counts", 1) != 1:
        raise EpicError("`optim_wrapper.accumulative_counts` is set; expected `train: accumulate:`")
    config = changed(config, _sizes_of_encoder(config, settings))
    table = {
        "pairs": pairs_path(results, settings.split),
        "num_verbs": classes[0],
        "num_nouns": classes[1],
    }
    return changed(config, _class_counts(config, table))


def _sizes_of_encoder(config: Recipe, settings: TrainSettings) -> Changes:
    """Return the changes that make model and pipelines fit an encoder of Hugging Face.

    The folder's files say how many frames and pixels it sees, and how many channels it gives.

    Raises:
        EpicError: No folder is named, or it holds no encoder that works; or one is named, but the
            recipe has another backbone.
    """
    backbone, recipe = config.model.backbone, settings.config
    folder = settings.encoder or backbone.get("encoder_folder")
    if backbone.type != BACKBONE and settings.encoder is None:
        return {}
    if backbone.type != BACKBONE or folder is None:
        raise EpicError(
            f"config: `train: encoder:` is {folder}, and the backbone of {recipe} is "
            f"{backbone.type}; expected the folder of an encoder and {BACKBONE}, such as "
            "train.config=config/zoo/hf_attentive.py train.encoder=FOLDER"
        )
    encoder, spec = HuggingFaceFolder(folder), backbone_config(folder, backbone.frozen)
    changes: Changes = {
        "model.backbone": {"type": BACKBONE, **spec},
        "model.cls_head.head.in_channels": spec["channels"],
        # Some encoders have weights that their tokens do not depend on.
        "find_unused_parameters": not backbone.frozen,
    }
    if "channels" in (config.model.get("neck") or {}):
        changes["model.neck.channels"] = spec["channels"]
    sizes = {"clip_len": encoder.clip_len, "size": encoder.size}
    for name in present(config, *LOADERS):
        for index, step in enumerate(config[name].dataset.pipeline):
            fitting = {key: sizes[key] for key in sizes if key in step}
            if step.get("crop") == "centre":
                fitting["short_side"] = encoder.short_side
            changes[f"{name}.dataset.pipeline.{index}"] = {**step, **fitting}
    return changes


def at_precision(config: Recipe, precision: str) -> Changes:
    """Return the changes that set the precision of a training, a key of `AUTOCAST`."""
    # The keys of bf16 include the keys of fp16 and fp32, so without them no earlier precision is
    # left.
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
        config: The result of `build_config`.
    """
    head = {key: value for key, value in config.model.cls_head.items() if key != "type"}
    return changed(config, {"model.cls_head": head_config(**head)}).to_dict()


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
    """Raise EpicError if a config, options included, lacks classes that the workflow needs.

    A subclass of a needed class is as good. The error names each key, and the class to put there.
    """
    needed = {"train_cfg": "ResumableTrainLoop", "default_hooks.checkpoint": "SaveHook"}
    needed |= {"default_hooks.epoch": "EpochHook", "default_hooks.seeds": "SampleSeedHook"}
    needed |= dict.fromkeys(present(config, "val_cfg"), "PrecisionValLoop")
    needed |= {f"{name}.dataset": "EpicSegmentVideoDataset" for name in present(config, *LOADERS)}
    values = dict(items_of(tree_of(config.to_dict())))
    lines = [
        f"{key}.type = {name!r}"
        for key, name in needed.items()
        if not _is_subclass(values.get(f"{key}.type"), name)
    ]
    for name in present(config, *EVALUATORS):
        if not any(_is_subclass(metric.type, METRIC) for metric in listed(config[name])):
            lines.append(f"{name} = [dict(type={METRIC!r}, ...), ...]")
    lines += [
        f"{key} = {STEPS_TO_REPLACE[value]!r}"
        for key, value in values.items()
        if key.startswith(LOADERS) and value in STEPS_TO_REPLACE
    ]
    if "model.cls_head.type" not in values:
        lines.append(f"model.cls_head = dict(type={HEAD!r}, head=...)")
    if lines:
        raise EpicError(
            f"{path}: the workflow cannot train this MMEngine config, with `train: options:`, as "
            f"it is; expected {', '.join(lines)}, or a subclass; a config on top of {DEFAULT} "
            "(`_base_`) has all of them, and states its own model and pipelines alone"
        )


def _is_subclass(name: Any, needed: str) -> bool:
    """Whether the class that is registered as `name` is `needed` or a subclass of it."""
    for registry in (LOOPS, HOOKS, DATASETS, METRICS):
        if base := registry.get(needed):
            found = registry.get(name) if isinstance(name, str) else None
            return inspect.isclass(found) and issubclass(found, base)
    return False


def listed(value: Any) -> list[Any]:
    """Return a list as it is, and anything else as a list of one item."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


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
        metrics = listed(copy.deepcopy(config[name]))
        for metric in metrics:
            if _is_subclass(metric.type, METRIC):
                metric.update({key: head[key] for key in (*table, "heads")})
        changes[name] = metrics
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
            # A validation may take this number of segments of val.
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
    """Copy a config and replace the value of each dotted key completely.

    MMEngine's `merge_from_dict` joins dicts, and leaves a `_delete_` in the new ones.
    """
    copied = copy.deepcopy(config)
    for key, value in changes.items():
        *parents, last = key.split(".")
        node: Any = copied
        for name in parents:
            is_list = isinstance(node, (list, tuple))
            node = node[int(name)] if is_list else node.setdefault(name, ConfigDict())
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
    """Raise EpicError if an option is probably a typo, because MMEngine takes any key.

    At the top, the Runner reads only its own keys; the others there are variables of the config's
    file. Below, a name may be new, unless it is similar to one next to it: the class that is built
    there rejects what it does not take.

    Args:
        config: The config before the options are applied.
        options: Values by dotted key.
    """
    tree = tree_of(config.to_dict())
    for key in options:
        # `node` is what the names of the key so far lead to.
        node, known, similarity = tree, RUNNER_KEYS, SIMILAR
        for name in key.split("."):
            similar = difflib.get_close_matches(name, known, n=1, cutoff=similarity)
            # Names such as `_delete_` tell MMEngine how to merge.
            is_new = name not in known and not name.startswith("_")
            if is_new and (similar or known is RUNNER_KEYS):
                elsewhere = [other for other, _ in items_of(tree) if other.endswith(f".{name}")]
                meant = [key.replace(name, similar[0])] if similar else elsewhere
                raise EpicError(
                    f"config: `train: options:` sets {key}, but nothing reads {name}"
                    + (f"; did you mean {meant[0]}?" if meant else "")
                    + "; expected a dotted key of the MMEngine config, such as "
                    "optim_wrapper.optimizer.lr"
                )
            node = node.get(name)
            if not isinstance(node, dict):
                break
            known, similarity = set(node), TYPO
