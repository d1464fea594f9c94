"""The table that describes a training before its first step, with warnings."""

import math
from dataclasses import dataclass, field

import pandas as pd
import torch

from epic100.base.durations import in_words
from epic100.base.machine import usable_cores
from epic100.model.model_file import Pairs
from epic100.model.views import sampling_of
from epic100.training.plan import CHANNELS_LAST, TrainingPlan
from epic100.training.recipe import custom_hooks

# The statistics of BatchNorm are poor if it sees fewer segments than this at a time.
ENOUGH_FOR_BATCH_NORM = 16
# These rows have paths in them.
PRIVATE_ROWS = ("weights", "disk")
# These rows describe the machine that makes the table, so a run on another machine does without.
ROWS_OF_THE_MACHINE = ("device", "loader", "time")
# The row about the head begins with these words; pairs alone are not mentioned.
HEADS_TEXT = {"pair": "", "verb_noun": "verbs and nouns, ", "both": "pairs, verbs and nouns, "}


@dataclass(frozen=True)
class TrialResult:
    """The measurements of a check, which tries a few steps of a training.

    Args:
        plan: The plan that was tried.
        parameters: Number of parameters of the model.
        weights: How the start weights fit the model, in words; "" without start weights.
        disk: The free disk space and what the run needs, in words.
        is_transformer: Whether the model is a transformer.
        read_error: Why no clip could be read yet, so that no step was tried; otherwise "".
        loss: Loss of the last step.
        seconds: Seconds of the whole trial.
        step_seconds: Seconds of the last step, for one process's share of a batch.
        load_seconds: Seconds to load one sample in one process.
        memory: Peak bytes on the GPU; 0 on a CPU.
        activations: Bytes of one sample that the forward pass keeps for the backward pass; 0 if
            they were not counted.
        shape: Shape of one sample's input.
    """

    plan: TrainingPlan
    parameters: int
    weights: str
    disk: str
    is_transformer: bool
    read_error: str = ""
    loss: float = math.nan
    seconds: float = 0.0
    step_seconds: float = 0.0
    load_seconds: float = 0.0
    memory: int = 0
    activations: float = 0.0
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class StartTable:
    """The table of a training, with the warnings and errors below it.

    Args:
        rows: The rows of the table as (name, text).
        warnings: Things that will probably go wrong, a text each.
        errors: Reasons why the training cannot work, a text each.
        fit: How the start weights fit the model, without their path.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    fit: str = ""

    def text(self) -> str:
        """Format the table, then one line per warning and error."""
        # Names end in the same column.
        lines = [f"{name:>8}{':' if name else ' '} {value}" for name, value in self.rows]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines + [f"error: {error}" for error in self.errors])

    def without_paths(self) -> list[str]:
        """Format the rows and warnings without any path, for a page that is sent to others."""
        rows = [f"{name}: {text}" for name, text in self.rows if name not in PRIVATE_ROWS]
        return [*rows, f"weights: {self.fit}", *(f"warning: {text}" for text in self.warnings)]


def start_table(
    result: TrialResult,
    train: pd.DataFrame,
    pairs: Pairs,
    classes: tuple[int, int],
    remote_device: str = "",
) -> StartTable:
    """Make the table of a run after its check.

    Args:
        result: The measurements of the check.
        train: The segments to train on.
        pairs: The pair table: verb, noun and count.
        classes: Number of verb classes and number of noun classes.
        remote_device: "cuda" or "cpu" if the run will be on another machine, otherwise "".
    """
    plan, config = result.plan, result.plan.config
    epochs = config.train_cfg.max_epochs
    steps = math.ceil(len(train) / plan.batch)
    lr, lr_text = _learning_rate(plan)
    rows = [
        ("data", f"{len(train)} segments of {train['path'].nunique()} videos, {len(pairs)} pairs"),
        ("val", _val_text(plan)),
        ("model", _model_text(result)),
        ("clip", sampling_of(config.train_dataloader.dataset.pipeline).description),
        ("weights", f"{config.load_from}: {result.weights}" if result.weights else "random"),
        ("head", _head_text(plan)),
        (
            "schedule",
            f"{epochs} {'epoch' if epochs == 1 else 'epochs'} of {steps} steps; "
            f"{_batch_text(plan)}; {lr_text}",
        ),
        ("device", _device_text(result)),
        *_trial_rows(result, steps),
        ("disk", result.disk),
    ]
    if remote_device:
        rows = [(name, text) for name, text in rows if name not in ROWS_OF_THE_MACHINE]
        rows.append(("device", "of another machine: tried first thing in the job"))
    warnings = [
        *_warnings_of_classes(train, classes),
        *_warnings_of_val(plan, pairs),
        *_warnings_of_batch(plan, len(train)),
        *_warnings_of_precision(result, remote_device),
        *(["the learning rate is 0: nothing will be learned"] if lr == 0 else []),
    ]
    return StartTable(rows, warnings, fit=result.weights or "random")


def _trial_rows(result: TrialResult, steps: int) -> list[tuple[str, str]]:
    """Make the rows about the trial: memory, loader, the steps, and the time of the whole run."""
    if result.read_error:
        return [("tried", f"no step yet, the training job begins with it ({result.read_error})")]
    plan = result.plan
    validation = "" if plan.val is None else "a validation, "
    memory_gib = plan.micro_batch * result.activations / 2**30
    memory_text = f"{memory_gib:.2g} GiB kept by a step of {plan.micro_batch} in float32"
    seconds = epoch_seconds(result, steps) * plan.config.train_cfg.max_epochs
    return [
        *([("memory", memory_text)] if result.activations else []),
        (
            "loader",
            f"{plan.config.train_dataloader.num_workers} workers on "
            f"{usable_cores() // plan.placement.on_node} cores a process; "
            f"{1000 * result.load_seconds:.0f} ms a segment",
        ),
        (
            "tried",
            f"a step, {validation}a save and a prediction on real segments: loss "
            f"{result.loss:.3g}, {result.seconds:.0f} s",
        ),
        (
            "time",
            f"about {in_words(seconds)} ({result.step_seconds:.2f} s a step by a trial on this "
            "machine, as busy as it is)",
        ),
    ]


def epoch_seconds(result: TrialResult, steps: int) -> float:
    """Estimate the seconds of an epoch, with its share of the validation.

    On a GPU, loading overlaps with computing; on a CPU both compete for the same cores. A forward
    pass is assumed to take a third of a step.

    Args:
        result: The measurements of the check.
        steps: Steps per epoch.
    """
    plan = result.plan
    loader = plan.config.train_dataloader
    cores = max(1, usable_cores() // plan.placement.on_node)
    loading_processes = min(max(1, loader.num_workers), cores)
    load = plan.batch_per_process * result.load_seconds / loading_processes
    overlaps = plan.placement.device == "cuda" and loader.num_workers > 0
    step = max(result.step_seconds, load) if overlaps else result.step_seconds + load
    val_segment = (load + result.step_seconds / 3) / plan.batch
    val_seconds = plan.validated * val_segment / plan.config.train_cfg.get("val_interval", 1)
    return steps * step + val_seconds


def _warnings_of_batch(plan: TrainingPlan, segments: int) -> list[str]:
    """Warn of a batch that is too small for BatchNorm or larger than the data."""
    warnings = []
    processes = plan.placement.processes
    if processes > 1 and plan.micro_batch < ENOUGH_FOR_BATCH_NORM and plan.bn == "local":
        warnings.append(
            f"BatchNorm sees {plan.micro_batch} segments at a time on each of {processes} "
            f"processes; below {ENOUGH_FOR_BATCH_NORM} its statistics are poor: raise `batch_size` "
            f"to {ENOUGH_FOR_BATCH_NORM * plan.batch // plan.micro_batch}, or set `bn: sync` or "
            "`frozen`"
        )
    if plan.batch > segments:
        warnings.append(f"a batch of {plan.batch} is larger than the data: {segments} segments")
    return warnings


def _warnings_of_precision(result: TrialResult, remote_device: str) -> list[str]:
    """Warn of a transformer that a GPU would train in float32.

    Args:
        result: The measurements of the check.
        remote_device: "cuda" or "cpu" if the run will be on another machine, otherwise "".
    """
    plan = result.plan
    on_gpu = "cuda" in (remote_device, plan.placement.device)
    if not (result.is_transformer and plan.precision == "fp32" and on_gpu):
        return []
    return [
        "a transformer in float32, in which a GPU takes several times as long and twice the "
        "memory; set `train: precision: bf16` (fp16 on a GPU older than the A100)"
    ]


def _warnings_of_classes(train: pd.DataFrame, classes: tuple[int, int]) -> list[str]:
    """Warn of verb and noun classes that no train segment has."""
    missing = {
        task: class_count - train[task].nunique()
        for task, class_count in zip(("verb", "noun"), classes, strict=True)
    }
    return [
        f"{number} {task}s have no segment to learn from and are never predicted"
        for task, number in missing.items()
        if number
    ]


def _warnings_of_val(plan: TrainingPlan, pairs: Pairs) -> list[str]:
    """Warn of val segments whose pair of verb and noun no train segment has."""
    if plan.val is None:
        return []
    trained_pairs = {(verb, noun) for verb, noun, _ in pairs}
    val_pairs = list(zip(plan.val["verb"], plan.val["noun"], strict=True))
    unseen = [pair for pair in val_pairs if pair not in trained_pairs]
    if not unseen:
        return []
    # With `reduce: max`, the best verb and the best noun are those of the best trained pair, so an
    # untrained pair never ranks first.
    consequence = {
        "pair": "their action cannot be right by `export: reduce: max`, the default",
        "both": "their action can be right by `export: reduce: heads` or `joint` alone",
        "verb_noun": "their action can be right, since verb and noun have heads of their own",
    }[plan.config.model.cls_head.heads]
    return [
        f"{len(unseen)} of {len(val_pairs)} val segments "
        f"({100 * len(unseen) / len(val_pairs):.1f} %) are of {len(set(unseen))} pairs that train "
        f"never has: {consequence}"
    ]


def _val_text(plan: TrainingPlan) -> str:
    """Describe the validations: `50 of 200 segments, every 2 epochs`."""
    if plan.val is None:
        return f"none: {plan.no_val}"
    part = f"{plan.validated} of " if plan.validated < len(plan.val) else ""
    every = plan.config.train_cfg.get("val_interval", 1)
    return f"{part}{len(plan.val)} segments, every {'epoch' if every == 1 else f'{every} epochs'}"


def _model_text(result: TrialResult) -> str:
    """Describe the model: `Recognizer3D, backbone X3D, 3.79 M parameters; 13 frames of 160 x 160`.

    The size of its input is left out if no clip was read.
    """
    model = result.plan.config.model
    text = (
        f"{model.type}, backbone {model.backbone.type}, {result.parameters / 1e6:.2f} M parameters"
    )
    if result.read_error:
        return text
    # A 3D recognizer takes [views, channels, frames, height, width], a 2D one [frames, channels,
    # height, width].
    *_, height, width = result.shape
    frames = result.shape[2] if len(result.shape) == 5 else result.shape[0]
    return f"{text}; {frames} frames of {width} x {height}"


def _head_text(plan: TrainingPlan) -> str:
    """Describe how the head learns: `dropout 0.5, label smoothing 0.1, no average`."""
    epic_head = plan.config.model.cls_head
    average = "no average"
    for hook in custom_hooks(plan.config):
        if hook.type == "EMAHook":
            average = f"weights averaged, decay {1 - hook.momentum:g}"
    mixing = f", clips mixed by {plan.mixing.type}" if plan.mixing else ""
    return (
        f"{HEADS_TEXT[epic_head.heads]}dropout {epic_head.head.get('dropout_ratio', 0)}, "
        f"label smoothing {epic_head.head.get('label_smooth_eps', 0.0)}, {average}{mixing}"
    )


def _batch_text(plan: TrainingPlan) -> str:
    """Describe how a batch is split: `batch 8 = 2 processes x 2 parts x 2`."""
    processes = plan.placement.processes
    micro_batches = math.ceil(plan.batch_per_process / plan.micro_batch)
    if processes * micro_batches == 1:
        return f"batch {plan.batch}"
    return (
        f"batch {plan.batch} = {processes} processes x {micro_batches} parts x {plan.micro_batch}"
    )


def _learning_rate(plan: TrainingPlan) -> tuple[float, str]:
    """Return the learning rate for the batch, and a text: `SGD, lr 0.00125 = 0.01 x 4/32`."""
    optimizer = plan.config.optim_wrapper.optimizer
    scale = plan.config.get("auto_scale_lr") or {"enable": False}
    # MMEngine scales the rate in proportion to the batch, if this is enabled.
    base = scale["base_batch_size"] if scale.get("enable") else plan.batch
    lr = optimizer.lr * plan.batch / base
    formula = "" if plan.batch == base else f" = {optimizer.lr:g} x {plan.batch}/{base}"
    return lr, f"{optimizer.type}, lr {lr:g}{formula}"


def _device_text(result: TrialResult) -> str:
    """Describe how the run computes: `1 x NVIDIA A100, 9.1 GiB each, float32`."""
    plan = result.plan
    processes = plan.placement.processes
    on_gpu = plan.placement.device == "cuda"
    threads = f"CPU, {processes} x {torch.get_num_threads()} threads"
    # Each text is shown if its value is true.
    texts = {
        f"{processes} x {torch.cuda.get_device_name()}" if on_gpu else threads: True,
        f"{result.memory / 2**30:.1f} GiB each": result.memory > 0,
        f"on {plan.placement.nodes} nodes": plan.placement.nodes > 1,
        plan.config.optim_wrapper.get("dtype", "float32"): True,
        "cudnn.benchmark": on_gpu and torch.backends.cudnn.benchmark,
        "channels-last": plan.config.model.type == CHANNELS_LAST,
        "compiled": "CompileHook" in [hook.type for hook in custom_hooks(plan.config)],
        f"bn {plan.bn}": processes > 1,
    }
    return ", ".join(text for text, is_shown in texts.items() if is_shown)
