"""A table of what is about to be trained, with warnings, shown before the first step."""

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

# The statistics of BatchNorm are poor if it sees fewer segments at a time.
FEW = 16
# These rows have paths in them.
PRIVATE_ROWS = ("weights", "disk")
# Only the machine of the job can fill these rows.
ELSEWHERE = ("device", "loader", "time")
HEADS_TEXT = {"pair": "", "verb_noun": "verbs and nouns, ", "both": "pairs, verbs and nouns, "}


@dataclass(frozen=True)
class Found:
    """What a check found.

    Args:
        plan: The plan that was tried.
        parameters: Number of parameters of the model.
        weights: How the start weights fit the model, in words; "" without start weights.
        disk: The free disk space and what the run needs, in words.
        attends: Whether the model is a transformer.
        unread: Why no clip could be read yet, or ""; then there were no steps.
        loss: Loss of the last step.
        seconds: Seconds of all that was tried.
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
    attends: bool
    unread: str = ""
    loss: float = math.nan
    seconds: float = 0.0
    step_seconds: float = 0.0
    load_seconds: float = 0.0
    memory: int = 0
    activations: float = 0.0
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class StartTable:
    """Rows of the table as (name, text), and the warnings and errors below it.

    `fit` says how the start weights fit, without their path.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    fit: str = ""

    def text(self) -> str:
        """The table, then one line per warning and error."""
        lines = [f"{name:>8}{':' if name else ' '} {value}" for name, value in self.rows]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines + [f"error: {error}" for error in self.errors])

    def without_paths(self) -> list[str]:
        """Its lines, for a page that is sent to others."""
        rows = [f"{name}: {text}" for name, text in self.rows if name not in PRIVATE_ROWS]
        return [*rows, f"weights: {self.fit}", *(f"warning: {text}" for text in self.warnings)]


