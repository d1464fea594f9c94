"""Where a training runs, and the means for it: several processes, autocast, compilation, parts.

What is here changes time and memory, never what is learned (but for rounding, and for BatchNorm
and dropout over several processes).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner

from epic100.base.gpu import Gpus, gpus_to_use
from epic100.training.hook_order import PRIORITIES

CHANNELS_LAST, PLAIN = "ChannelsLastRecognizer3D", "Recognizer3D"


@dataclass(frozen=True)
class Placement:
    """`device` is "cuda" or "cpu"; `processes` train together, on CUDA each on a GPU of its own."""

    device: str
    processes: int


def choose_device(device: str, gpus: int | None, found: Gpus) -> Placement:
    """Choose where to train.

    Args:
        device: `train: device:`, auto, cuda or cpu.
        gpus: `train: gpus:`; None is one GPU where there is one, else the CPU. On the CPU it is a
            number of processes.
        found: The GPUs of this process.

    Raises:
        EpicError: A GPU was granted or asked for, and torch cannot use it.
    """
    used = gpus_to_use("train", device, gpus, found)
    return Placement("cuda", used) if used else Placement("cpu", gpus or 1)


def autocast(dtype: str, device: str) -> AbstractContextManager[None]:
    """The autocast that a training in this dtype runs under."""
    return nullcontext() if dtype == "float32" else torch.autocast(device, getattr(torch, dtype))


def autocast_refused(precision: str, device: str) -> str | None:
    """Why this precision cannot be had on the device; None where it can."""
    if precision != "fp32" and device == "cpu":
        return "MMEngine's autocast needs a GPU"
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name()} has no bf16; fp16 may do"
    return None


def use_tf32(allowed: bool) -> None:
    """Multiply float32 as TF32, everywhere or nowhere, on GPUs that can (A100 and newer)."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def tf32_text() -> str:
    """Where float32 is multiplied as TF32 now."""
    used = {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "matrix products": torch.backends.cuda.matmul.allow_tf32,
    }
    places = [place for place, on in used.items() if on]
    return f"TF32 in {' and '.join(places)}" if places else "no TF32"


@HOOKS.register_module()
class Tf32Hook(Hook):
    """Sets `train: tf32:`; a run keeps what it began with, since another value is another run."""

    priority = PRIORITIES["Tf32Hook"]

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed

    def before_run(self, runner: Runner) -> None:
        """Set it before anything is computed."""
        use_tf32(self.allowed)


@MODEL_WRAPPERS.register_module()
class EpicDistributed(MMDistributedDataParallel):
    """MMEngine's wrapper for one process of several, which goes without a GPU, too."""

    def __init__(self, module: torch.nn.Module, **kwargs: Any) -> None:
        if not next(module.parameters()).is_cuda:
            kwargs["device_ids"] = None  # MMEngine names a GPU, on any machine
        super().__init__(module, **kwargs)


@HOOKS.register_module()
class CompileHook(Hook):
    """Run the backbone through `torch.compile` in training; validation stays as it is, since its
    other picture size and batch would each cost a compilation of their own."""

    priority = PRIORITIES["CompileHook"]

    def before_train(self, runner: Runner) -> None:
        """Compile at the first batch of each shape; weights keep their names."""
        compile_backbone(bare(runner.model).backbone)


def compile_backbone(backbone: torch.nn.Module) -> None:
    """Compile `backbone.forward` for training, for each shape on its own.

    With sizes left open a second shape would recompile for any, and a resumed run, which meets
    shapes in another order, would run other kernels.
    """
    eager: Callable[..., torch.Tensor] = backbone.forward
    compiled = torch.compile(eager, dynamic=False)
    backbone.forward = lambda x: (compiled if backbone.training else eager)(x)


@HOOKS.register_module()
class AccumulateHook(Hook):
    """Work a batch off in `parts`, one after the other, for the memory of one and the step of all.

    The split is inside the iteration (MMEngine's own accumulation counts iterations), so a step
    never hangs over a checkpoint or the end of an epoch, and a resumed run stays exact.
    """

    priority = PRIORITIES["AccumulateHook"]

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def before_train(self, runner: Runner) -> None:
        """Put the loop over parts in place of the model's own step."""
        model = runner.model
        model.train_step = lambda data, optim_wrapper: step_in_parts(
            model, data, optim_wrapper, self.parts
        )


def step_in_parts(
    model: BaseModel | MMDistributedDataParallel,
    data: dict[str, Any],
    optim_wrapper: OptimWrapper,
    parts: int,
) -> dict[str, torch.Tensor]:
    """One optimizer step on `data` in up to `parts` forward and backward passes.

    The gradient is that of the mean loss over the whole batch; over several processes it is
    exchanged once.

    Returns:
        The logged figures, averaged in the same way.
    """
    module, total = bare(model), len(data["inputs"])
    size = -(-total // parts)
    starts = range(0, total, size)
    logged: dict[str, torch.Tensor] = {}
    for start in starts:
        piece = {key: values[start : start + size] for key, values in data.items()}
        share = len(piece["inputs"]) / total
        last = start == starts[-1]
        with model.no_sync() if is_model_wrapper(model) and not last else nullcontext():
            with optim_wrapper.optim_context(model):
                losses = model._run_forward(module.data_preprocessor(piece, True), mode="loss")
            loss, figures = module.parse_losses(losses)
            optim_wrapper.backward(loss * share)
        for key, value in figures.items():
            logged[key] = logged.get(key, 0) + share * value.detach()
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return logged


def bare(model: BaseModel | MMDistributedDataParallel) -> BaseModel:
    """The model itself, out of the wrapper that several processes put around it."""
    return model.module if is_model_wrapper(model) else model
