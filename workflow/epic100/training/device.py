"""Where and how a training runs: several processes, autocast, compilation, batches in parts.

This changes time and memory but not what is learned, except for rounding, and for BatchNorm and
dropout over several processes.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner

from epic100.base.gpu import Gpus, gpus_to_use
from epic100.training.hooks import PRIORITIES

CHANNELS_LAST, PLAIN = "ChannelsLastRecognizer3D", "Recognizer3D"


@dataclass(frozen=True)
class Placement:
    """Where a training runs.

    Args:
        device: "cuda" or "cpu".
        processes: Number of processes that train together, over all nodes; on CUDA each has its
            own GPU.
        nodes: Number of nodes, which have equally many processes.
    """

    device: str
    processes: int
    nodes: int = 1

    @property
    def on_node(self) -> int:
        """Number of processes on each node."""
        return self.processes // self.nodes


def choose_device(device: str, gpus: int | None, found: Gpus, nodes: int = 1) -> Placement:
    """Choose where to train.

    Args:
        device: `train: device:`, auto, cuda or cpu.
        gpus: `train: gpus:`; None means one GPU if there is one, else the CPU. On the CPU it is a
            number of processes. Both are per node.
        found: The GPUs of this process.
        nodes: `train: nodes:`.

    Raises:
        EpicError: A GPU was granted or requested, but torch cannot use it.
    """
    used = gpus_to_use("train", device, gpus, found)
    here = Placement("cuda", used) if used else Placement("cpu", gpus or 1)
    return replace(here, processes=here.processes * nodes, nodes=nodes)


def autocast_refused(precision: str, device: str) -> str | None:
    """The reason why this precision is not available on the device; None if it is."""
    if precision != "fp32" and device == "cpu":
        return "MMEngine's autocast needs a GPU and this training runs on the CPU; expected fp32"
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name()} has no bf16; expected fp16 or fp32"
    return None


@MODEL_WRAPPERS.register_module()
class EpicDistributed(MMDistributedDataParallel):
    """MMEngine's wrapper for one of several processes, which also works without a GPU."""

    def __init__(self, module: torch.nn.Module, **kwargs: Any) -> None:
        if not next(module.parameters()).is_cuda:
            kwargs["device_ids"] = None  # MMEngine sets a GPU on every machine
        super().__init__(module, **kwargs)


@HOOKS.register_module()
class CompileHook(Hook):
    """Run the backbone through `torch.compile` in training.

    Validation is not compiled: its other picture size and batch size would each need another
    compilation.
    """

    priority = PRIORITIES["CompileHook"]

    def before_train(self, runner: Runner) -> None:
        """Compile at the first batch of each shape; names of weights do not change."""
        compile_backbone(bare(runner.model).backbone)


def compile_backbone(backbone: torch.nn.Module) -> None:
    """Compile `backbone.forward` for training, separately for each shape.

    With dynamic sizes, a second shape would recompile for any size. A resumed run meets the shapes
    in another order and would then use other kernels.
    """
    eager: Callable[..., torch.Tensor] = backbone.forward
    compiled = torch.compile(eager, dynamic=False)
    backbone.forward = lambda x: (compiled if backbone.training else eager)(x)


@HOOKS.register_module()
class AccumulateHook(Hook):
    """Train on each batch in parts: the memory of one part, the optimizer step of the whole batch.

    The split is inside the iteration (MMEngine's own accumulation counts iterations). So no step
    spans a checkpoint or the end of an epoch, and a resumed run stays exact.

    Args:
        parts: Number of parts per batch.
    """

    priority = PRIORITIES["AccumulateHook"]

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def before_train(self, runner: Runner) -> None:
        """Replace the model's own step with the loop over parts."""
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
    """Do one optimizer step on `data` in up to `parts` forward and backward passes.

    The gradient is that of the mean loss over the whole batch; several processes exchange it once.

    Args:
        model: The model, or its wrapper for several processes.
        data: The collated batch.
        optim_wrapper: MMEngine's optimizer wrapper.
        parts: Maximum number of parts.

    Returns:
        The logged figures, as a mean over the batch.
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
    """The model without the wrapper for several processes."""
    return model.module if is_model_wrapper(model) else model
