"""The start check: one step on a throwaway model before training. Does it fit, how long is it?

The run itself is untouched by it: MMEngine seeds and builds anew afterwards.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel

from epic100.base.errors import EpicError
from epic100.model.device_loss import keep_loss_on_device
from epic100.training.config_file import custom_hooks
from epic100.training.device import autocast, compile_backbone, use_tf32
from epic100.training.plan import TrainingPlan
from epic100.training.weights import Fit, fit_weights

SAMPLES = 4


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
    """

    plan: TrainingPlan
    step_seconds: float
    load_seconds: float
    parameters: int
    memory: int | None
    shape: tuple[int, ...]
    weights: Fit | None


def check_start(plan: TrainingPlan) -> StartCheck:
    """Load some samples and run one step of the model that the plan's config describes.

    Raises:
        EpicError: The batch does not fit into the GPU's memory, the weights to start from are of
            another model, or the list of segments is empty.
    """
    _as_the_runner_will(plan)
    samples, load_seconds = _load(plan)
    model = MODELS.build(plan.config.model)
    keep_loss_on_device(model)
    path = plan.config.load_from
    weights = fit_weights(path, model) if path else None
    model = model.to(plan.placement.device).train()
    share = plan.share // plan.parts
    batch = pseudo_collate([samples[number % len(samples)] for number in range(share)])
    if plan.compiled and (failure := _compile_failure(plan, model, batch)):
        plan = plan.without_compile(failure)
    seconds, memory = _timed(plan, model, batch)
    return StartCheck(
        plan=plan, step_seconds=seconds * plan.parts, load_seconds=load_seconds,
        parameters=sum(p.numel() for p in model.parameters()), memory=memory,
        shape=tuple(samples[0]["inputs"].shape), weights=weights,
    )  # fmt: skip


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
    """Seconds of the faster of two steps, and the GPU's peak bytes."""
    on_gpu = plan.placement.device == "cuda"
    try:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds = min(_step(plan, model, batch) for _ in range(2))
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
