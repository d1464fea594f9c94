"""What is about to be trained, in one table with its warnings, before the first step."""

from dataclasses import dataclass

import pandas as pd
import torch
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores
from epic100.segments.segment_list import NO_LABEL, read_segments
from epic100.training.device import CHANNELS_LAST, Placement
from epic100.training.trial import Trial

Pairs = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Plan:
    """Rows of the table, (name, text), and warnings, in the order they are said."""

    rows: list[tuple[str, str]]
    warnings: list[str]

    def text(self) -> str:
        """The table and, below it, a line a warning."""
        width = max(len(name) for name, _ in self.rows)
        lines = [f"{name:>{width}}: {value}" for name, value in self.rows]
        return "\n".join(lines + [f"warning: {words}" for words in self.warnings])


def check_validation(config: Config) -> pd.DataFrame | None:
    """The val list that training will validate on; None, and validation off, where it is empty.

    Raises EpicError where a segment of it has no label.
    """
    loader = config.get("val_dataloader")
    if not loader:
        return None
    path = loader.dataset.ann_file
    val = read_segments(path)
    if val.empty:
        config.val_dataloader = config.val_cfg = config.val_evaluator = None
        return None
    unlabelled = val[(val["verb"] == NO_LABEL) | (val["noun"] == NO_LABEL)]
    if len(unlabelled):
        raise EpicError(
            f"{path}: {unlabelled.iloc[0]['narration_id']} and {len(unlabelled) - 1} more segments "
            "have no verb or noun, which validation needs; set `annotations: val:` to "
            "EPIC_100_validation.csv, whose segments are labelled"
        )
    return val


