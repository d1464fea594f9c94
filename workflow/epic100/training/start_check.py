"""The start check: one step on a throwaway model, before training, to measure memory and time.

It does not affect the run: MMEngine then seeds again and builds a new model.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.model.device_loss import keep_loss_on_device
from epic100.training.collective import on_rank_0
from epic100.training.config_file import custom_hooks
from epic100.training.device import autocast, compile_backbone, use_tf32
from epic100.training.plan import TrainingPlan
from epic100.training.weights import Fit, fit_weights, read_weights

SAMPLES = 4
LAYOUT = "layout.txt"  # file in the work directory
LAYOUTS = {"channels-last": True, "plain": False}


@dataclass(frozen=True)
class StartCheck:
    """Result of the start check.

    Args:
        plan: The checked plan, without what failed here.
        step_seconds: Seconds of forward and backward for one process's share of a batch.
        load_seconds: Seconds to load one sample with one loader process.
        parameters: Number of parameters of the model.
        memory: Peak bytes on the GPU; None on a CPU.
        shape: Shape of one sample's input.
        weights: How the start weights fit the model; None without start weights.
        layouts: Seconds per step of each layout measured, by name; empty if none was measured.
    """

    plan: TrainingPlan
    step_seconds: float
    load_seconds: float
    parameters: int
    memory: int | None
    shape: tuple[int, ...]
    weights: Fit | None
    layouts: dict[str, float] = field(default_factory=dict)


def check_start(plan: TrainingPlan) -> StartCheck:
    """Load some samples and run one step of the model that the plan's config describes.

    Args:
        plan: The plan to check.

    Returns:
        The measurements, and the plan without what failed.

    Raises:
        EpicError: The batch does not fit into the GPU's memory, the start weights are of another
            model, or the list of segments is empty.
    """
    _as_the_runner_will(plan)
    samples, load_seconds = _load(plan)
    plan, layouts = _settle_layout(plan, samples)
    model = MODELS.build(plan.config.model)
    keep_loss_on_device(model)
    path = plan.config.load_from
    weights = fit_weights(path, read_weights(path), model) if path else None
    model = model.to(plan.placement.device).train()
    batch = _batch(plan, samples)
    if plan.compiled and (failure := _compile_failure(plan, model, batch)):
        plan = plan.without_compile(failure)
    seconds, memory = _timed(plan, model, batch)
    return StartCheck(
        plan=plan, step_seconds=seconds * plan.parts, load_seconds=load_seconds,
        parameters=sum(p.numel() for p in model.parameters()), memory=memory,
        shape=tuple(samples[0]["inputs"].shape), weights=weights, layouts=layouts,
    )  # fmt: skip


def _batch(plan: TrainingPlan, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The samples of one part of a process's share, repeated if there are too few."""
    part = plan.share // plan.parts
    return pseudo_collate([samples[number % len(samples)] for number in range(part)])


def _settle_layout(
    plan: TrainingPlan, samples: list[dict[str, Any]]
) -> tuple[TrainingPlan, dict[str, float]]:
    """Choose the memory layout of the backbone for the whole run.

    The first start of a run measures the layouts, on rank 0 for all processes. Later starts read
    the result from the work directory.

    Returns:
        The plan with its layout, and the seconds per step of each layout measured.
    """
    if plan.channels_last is not None:
        return plan, {}
    measured: dict[str, float] = {}

    def measure() -> str:
        measured.update(time_layouts(plan, samples))
        return min(measured, key=lambda name: measured[name])

    folder = plan.config.work_dir
    chosen = on_rank_0(lambda: kept_layout(folder, measure))
    return plan.with_layout(LAYOUTS[chosen]), measured


