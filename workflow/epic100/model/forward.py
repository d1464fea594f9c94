"""The forward pass of a recognizer, for steps, validation, predictions, timelines and features.

What it computes in, how its weights lie, how many views are computed at a time: each is said here
once, with `model.precision`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModel, MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from epic100.base.errors import EpicError
from epic100.model.foreign import open_foreign
from epic100.model.model_file import TrainedModel
from epic100.model.precision import computing_in, dtype_of, lies_channels_last, usable
from epic100.model.registered import lay_out_channels_last
from epic100.model.views import frames_of_2d, mean_log_probs

# It takes the clips of B segments, and gives [B, columns].
Compute = Callable[[Sequence[Tensor]], Tensor]


def train_step(
    model: BaseModel | MMDistributedDataParallel,
    data: dict[str, Any],
    optim_wrapper: OptimWrapper,
    most: int | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """Do one optimizer step on `data`, in parts that fit into memory.

    The gradient is that of the mean loss over the whole batch; several processes exchange it once.

    Args:
        model: The model, or its wrapper for several processes.
        data: The collated batch.
        optim_wrapper: MMEngine's optimizer wrapper.
        most: Segments of a part, at most; None: the batch is one part.
        dtype: What the pass computes in; None is float32.

    Returns:
        The logged figures, as a mean over the batch.
    """
    module, total = bare(model), len(data["inputs"])
    size = -(-total // -(-total // (most or total)))
    starts = range(0, total, size)
    logged: dict[str, torch.Tensor] = {}
    for start in starts:
        piece = {key: values[start : start + size] for key, values in data.items()}
        share = len(piece["inputs"]) / total
        is_last = start == starts[-1]
        with model.no_sync() if is_model_wrapper(model) and not is_last else nullcontext():
            with computing_in(dtype, module.data_preprocessor.device):
                losses = model._run_forward(module.data_preprocessor(piece, True), mode="loss")
            loss, figures = module.parse_losses(losses)
            optim_wrapper.backward(loss * share)
        for key, value in figures.items():
            logged[key] = logged.get(key, 0) + share * value.detach()
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return logged


@torch.inference_mode()
def scores_of_views(
    model: Any,
    clips: Sequence[torch.Tensor],
    at_once: int,
    frames: int | None,
    dtype: torch.dtype | None = None,
) -> Iterator[torch.Tensor]:
    """Yield the scores [views, outputs] of `at_once` views at a time.

    Args:
        model: A recognizer of MMAction2, in evaluation mode.
        clips: B tensors of uint8: [views, C, T, H, W], or [views * T, C, H, W] for a 2D model.
        at_once: Views per forward pass, so that memory does not grow with their number. Each view
            is a sample of its own: TSM shifts only within it.
        frames: T of a 2D model, else None.
        dtype: Autocast for the backbone; the head computes in float32, so that scores do not tie.

    Raises:
        EpicError: One view does not fit into the memory of the device. Where several do not, half
            as many are tried, and so on.
    """
    device = model.data_preprocessor.device
    # Clips of a worker lie in memory in another order than clips of this process, and some CPUs
    # then compute other last digits.
    views = torch.cat([clip.to(device, non_blocking=True) for clip in clips]).contiguous()
    views = views[:, None] if frames is None else views.unflatten(0, (-1, frames))
    fit = getattr(model, "views_that_fit", at_once)
    while len(views):
        fit = min(fit, at_once, len(views))
        batch = {"inputs": list(views[:fit]), "data_samples": None}
        try:
            with computing_in(dtype, device):
                inputs = model.data_preprocessor(batch, False)["inputs"]
                # The inputs are [views, 1, C, T, H, W], or [views, T, C, H, W] of a 2D model, whose
                # head needs T.
                features, head_arguments = model.extract_feat(inputs, test_mode=True)
            features = tree_map_only(torch.Tensor, torch.Tensor.float, features)
            scores = model.cls_head(features, **head_arguments)
        except torch.OutOfMemoryError as error:
            if fit == 1:
                raise EpicError(
                    f"one view of a segment does not fit into the memory of {device}: {error}; "
                    "set `predict: crops: 1`, take another GPU, or `predict: device: cpu`"
                ) from error
            fit = model.views_that_fit = fit // 2
        else:
            views = views[fit:]
            yield scores


@torch.inference_mode()
def pooled_features(
    model: Any,
    clips: Sequence[Tensor],
    at_once: int,
    frames: int | None,
    where: str,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Compute what a recognizer's backbone gives after pooling, before the head's first layer.

    This is the input of the first linear layer that the head applies: the pooled maps of a CNN
    (X3D-S: 432 values, before its `fc1`), both ways of SlowFast side by side, the class token or
    the mean of the tokens of a transformer. 2D models that classify each frame (TSM) give the mean
    over the clip's frames.

    Args:
        model: A recognizer of MMAction2, in evaluation mode.
        clips: As for `scores_of_views`, with a view each.
        at_once: As for `scores_of_views`.
        frames: As for `scores_of_views`.
        where: The model's file, for errors.
        dtype: As for `scores_of_views`.

    Returns:
        float32 [B, C] on the CPU.

    Raises:
        EpicError: The head has no linear layer behind a pooling.
    """
    layer_inputs: list[Tensor] = []
    layers = [module for module in model.cls_head.modules() if isinstance(module, nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: layer_inputs.append(inputs[0]))
        for layer in layers
    ]
    # A pass that ran out of memory in the head has left its inputs behind.
    hooks.append(model.cls_head.register_forward_pre_hook(lambda *_: layer_inputs.clear()))
    pooled = []
    try:
        for scores in scores_of_views(model, clips, at_once, frames, dtype):
            if not layer_inputs or layer_inputs[0].dim() != 2 or len(layer_inputs[0]) % len(scores):
                raise EpicError(
                    f"{where}: {type(model.cls_head).__name__} gives no features: no linear layer "
                    "in it gets pooled features [clips, C]; expected a head of the zoo (config/zoo)"
                )
            rows = layer_inputs[0].float().reshape(len(scores), -1, layer_inputs[0].shape[1])
            pooled.append(rows.mean(dim=1).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(pooled)


def open_model(
    trained: TrainedModel,
    path: str,
    device: str,
    at_once: int,
    modules: Sequence[str] = (),
    features: bool = False,
) -> tuple[Compute, list[dict]]:
    """Open the model of a model file.

    Args:
        trained: The content of the file.
        path: The model file.
        device: The torch device.
        at_once: Views per forward pass.
        modules: Names of the user's own modules, which are imported already.
        features: Whether rows are features, not scores.

    Returns:
        What computes the rows of a batch, and the model's test pipeline.

    Raises:
        EpicError: The model cannot be built from the file.
    """
    built, pipeline = open_foreign(trained, path, modules)
    model: Any = built.to(device)
    dtype = usable(dtype_of(trained.config), device)
    if lies_channels_last(dtype, device):
        lay_out_channels_last(model.backbone)
    frames = frames_of_2d(pipeline)
    outputs = trained.outputs

    def scores(clips: Sequence[torch.Tensor]) -> torch.Tensor:
        logits = torch.cat(list(scores_of_views(model, clips, at_once, frames, dtype)))
        if logits.shape[1] != sum(outputs.values()):
            raise EpicError(
                f"{path}: its model gives {logits.shape[1]} scores a segment, but its pair "
                f"table and heads are of {sum(outputs.values())}; the two are not of one training"
            )
        return mean_log_probs(logits, outputs, len(clips))

    def pooled(clips: Sequence[torch.Tensor]) -> torch.Tensor:
        return pooled_features(model, clips, at_once, frames, path, dtype)

    return (pooled if features else scores), pipeline


def bare(model: BaseModel | MMDistributedDataParallel) -> BaseModel:
    """The model without the wrapper for several processes."""
    return model.module if is_model_wrapper(model) else model
