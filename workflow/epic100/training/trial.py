"""One step on a throwaway model before training: does it fit, and how long does it take?

The run itself is untouched by it: MMEngine seeds and builds anew afterwards.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from epic100.base.errors import EpicError
from epic100.training.device import Placement, autocast, compile_backbone, drop_compile
from epic100.training.weights import Fit, fit_weights

SAMPLES = 4


@dataclass(frozen=True)
class Trial:
    """What one step showed.

    `step_seconds`: forward and backward of one process's share of a batch. `load_seconds`: of one
    sample, by one loader process. `parameters`: of the model. `memory`: peak bytes on the GPU, or
    None. `shape`: of one sample's input. `weights`: how the weights to start from fit, or None.
    `off`: a line for what was asked for and failed.
    """

    step_seconds: float
    load_seconds: float
    parameters: int
    memory: int | None
    shape: tuple[int, ...]
    weights: Fit | None
    off: list[str]


def try_step(config: Config, placement: Placement) -> Trial:
    """Load some samples and run one step of the model that `config` describes.

    Takes compilation out of `config` where it fails. Raises EpicError where the batch does not fit
    into the GPU's memory, where the weights to start from are of another model, or for an empty
    list of segments.
    """
    from mmaction.registry import DATASETS, MODELS

    dataset = DATASETS.build(config.train_dataloader.dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset))).astype(int)
    started = time.perf_counter()
    samples = [dataset[int(index)] for index in chosen]
    load_seconds = (time.perf_counter() - started) / len(samples)

    model = MODELS.build(config.model)
    fit = fit_weights(config.load_from, model) if config.load_from else None
    model = model.to(placement.device).train()
    hooks = {hook["type"]: hook for hook in config.custom_hooks}
    parts = hooks.get("AccumulateHook", {}).get("parts", 1)
    share = config.train_dataloader.batch_size // parts
    batch = pseudo_collate([samples[number % len(samples)] for number in range(share)])
    off = []
    if "CompileHook" in hooks:
        eager = model.backbone.forward
        compile_backbone(model.backbone)
        try:
            _step(model, config, placement.device, batch)
        except torch.OutOfMemoryError:
            pass  # said below, where the step without compilation fails too
        except Exception as error:  # no compiler, a GPU too old, an operator it does not know
            model.backbone.forward = eager
            drop_compile(config)
            first = str(error).strip().splitlines()[0][:120]
            off.append(f"compile is off: it failed here ({type(error).__name__}: {first})")
    try:
        if placement.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = min(_step(model, config, placement.device, batch) for _ in range(2))
    except torch.OutOfMemoryError as error:
        raise EpicError(
            f"a step of {share} segments does not fit into the GPU's memory; raise `train: "
            "accumulate:` (the batch in more parts, the same result), or lower `batch_size`"
        ) from error
    memory = torch.cuda.max_memory_allocated() if placement.device == "cuda" else None
    return Trial(
        step_seconds=seconds * parts,
        load_seconds=load_seconds,
        parameters=sum(p.numel() for p in model.parameters()),
        memory=memory,
        shape=tuple(samples[0]["inputs"].shape),
        weights=fit,
        off=off,
    )


def _step(model, config: Config, device: str, batch: dict) -> float:
    """Seconds of one forward and backward pass."""
    started = time.perf_counter()
    with autocast(config, device):
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    if device == "cuda":
        torch.cuda.synchronize()
    model.zero_grad()
    return time.perf_counter() - started