def kept_layout(folder: str | os.PathLike, measure: Callable[[], str]) -> str:
    """Read the layout of a run from its work directory, or measure and store it.

    Args:
        folder: The run's work directory.
        measure: Returns the name of the faster layout; called only if none is stored.

    Raises:
        EpicError: The file contains no known layout.
    """
    path = Path(folder) / LAYOUT
    if path.is_file():
        name = path.read_text(encoding="utf-8").strip()
        if name not in LAYOUTS:
            raise EpicError(f"{path}: is {name!r}; expected {' or '.join(LAYOUTS)}; delete it")
        return name
    name = measure()
    with atomic_path(path) as temporary:
        temporary.write_text(f"{name}\n", encoding="utf-8")
    return name


def time_layouts(plan: TrainingPlan, samples: list[dict[str, Any]]) -> dict[str, float]:
    """Measure the seconds per step of each layout that fits into memory, compiled if the plan is.

    Args:
        plan: The plan to measure.
        samples: Samples to build a batch from.

    Raises:
        EpicError: No layout fits into memory.
    """
    found: dict[str, float] = {}
    for name, channels_last in LAYOUTS.items():
        changed = plan.with_layout(channels_last)
        model = MODELS.build(changed.config.model)
        keep_loss_on_device(model)
        model = model.to(plan.placement.device).train()
        batch = _batch(plan, samples)
        if plan.compiled:
            _compile_failure(changed, model, batch)
        try:
            found[name] = _timed(changed, model, batch)[0]
        except EpicError:
            if name == list(LAYOUTS)[-1] and not found:  # neither fits
                raise
    return found


def _as_the_runner_will(plan: TrainingPlan) -> None:
    """Set now how the GPU computes; the Runner and its hooks set it only later."""
    torch.backends.cudnn.benchmark = bool(plan.config.get("env_cfg", {}).get("cudnn_benchmark"))
    for hook in custom_hooks(plan.config):
        if hook["type"] == "Tf32Hook":
            use_tf32(hook["allowed"])


def _load(plan: TrainingPlan) -> tuple[list[dict[str, Any]], float]:
    """Load samples spread evenly over the data; returns them and the seconds per sample."""
    dataset = DATASETS.build(plan.config.train_dataloader.dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset))).astype(int)
    started = time.perf_counter()
    samples = [dataset[int(index)] for index in chosen]
    return samples, (time.perf_counter() - started) / len(samples)


def _compile_failure(plan: TrainingPlan, model: BaseModel, batch: dict[str, Any]) -> str | None:
    """Compile the backbone and run a step; if that fails, undo it and return the reason."""
    eager = model.backbone.forward
    compile_backbone(model.backbone)
    try:
        _step(plan, model, batch)
    except torch.OutOfMemoryError:
        return None  # the timed step fails too and reports it
    except Exception as error:  # no compiler, an old GPU or an unknown operator
        model.backbone.forward = eager
        first = str(error).strip().splitlines()[0][:120]
        return f"it failed here ({type(error).__name__}: {first})"
    return None


def _timed(plan: TrainingPlan, model: BaseModel, batch: dict[str, Any]) -> tuple[float, int | None]:
    """Measure the fastest step after a first one, in seconds, and the GPU's peak bytes."""
    on_gpu = plan.placement.device == "cuda"
    try:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        _step(plan, model, batch)  # cuDNN selects its algorithms in this step
        seconds = min(_step(plan, model, batch) for _ in range(3 if on_gpu else 1))
    except torch.OutOfMemoryError as error:
        raise EpicError(
            f"a step of {len(batch['inputs'])} segments does not fit into the GPU's memory; raise "
            "`train: accumulate:` (the batch in more parts, the same result), or lower `batch_size`"
        ) from error
    return seconds, torch.cuda.max_memory_allocated() if on_gpu else None


def _step(plan: TrainingPlan, model: BaseModel, batch: dict[str, Any]) -> float:
    """Run one forward and backward pass and return its seconds."""
    started = time.perf_counter()
    with autocast(plan.dtype, plan.placement.device):
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    if plan.placement.device == "cuda":
        torch.cuda.synchronize()
    model.zero_grad()
    return time.perf_counter() - started
