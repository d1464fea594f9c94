"""The start check: one step on a throwaway model before training. Does it fit, how long is it?

The run itself is untouched by it: MMEngine seeds and builds anew afterwards.
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
from epic100.training.weights import Fit, fit_weights

SAMPLES = 4
LAYOUT = "layout.txt"  # in the work directory
LAYOUTS = {"channels-last": True, "plain": False}


@dataclass(frozen=True)
class StartCheck:
    """What one step showed.

    Args:
        plan: What is trained: the plan that was checked, less what failed here.
        step_seconds: Forward and backward of one process's share of a batch.
        load_seconds: Of one sample, by one loader process.
        parameters: Of the model.
        memory: Peak bytes on the GPU; None on a CPU.
        shape: Of one sample's input.
        weights: How the weights to start from fit; None where there are none.
        layouts: Seconds a step of each layout that was measured, by name; empty where none was.
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

    Raises:
        EpicError: The batch does not fit into the GPU's memory, the weights to start from are of
            another model, or the list of segments is empty.
    """
    _as_the_runner_will(plan)
    samples, load_seconds = _load(plan)
    plan, layouts = _settle_layout(plan, samples)
    model = MODELS.build(plan.config.model)
    keep_loss_on_device(model)
    path = plan.config.load_from
    weights = fit_weights(path, model) if path else None
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
    """What goes through the model at once."""
    part = plan.share // plan.parts
    return pseudo_collate([samples[number % len(samples)] for number in range(part)])


def _settle_layout(
    plan: TrainingPlan, samples: list[dict[str, Any]]
) -> tuple[TrainingPlan, dict[str, float]]:
    """The plan in the layout that its run keeps, and what was measured for it.

    The first start of a run measures, for all processes; later ones read the work directory.
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
    """The layout of the run in this work directory: what it began with, else what `measure` says.

    Raises EpicError for a file that holds none.
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
    """Seconds a step in each layout that fits into memory, compiled where the plan is."""
    found: dict[str, float] = {}
    for name, channels_last in LAYOUTS.items():
        laid = plan.with_layout(channels_last)
        model = MODELS.build(laid.config.model)
        keep_loss_on_device(model)
        model = model.to(plan.placement.device).train()
        batch = _batch(plan, samples)
        if plan.compiled:
            _compile_failure(laid, model, batch)
        try:
            found[name] = _timed(laid, model, batch)[0]
        except EpicError:
            if name == list(LAYOUTS)[-1] and not found:  # neither fits
                raise
    return found


def _as_the_runner_will(plan: TrainingPlan) -> None:
    """Set how the GPU computes, which the Runner and its hooks do only later."""
    torch.backends.cudnn.benchmark = bool(plan.config.get("env_cfg", {}).get("cudnn_benchmark"))
    for hook in custom_hooks(plan.config):
        if hook["type"] == "Tf32Hook":
            use_tf32(hook["allowed"])


def _load(plan: TrainingPlan) -> tuple[list[dict[str, Any]], float]:
    """Samples from all over the data, and seconds a sample."""
    dataset = DATASETS.build(plan.config.train_dataloader.dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset))).astype(int)
    started = time.perf_counter()
    samples = [dataset[int(index)] for index in chosen]
    return samples, (time.perf_counter() - started) / len(samples)


def _compile_failure(plan: TrainingPlan, model: BaseModel, batch: dict[str, Any]) -> str | None:
    """Compile the model's backbone and run a step; the reason where that fails, and undone."""
    eager = model.backbone.forward
    compile_backbone(model.backbone)
    try:
        _step(plan, model, batch)
    except torch.OutOfMemoryError:
        return None  # reported where the timed step fails too
    except Exception as error:  # no compiler, a GPU too old, an operator it does not know
        model.backbone.forward = eager
        first = str(error).strip().splitlines()[0][:120]
        return f"it failed here ({type(error).__name__}: {first})"
    return None


def _timed(plan: TrainingPlan, model: BaseModel, batch: dict[str, Any]) -> tuple[float, int | None]:
    """Seconds of the fastest step after the first, and the GPU's peak bytes."""
    on_gpu = plan.placement.device == "cuda"
    try:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        _step(plan, model, batch)  # in which cuDNN looks for its algorithms
        seconds = min(_step(plan, model, batch) for _ in range(3 if on_gpu else 1))
    except torch.OutOfMemoryError as error:
        raise EpicError(
            f"a step of {len(batch['inputs'])} segments does not fit into the GPU's memory; raise "
            "`train: accumulate:` (the batch in more parts, the same result), or lower `batch_size`"
        ) from error
    return seconds, torch.cuda.max_memory_allocated() if on_gpu else None


def _step(plan: TrainingPlan, model: BaseModel, batch: dict[str, Any]) -> float:
    """Seconds of one forward and backward pass."""
    started = time.perf_counter()
    with autocast(plan.dtype, plan.placement.device):
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    if plan.placement.device == "cuda":
        torch.cuda.synchronize()
    model.zero_grad()
    return time.perf_counter() - started