def make_plan(
    config: Config,
    *,
    train: pd.DataFrame,
    val: pd.DataFrame | None,
    pairs: Pairs,
    classes: tuple[int, int],
    placement: Placement,
    trial: Trial,
    off: list[str],
    done_epochs: int = 0,
) -> Plan:
    """The table for a run of `config`.

    `classes`: numbers of verbs and nouns. `off`: what was asked for and is not on. `done_epochs`:
    finished by an earlier start of this run.
    """
    loader, epochs = config.train_dataloader, config.train_cfg.max_epochs
    batch = loader.batch_size * placement.processes
    steps = -(-len(train) // batch)
    warnings = [*_data_warnings(train, val, pairs, classes), *off, *trial.off]
    if batch > len(train):
        warnings.append(f"a batch of {batch} is larger than the data: {len(train)} segments")
    lr, lr_text = _learning_rate(config, batch)
    if lr == 0:
        warnings.append("the learning rate is 0: nothing will be learned")
    seconds = epoch_seconds(config, placement, trial, steps, _validated(config, val))
    height, width = trial.shape[-2:]
    frames = trial.shape[2] if len(trial.shape) == 5 else trial.shape[0]  # of a 2-D recognizer
    parts = _hook(config, "AccumulateHook").get("parts", 1)
    rows = [
        ("data", f"{len(train)} segments of {train['path'].nunique()} videos, {len(pairs)} pairs"),
        ("val", _val_text(config, val)),
        (
            "model",
            f"{config.model.type}, backbone {config.model.backbone.type}, "
            f"{trial.parameters / 1e6:.2f} M parameters; {frames} frames of {width} x {height}",
        ),
        ("weights", f"{config.load_from}: {trial.weights.line()}" if trial.weights else "random"),
        ("head", _head_text(config)),
        (
            "schedule",
            f"{epochs} epochs of {steps} steps; "
            f"{_batch_text(loader.batch_size, placement.processes, parts)}; {lr_text}",
        ),
        ("device", _device_text(config, placement, trial)),
        (
            "loader",
            f"{loader.num_workers} workers a process; {1000 * trial.load_seconds:.0f} ms a segment",
        ),
        (
            "time",
            f"about {_duration(seconds * (epochs - done_epochs))} ({trial.step_seconds:.2f} s a "
            "step by a trial on this machine, as busy as it is)",
        ),
        ("folder", str(config.work_dir)),
    ]
    return Plan(rows, warnings)


def _data_warnings(train, val, pairs: Pairs, classes: tuple[int, int]) -> list[str]:
    warnings = []
    seen = set(zip(train["verb"].tolist(), train["noun"].tolist(), strict=True))
    unused = [pair for pair in pairs if pair[:2] not in seen]
    if unused:
        warnings.append(
            f"{len(unused)} of {len(pairs)} pairs have no segment to learn from, verb "
            f"{unused[0][0]} with noun {unused[0][1]} first"
        )
    for name, number in zip(("verb", "noun"), classes, strict=True):
        lacking = number - train[name].nunique()
        if lacking:
            warnings.append(
                f"{lacking} of {number} {name}s have no segment to learn from and are never "
                "predicted"
            )
    if val is None:
        warnings.append("no segment to validate on: training runs without validation")
        return warnings
    known = {pair[:2] for pair in pairs}
    asked = list(zip(val["verb"].tolist(), val["noun"].tolist(), strict=True))
    unseen = [pair for pair in asked if pair not in known]
    if unseen:
        warnings.append(
            f"{len(unseen)} of {len(asked)} val segments ({100 * len(unseen) / len(asked):.1f} %) "
            f"are of {len(set(unseen))} pairs that train never has: their action cannot be right"
        )
    return warnings


def _val_text(config: Config, val) -> str:
    if val is None:
        return "none"
    number = f"{len(val)} segments"
    if _validated(config, val) < len(val):
        number = f"{_validated(config, val)} of {number}"
    return f"{number}, every {config.train_cfg.get('val_interval', 1)} epochs"


def _validated(config: Config, val) -> int:
    if val is None:
        return 0
    dataset = (config.get("val_dataloader") or {}).get("dataset", {})
    return min(dataset.get("part") or len(val), len(val))


def _batch_text(share: int, processes: int, parts: int) -> str:
    text = f"batch {share * processes}"
    if processes * parts > 1:
        text += f" = {processes} processes x {parts} parts x {share // parts}"
    return text


def _head_text(config: Config) -> str:
    head = config.model.cls_head
    parts = [f"dropout {head.get('dropout_ratio', 0)}"]
    parts.append(f"label smoothing {head.get('label_smooth_eps', 0.0)}")
    tau = head.get("loss_cls", {}).get("tau")
    parts.append(f"logit adjustment {tau}" if tau else "no logit adjustment")
    momentum = _hook(config, "EMAHook").get("momentum")
    parts.append(f"weights averaged, decay {1 - momentum:g}" if momentum else "no average")
    return ", ".join(parts)


def _learning_rate(config: Config, batch: int) -> tuple[float, str]:
    optimizer, scale = config.optim_wrapper.optimizer, config.get("auto_scale_lr") or {}
    lr = optimizer.lr
    if not scale.get("enable"):
        return lr, f"{optimizer.type}, lr {lr:g}"
    base = scale["base_batch_size"]
    scaled = lr * batch / base
    how = "" if batch == base else f" = {lr:g} x {batch}/{base}"
    return scaled, f"{optimizer.type}, lr {scaled:g}{how}"


def _device_text(config: Config, placement: Placement, trial: Trial) -> str:
    if placement.device == "cuda":
        name = f"{placement.processes} x {torch.cuda.get_device_name()}"
        name += f", {trial.memory / 2**30:.1f} GiB each" if trial.memory else ""
    else:
        name = f"CPU, {placement.processes} x {torch.get_num_threads()} threads"
    precision = config.optim_wrapper.get("dtype", "float32")
    on = ["channels-last"] if config.model.type == CHANNELS_LAST else []
    on += ["compiled"] if _hook(config, "CompileHook") else []
    return ", ".join([name, precision, *on])


def epoch_seconds(
    config: Config, placement: Placement, trial: Trial, steps: int, val_segments: int
) -> float:
    """Estimated seconds of an epoch of `steps`, with its share of validation.

    On a GPU workers load while it computes; on a CPU both want the same cores. A forward pass is
    taken for a third of a step.
    """
    loader = config.train_dataloader
    cores = max(1, usable_cores() // placement.processes)
    load = loader.batch_size * trial.load_seconds / min(max(1, loader.num_workers), cores)
    apart = placement.device == "cuda" and loader.num_workers > 0
    step = max(trial.step_seconds, load) if apart else trial.step_seconds + load
    one = (load + trial.step_seconds / 3) / loader.batch_size / placement.processes
    return steps * step + val_segments * one / config.train_cfg.get("val_interval", 1)


def _hook(config: Config, kind: str) -> dict:
    return next((dict(h) for h in config.get("custom_hooks") or [] if h["type"] == kind), {})


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
