"""A table of what is about to be trained, with warnings, shown before the first step."""

from dataclasses import dataclass

import pandas as pd
import torch
from mmengine.config import Config

from epic100.base.machine import usable_cores
from epic100.training.config_heads import heads_of
from epic100.training.device import tf32_text
from epic100.training.plan import TrainingPlan
from epic100.training.start_check import StartCheck

FEW = 16  # segments per BatchNorm batch below which its statistics are poor
Pairs = list[tuple[int, int, int]]

HEADS_TEXT = {"pair": "", "verb_noun": "verbs and nouns, ", "both": "pairs, verbs and nouns, "}


@dataclass(frozen=True)
class StartTable:
    """Rows of the table as (name, text), and the warnings below it."""

    rows: list[tuple[str, str]]
    warnings: list[str]

    def text(self) -> str:
        """The table, then one line per warning."""
        width = max(len(name) for name, _ in self.rows)
        lines = [f"{name:>{width}}: {value}" for name, value in self.rows]
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def start_table(
    check: StartCheck, train: pd.DataFrame, pairs: Pairs, classes: tuple[int, int]
) -> StartTable:
    """Describe a checked run.

    Args:
        check: Result of the start check.
        train: The segments to train on.
        pairs: The pair table: verb, noun and count.
        classes: Number of verb classes and number of noun classes.
    """
    plan, config = check.plan, check.plan.config
    epochs, steps = config.train_cfg.max_epochs, -(-len(train) // plan.batch)
    lr, rate = _learning_rate(plan)
    workers = config.train_dataloader.num_workers
    one_step = f"{check.step_seconds:.2f} s a step by a trial on this machine, as busy as it is"
    warnings = [*_pair_warnings(train, pairs, classes), *_val_warnings(plan, pairs)]
    warnings += map(str, plan.off)
    part = plan.share // plan.parts
    if plan.placement.processes > 1 and part < FEW and plan.bn == "local":
        warnings.append(
            f"BatchNorm sees {part} segments at a time on each of {plan.placement.processes} "
            f"processes; below {FEW} its statistics are poor: raise `batch_size` to "
            f"{FEW * plan.parts * plan.placement.processes}, or set `bn: sync` or `frozen`"
        )
    if plan.batch > len(train):
        warnings.append(f"a batch of {plan.batch} is larger than the data: {len(train)} segments")
    if lr == 0:
        warnings.append("the learning rate is 0: nothing will be learned")
    start = f"{config.load_from}: {check.weights.line()}" if check.weights else "random"
    rows = [
        ("data", f"{len(train)} segments of {train['path'].nunique()} videos, {len(pairs)} pairs"),
        ("val", _val_text(plan)),
        ("model", _model_text(check)),
        ("clip", clip_text(plan.config)),
        ("weights", start),
        ("head", _head_text(plan)),
        (
            "schedule",
            f"{epochs} epoch{'s' * (epochs != 1)} of {steps} steps; {_batch_text(plan)}; {rate}",
        ),
        ("device", _device_text(check)),
        *layout_rows(check),
        *_each_gpu(plan),
        ("loader", f"{workers} workers a process; {1000 * check.load_seconds:.0f} ms a segment"),
        ("time", f"about {_duration(epoch_seconds(check, steps) * epochs)} ({one_step})"),
        ("folder", str(config.work_dir)),
    ]
    return StartTable(rows, warnings)


def epoch_seconds(check: StartCheck, steps: int) -> float:
    """Estimate the seconds of an epoch, with its share of validation.

    On a GPU, loading overlaps with computing; on a CPU both compete for the same cores. A forward
    pass is assumed to take a third of a step.

    Args:
        check: Result of the start check.
        steps: Steps per epoch.
    """
    plan, loader = check.plan, check.plan.config.train_dataloader
    cores = max(1, usable_cores() // plan.placement.on_node)
    load = plan.share * check.load_seconds / min(max(1, loader.num_workers), cores)
    apart = plan.placement.device == "cuda" and loader.num_workers > 0
    step = max(check.step_seconds, load) if apart else check.step_seconds + load
    one = (load + check.step_seconds / 3) / plan.batch
    return steps * step + plan.validated * one / plan.config.train_cfg.get("val_interval", 1)


def _pair_warnings(train: pd.DataFrame, pairs: Pairs, classes: tuple[int, int]) -> list[str]:
    warnings = []
    seen = set(zip(train["verb"].tolist(), train["noun"].tolist(), strict=True))
    unused = [pair for pair in pairs if pair[:2] not in seen]
    if unused:
        warnings.append(
            f"{len(unused)} of {len(pairs)} pairs have no segment to learn from, verb "
            f"{unused[0][0]} with noun {unused[0][1]} first"
        )
    for name, number in zip(("verb", "noun"), classes, strict=True):
        missing = number - train[name].nunique()
        if missing:
            warnings.append(
                f"{missing} of {number} {name}s have no segment to learn from and are never "
                "predicted"
            )
    return warnings


def _val_warnings(plan: TrainingPlan, pairs: Pairs) -> list[str]:
    val = plan.val
    if val is None:
        return []
    known = {pair[:2] for pair in pairs}
    asked = list(zip(val["verb"].tolist(), val["noun"].tolist(), strict=True))
    unseen = [pair for pair in asked if pair not in known]
    if not unseen:
        return []
    end = "their action cannot be right"
    if heads_of(plan.config) != "pair":
        end = "their action can be right by `export: reduce: heads` alone"
    return [
        f"{len(unseen)} of {len(asked)} val segments ({100 * len(unseen) / len(asked):.1f} %) are "
        f"of {len(set(unseen))} pairs that train never has: {end}"
    ]


def _val_text(plan: TrainingPlan) -> str:
    if plan.val is None:
        return "none"
    number = f"{len(plan.val)} segments"
    if plan.validated < len(plan.val):
        number = f"{plan.validated} of {number}"
    every = plan.config.train_cfg.get("val_interval", 1)
    return f"{number}, every {'epoch' if every == 1 else f'{every} epochs'}"


def _model_text(check: StartCheck) -> str:
    model, (height, width) = check.plan.config.model, check.shape[-2:]
    frames = check.shape[2] if len(check.shape) == 5 else check.shape[0]  # 2D recognizer
    return (
        f"{model.type}, backbone {model.backbone.type}, {check.parameters / 1e6:.2f} M parameters; "
        f"{frames} frames of {width} x {height}"
    )


def clip_text(config: Config) -> str:
    """How a training clip takes its frames, in words.

    Args:
        config: The result of `build_config`.
    """
    for step in config.train_dataloader.dataset.pipeline:
        if step["type"] == "UniformSample":
            return f"{step['clip_len']} frames over the whole segment"
        if step["type"] == "SampleFrames" and step.get("clip_len") == 1:
            return f"{step.get('num_clips', 1)} frames over the whole segment"
        if step["type"] == "SampleFrames":
            fps = step.get("target_fps")
            rate = f"at {fps:g} frames a second" if fps else "at the file's rate"
            return f"{step['clip_len']} frames, {step.get('frame_interval', 1)} apart {rate}"
    return "frames as a step of its own takes them"


def _head_text(plan: TrainingPlan) -> str:
    head = plan.config.model.cls_head
    loss = head.get("loss_cls", {})
    tau = loss.get("tau")
    smoothing = loss.get("smoothing", head.get("label_smooth_eps", 0.0))
    adjusted = f"logit adjustment {tau}" if tau else "no logit adjustment"
    averaged = f"weights averaged, decay {plan.ema:g}" if plan.ema else "no average"
    return (
        f"{HEADS_TEXT[heads_of(plan.config)]}dropout {head.get('dropout_ratio', 0)}, "
        f"label smoothing {smoothing}, {adjusted}, {averaged}"
    )


def _batch_text(plan: TrainingPlan) -> str:
    processes, parts = plan.placement.processes, plan.parts
    if processes * parts == 1:
        return f"batch {plan.batch}"
    return f"batch {plan.batch} = {processes} processes x {parts} parts x {plan.share // parts}"


def layout_rows(check: StartCheck) -> list[tuple[str, str]]:
    """The row with the times that decided the backbone's layout; empty if none were measured."""
    if not check.layouts:
        return []
    times = ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in check.layouts.items())
    chosen = "channels-last" if check.plan.channels_last else "plain"
    return [("layout", f"{chosen}, the faster ({times} a step); kept for this run")]


def _each_gpu(plan: TrainingPlan) -> list[tuple[str, str]]:
    """The row with the share of each process; empty for a single process."""
    processes = plan.placement.processes
    if processes == 1:
        return []
    parts = f" in {plan.parts} parts" if plan.parts > 1 else ""
    cores = usable_cores() // plan.placement.on_node
    return [("each process", f"{plan.share} segments a step{parts}, {cores} cores, bn {plan.bn}")]


def _learning_rate(plan: TrainingPlan) -> tuple[float, str]:
    optimizer, scale = plan.config.optim_wrapper.optimizer, plan.config.get("auto_scale_lr") or {}
    lr = optimizer.lr
    if not scale.get("enable"):
        return lr, f"{optimizer.type}, lr {lr:g}"
    base = scale["base_batch_size"]
    scaled = lr * plan.batch / base
    how = "" if plan.batch == base else f" = {lr:g} x {plan.batch}/{base}"
    return scaled, f"{optimizer.type}, lr {scaled:g}{how}"


def _device_text(check: StartCheck) -> str:
    plan = check.plan
    if plan.placement.device == "cuda":
        name = f"{plan.placement.processes} x {torch.cuda.get_device_name()}"
        name += f", {check.memory / 2**30:.1f} GiB each" if check.memory else ""
    else:
        name = f"CPU, {plan.placement.processes} x {torch.get_num_threads()} threads"
    if plan.placement.nodes > 1:
        name += f", on {plan.placement.nodes} nodes"
    layout = ["channels-last"] if plan.channels_last else []
    precision = [plan.dtype] if plan.placement.device == "cpu" else precision_words(plan.dtype)
    return ", ".join([name, *precision, *layout, *(["compiled"] if plan.compiled else [])])


def precision_words(dtype: str) -> list[str]:
    """The precision of a GPU, and whether cuDNN benchmarks its algorithms."""
    tried = ["cudnn.benchmark"] if torch.backends.cudnn.benchmark else []
    return [dtype, tf32_text(), *tried]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
