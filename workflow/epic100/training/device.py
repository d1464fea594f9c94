"""Where a training runs: its processes, their share of the batch, precision and compilation.

What stands here changes time and memory, never what is learned (up to rounding, and BatchNorm and
dropout over several processes), so it is applied after a run's stamp is taken.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from mmaction.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.registry import MODEL_WRAPPERS

from epic100.base.errors import EpicError

CHANNELS_LAST = "ChannelsLastRecognizer3D"
AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Placement:
    """`device` is "cuda" or "cpu"; `processes` train together, on CUDA each on a GPU of its own."""

    device: str
    processes: int


def place(device: str, gpus: int | None, there: int) -> Placement:
    """Settle `train: device:` and `train: gpus:` on a machine that has `there` GPUs.

    `gpus` None is one GPU where there is one, else the CPU; on the CPU it is a number of processes.
    Raises EpicError where the machine does not have what was asked for.
    """
    if device == "cuda" and gpus == 0:
        raise EpicError("train.gpus is 0 and train.device is cuda; set one of the two otherwise")
    if device == "cpu" or gpus == 0 or (device == "auto" and gpus is None and not there):
        return Placement("cpu", gpus or 1)
    wanted = gpus or 1
    if wanted > there:
        key = "train.device is cuda" if gpus is None else f"train.gpus is {gpus}"
        raise EpicError(
            f"{key}, but torch {torch.__version__} sees {there} GPUs here; expected at least "
            f"{wanted}: set `train: gpus:` to null (one if there is one), to 0 (the CPU), or ask "
            "Slurm for them"
        )
    return Placement("cuda", wanted)


def fit_device(config: Config, settings, placement: Placement) -> list[str]:
    """Put placement, precision, layout and accumulation into the MMEngine config, in place.

    `batch_size` of the loaders counts all segments of a step: each process loads its share, and
    `accumulate` splits that again. Returns a line for each thing that was asked for and is off.
    Raises EpicError where the batch cannot be shared evenly.
    """
    _share_batch(config, placement.processes, settings.accumulate)
    off = []
    hooks = list(config.get("custom_hooks") or [])
    if settings.precision != "fp32":
        reason = _no_autocast(settings.precision, placement.device)
        if reason:
            off.append(f"precision {settings.precision} is off, fp32 instead: {reason}")
        else:
            config.optim_wrapper.type = "AmpOptimWrapper"
            config.optim_wrapper.dtype = AUTOCAST[settings.precision]
            # bf16 has the exponents of fp32: its gradients need no scaling against underflow.
            scale = "dynamic" if settings.precision == "fp16" else {"enabled": False}
            config.optim_wrapper.loss_scale = scale
    if not settings.channels_last and config.model.type == CHANNELS_LAST:
        config.model.type = "Recognizer3D"
    if settings.compile:
        hooks.append({"type": "CompileHook"})
    if settings.accumulate > 1:
        hooks.append({"type": "AccumulateHook", "parts": settings.accumulate})
    config.custom_hooks = hooks
    if placement.processes > 1:
        config.launcher = "pytorch"
        config.model_wrapper_cfg = {"type": "EpicDistributed", "broadcast_buffers": False}
        if config.get("val_evaluator"):  # else ranks swap their results through files in `.`
            config.val_evaluator.collect_device = "gpu"
    return off


def drop_compile(config: Config) -> None:
    """Take compilation out of the config again, where a trial of it failed."""
    config.custom_hooks = [hook for hook in config.custom_hooks if hook["type"] != "CompileHook"]


def autocast(config: Config, device: str) -> AbstractContextManager:
    """The autocast that training will run under."""
    name = config.optim_wrapper.get("dtype")
    return torch.autocast(device, getattr(torch, name)) if name else nullcontext()


def _share_batch(config: Config, processes: int, parts: int) -> None:
    batch = config.train_dataloader.batch_size
    if batch % (processes * parts):
        raise EpicError(
            f"train.batch_size is {batch}; expected a multiple of {processes * parts} "
            f"(train.gpus {processes} x train.accumulate {parts}), so that all get the same share"
        )
    config.train_dataloader.batch_size = batch // processes
    for loader in (config.get("val_dataloader"), config.get("test_dataloader")):
        if loader:
            loader.batch_size = max(1, loader.batch_size // processes)


def _no_autocast(precision: str, device: str) -> str | None:
    if device == "cpu":
        return "MMEngine's autocast needs a GPU"
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name()} has no bf16; fp16 may do"
    return None


@MODEL_WRAPPERS.register_module()
class EpicDistributed(MMDistributedDataParallel):
    """MMEngine's wrapper for one process of several, which goes without a GPU, too."""

    def __init__(self, module: torch.nn.Module, **kwargs):
        if not next(module.parameters()).is_cuda:
            kwargs["device_ids"] = None  # MMEngine names a GPU, on any machine
        super().__init__(module, **kwargs)


@HOOKS.register_module()
class CompileHook(Hook):
    """Run the backbone through `torch.compile` in training; validation stays as it is, since its
    other picture size and batch would each cost a compilation of their own."""

    def before_train(self, runner) -> None:
        """Compile at the first batch of each shape; weights keep their names."""
        compile_backbone(bare(runner.model).backbone)


def compile_backbone(backbone: torch.nn.Module) -> None:
    """Compile `backbone.forward` for training, for each shape on its own.

    With sizes left open a second shape would recompile for any, and a resumed run, which meets
    shapes in another order, would run other kernels.
    """
    eager: Callable = backbone.forward
    compiled = torch.compile(eager, dynamic=False)
    backbone.forward = lambda x: (compiled if backbone.training else eager)(x)


@HOOKS.register_module()
class AccumulateHook(Hook):
    """Work a batch off in `parts`, one after the other, for the memory of one and the step of all.

    The split is inside the iteration (MMEngine's own accumulation counts iterations), so a step
    never hangs over a checkpoint or the end of an epoch, and a resumed run stays exact.
    """

    def __init__(self, parts: int):
        self.parts = parts

    def before_train(self, runner) -> None:
        """Put the loop over parts in place of the model's own step."""
        model = runner.model
        model.train_step = lambda data, optim_wrapper: step_in_parts(
            model, data, optim_wrapper, self.parts
        )


def step_in_parts(model, data: dict, optim_wrapper, parts: int) -> dict[str, torch.Tensor]:
    """One optimizer step on `data` in up to `parts` forward and backward passes.

    The gradient is that of the mean loss over the whole batch; over several processes it is
    exchanged once. Returns the logged figures, averaged in the same way.
    """
    module, total = bare(model), len(data["inputs"])
    size = -(-total // parts)
    starts = range(0, total, size)
    logged: dict[str, torch.Tensor] = {}
    for start in starts:
        piece = {key: values[start : start + size] for key, values in data.items()}
        share = len(piece["inputs"]) / total
        last = start == starts[-1]
        with nullcontext() if last or not is_model_wrapper(model) else model.no_sync():
            with optim_wrapper.optim_context(model):
                losses = model._run_forward(module.data_preprocessor(piece, True), mode="loss")
            loss, figures = module.parse_losses(losses)
            optim_wrapper.backward(loss * share)
        for key, value in figures.items():
            logged[key] = logged.get(key, 0) + share * value.detach()
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return logged


def bare(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, out of the wrapper that several processes put around it."""
    return model.module if is_model_wrapper(model) else model