def start_table(
    found: Found,
    train: pd.DataFrame,
    pairs: Pairs,
    classes: tuple[int, int],
    remote_device: str = "",
) -> StartTable:
    """Describe a run after its check.

    Args:
        found: Result of the check.
        train: The segments to train on.
        pairs: The pair table: verb, noun and count.
        classes: Number of verb classes and number of noun classes.
        remote_device: The device of the run on another machine, or "".
    """
    plan, config = found.plan, found.plan.config
    epochs, steps = config.train_cfg.max_epochs, -(-len(train) // plan.batch)
    lr, lr_text = _learning_rate(plan)
    rows = [
        ("data", f"{len(train)} segments of {train['path'].nunique()} videos, {len(pairs)} pairs"),
        ("val", _val_text(plan)),
        ("model", _model_text(found)),
        ("clip", sampling_of(config.train_dataloader.dataset.pipeline).words),
        ("weights", f"{config.load_from}: {found.weights}" if found.weights else "random"),
        ("head", _head_text(plan)),
        (
            "schedule",
            f"{epochs} epoch{'s' * (epochs != 1)} of {steps} steps; {_batch_text(plan)}; {lr_text}",
        ),
        ("device", _device_text(found)),
        *_trial_rows(found, steps),
        ("disk", found.disk),
    ]
    if remote_device:
        rows = [row for row in rows if row[0] not in ELSEWHERE]
        rows.append(("device", "of another machine: tried first thing in the job"))
    warnings = [*_unseen(train, classes), *_val_warnings(plan, pairs)]
    if plan.placement.processes > 1 and plan.part < FEW and plan.bn == "local":
        warnings.append(
            f"BatchNorm sees {plan.part} segments at a time on each of {plan.placement.processes} "
            f"processes; below {FEW} its statistics are poor: raise `batch_size` to "
            f"{FEW * plan.batch // plan.part}, or set `bn: sync` or `frozen`"
        )
    if plan.batch > len(train):
        warnings.append(f"a batch of {plan.batch} is larger than the data: {len(train)} segments")
    if (
        found.attends
        and plan.precision == "fp32"
        and "cuda" in (remote_device, plan.placement.device)
    ):
        warnings.append(
            "a transformer in float32, in which a GPU takes several times as long and twice the "
            "memory; set `train: precision: bf16` (fp16 on a GPU older than the A100)"
        )
    if lr == 0:
        warnings.append("the learning rate is 0: nothing will be learned")
    return StartTable(rows, warnings, fit=found.weights or "random")


def _trial_rows(found: Found, steps: int) -> list[tuple[str, str]]:
    """What was tried, and what it says about a run of so many steps an epoch."""
    if found.unread:
        text = f"no step yet, the training job begins with it ({found.unread})"
        return [("tried", text)]
    plan = found.plan
    validation = "" if plan.val is None else "a validation, "
    one_step = f"{found.step_seconds:.2f} s a step by a trial on this machine, as busy as it is"
    cores = usable_cores() // plan.placement.on_node
    kept_gib = plan.part * found.activations / 2**30
    memory_rows = [("memory", f"{kept_gib:.2g} GiB kept by a step of {plan.part} in float32")]
    seconds = epoch_seconds(found, steps) * plan.config.train_cfg.max_epochs
    return [
        *(memory_rows if found.activations else []),
        (
            "loader",
            f"{plan.config.train_dataloader.num_workers} workers on {cores} cores a process; "
            f"{1000 * found.load_seconds:.0f} ms a segment",
        ),
        (
            "tried",
            f"a step, {validation}a save and a prediction on real segments: loss "
            f"{found.loss:.3g}, {found.seconds:.0f} s",
        ),
        ("time", f"about {in_words(seconds)} ({one_step})"),
    ]


def epoch_seconds(found: Found, steps: int) -> float:
    """Estimate the seconds of an epoch, with its share of validation.

    On a GPU, loading overlaps with computing; on a CPU both compete for the same cores. A forward
    pass is assumed to take a third of a step.

    Args:
        found: What the check found.
        steps: Steps per epoch.
    """
    plan = found.plan
    loader = plan.config.train_dataloader
    cores = max(1, usable_cores() // plan.placement.on_node)
    load = plan.share * found.load_seconds / min(max(1, loader.num_workers), cores)
    overlaps = plan.placement.device == "cuda" and loader.num_workers > 0
    step = max(found.step_seconds, load) if overlaps else found.step_seconds + load
    per_segment = (load + found.step_seconds / 3) / plan.batch
    return steps * step + plan.validated * per_segment / plan.config.train_cfg.get(
        "val_interval", 1
    )


def _unseen(train: pd.DataFrame, classes: tuple[int, int]) -> list[str]:
    missing = {
        name: number - train[name].nunique()
        for name, number in zip(("verb", "noun"), classes, strict=True)
    }
    return [
        f"{number} {name}s have no segment to learn from and are never predicted"
        for name, number in missing.items()
        if number
    ]


def _val_warnings(plan: TrainingPlan, pairs: Pairs) -> list[str]:
    """Warn of val segments whose pair of verb and noun no train segment has."""
    trained_pairs = {pair[:2] for pair in pairs}
    val_pairs = (
        [] if plan.val is None else list(zip(plan.val["verb"], plan.val["noun"], strict=True))
    )
    unseen = [pair for pair in val_pairs if pair not in trained_pairs]
    if not unseen:
        return []
    # With `max`, the best verb and the best noun are those of the best pair that was trained, so an
    # untrained pair is never predicted.
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
    if plan.val is None:
        return f"none: {plan.no_val}"
    count_text = f"{len(plan.val)} segments"
    if plan.validated < len(plan.val):
        count_text = f"{plan.validated} of {count_text}"
    every = plan.config.train_cfg.get("val_interval", 1)
    return f"{count_text}, every {'epoch' if every == 1 else f'{every} epochs'}"


def _model_text(found: Found) -> str:
    """The model, its size, and the size of its input if a clip was read."""
    model = found.plan.config.model
    size = f"{found.parameters / 1e6:.2f} M parameters"
    text = f"{model.type}, backbone {model.backbone.type}, {size}"
    if found.unread:
        return text
    shape = found.shape
    # The input of a 2D recognizer begins with the frames.
    frames = shape[2] if len(shape) == 5 else shape[0]
    return f"{text}; {frames} frames of {shape[-1]} x {shape[-2]}"


def _head_text(plan: TrainingPlan) -> str:
    head, averaged = plan.config.model.cls_head.head, "no average"
    for hook in custom_hooks(plan.config):
        if hook.type == "EMAHook":
            averaged = f"weights averaged, decay {1 - hook.momentum:g}"
    mixing = plan.mixing
    return (
        f"{HEADS_TEXT[plan.config.model.cls_head.heads]}dropout {head.get('dropout_ratio', 0)}, "
        f"label smoothing {head.get('label_smooth_eps', 0.0)}, {averaged}"
        + (f", clips mixed by {mixing.type}" if mixing else "")
    )


def _batch_text(plan: TrainingPlan) -> str:
    processes, parts = plan.placement.processes, -(-plan.share // plan.part)
    if processes * parts == 1:
        return f"batch {plan.batch}"
    return f"batch {plan.batch} = {processes} processes x {parts} parts x {plan.part}"


def _learning_rate(plan: TrainingPlan) -> tuple[float, str]:
    optimizer, scale = plan.config.optim_wrapper.optimizer, plan.config.get("auto_scale_lr") or {}
    base = scale["base_batch_size"] if scale.get("enable") else plan.batch
    scaled = optimizer.lr * plan.batch / base
    formula = "" if plan.batch == base else f" = {optimizer.lr:g} x {plan.batch}/{base}"
    return scaled, f"{optimizer.type}, lr {scaled:g}{formula}"


def _device_text(found: Found) -> str:
    """Where it computes and how: `1 x NVIDIA A100, 9.1 GiB each, float32, bn local`."""
    plan, config = found.plan, found.plan.config
    processes, on_gpu = plan.placement.processes, plan.placement.device == "cuda"
    threads = f"CPU, {processes} x {torch.get_num_threads()} threads"
    texts = [
        (True, f"{processes} x {torch.cuda.get_device_name()}" if on_gpu else threads),
        (found.memory, f"{found.memory / 2**30:.1f} GiB each"),
        (plan.placement.nodes > 1, f"on {plan.placement.nodes} nodes"),
        (True, config.optim_wrapper.get("dtype", "float32")),
        (on_gpu and torch.backends.cudnn.benchmark, "cudnn.benchmark"),
        (config.model.type == CHANNELS_LAST, "channels-last"),
        ("CompileHook" in [hook.type for hook in custom_hooks(config)], "compiled"),
        (processes > 1, f"bn {plan.bn}"),
    ]
    return ", ".join(text for is_shown, text in texts if is_shown)
