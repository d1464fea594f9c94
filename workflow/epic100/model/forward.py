"""The forward pass of a recognizer in predictions and features.

Only this module and `model.precision` decide on the precision, the memory layout of the weights,
and the number of views that are computed at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel
from epic100.model.precision import computing_in, dtype_of, lies_channels_last, usable
from epic100.model.registered import lay_out_channels_last
from epic100.model.untrusted import open_untrusted
from epic100.model.views import frames_of_2d, mean_log_probs

# A function of this type takes the clips of B segments. It returns a row of scores or of features
# for each segment, [B, columns].
Compute = Callable[[Sequence[Tensor]], Tensor]


@torch.inference_mode()
def scores_of_views(
    model: Any,
    clips: Sequence[torch.Tensor],
    max_batch_size: int,
    frames: int | None,
    dtype: torch.dtype | None = None,
) -> Iterator[torch.Tensor]:
    """Compute a model's scores of all views of some segments, and yield [views, outputs] by batch.

    Args:
        model: A recognizer of MMAction2, in evaluation mode.
        clips: B tensors of uint8: [views, C, T, H, W], or [views * T, C, H, W] for a 2D model.
        max_batch_size: Views per forward pass, so that memory does not grow with their number. Each
            view is a separate sample: TSM shifts only within it.
        frames: Frames T of a view for a 2D model, else None.
        dtype: The type that the backbone computes in; None is the type of the weights. The head
            computes in float32, so that scores do not tie.

    Raises:
        EpicError: One view does not fit into the memory of the device. If several views do not
            fit, half as many are tried, and so on.
    """
    device = model.data_preprocessor.device
    # The axes of clips from a worker have another order in memory than the axes of clips from this
    # process. `contiguous` makes them equal, since some CPUs would compute other last digits.
    views = torch.cat([clip.to(device, non_blocking=True) for clip in clips]).contiguous()
    # Now [all views, 1, C, T, H, W], or [all views, T, C, H, W] for a 2D model.
    views = views[:, None] if frames is None else views.unflatten(0, (-1, frames))
    # The model stores how many views fitted into memory, so later calls do not try too many again.
    batch_size = getattr(model, "views_that_fit", max_batch_size)
    while len(views):
        batch_size = min(batch_size, max_batch_size, len(views))
        batch = {"inputs": list(views[:batch_size]), "data_samples": None}
        try:
            with computing_in(dtype, device):
                inputs = model.data_preprocessor(batch, False)["inputs"]
                # `head_arguments` has T, which the head of a 2D model needs.
                features, head_arguments = model.extract_feat(inputs, test_mode=True)
            features = tree_map_only(torch.Tensor, torch.Tensor.float, features)
            scores = model.cls_head(features, **head_arguments)
        except torch.OutOfMemoryError as error:
            if batch_size == 1:
                raise EpicError(
                    f"one view of a segment does not fit into the memory of {device}: {error}; "
                    "set `predict: crops: 1`, take another GPU, or `predict: device: cpu`"
                ) from error
            batch_size = model.views_that_fit = batch_size // 2
        else:
            views = views[batch_size:]
            yield scores


@torch.inference_mode()
def pooled_features(
    model: Any,
    clips: Sequence[Tensor],
    max_batch_size: int,
    frames: int | None,
    where: str,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Compute one vector of features for each clip: the backbone's output after pooling.

    The vector is the input of the first linear layer that the head applies. For a CNN, this is the
    pooled feature map (X3D-S: 432 values, before its `fc1`); for SlowFast, the maps of both
    pathways side by side; for a transformer, the class token or the mean of the tokens. For a 2D
    model that classifies each frame (TSM), the vectors of a clip's frames are averaged.

    Args:
        model: A recognizer of MMAction2, in evaluation mode.
        clips: B tensors of uint8 with one view each: [1, C, T, H, W], or [T, C, H, W] for a 2D
            model.
        max_batch_size: Clips per forward pass, at most.
        frames: Frames T of a clip for a 2D model, else None.
        where: The model's file, for errors.
        dtype: The type that the backbone computes in; None is the type of the weights.

    Returns:
        float32 [B, C] on the CPU.

    Raises:
        EpicError: The head has no linear layer behind a pooling.
    """
    # Hooks collect the inputs of the linear layers. The inputs of the last pass are removed before
    # each pass, since a pass that ran out of memory in the head leaves some.
    layer_inputs: list[Tensor] = []
    hooks = [model.cls_head.register_forward_pre_hook(lambda *_: layer_inputs.clear())]
    for module in model.cls_head.modules():
        if isinstance(module, nn.Linear):
            collect = module.register_forward_pre_hook(
                lambda _, inputs: layer_inputs.append(inputs[0])
            )
            hooks.append(collect)

    pooled = []
    try:
        for scores in scores_of_views(model, clips, max_batch_size, frames, dtype):
            # The head of a 2D model gets a row for each frame, so the rows are a multiple of the
            # clips.
            if not layer_inputs or layer_inputs[0].dim() != 2 or len(layer_inputs[0]) % len(scores):
                raise EpicError(
                    f"{where}: {type(model.cls_head).__name__} gives no features: no linear layer "
                    "in it gets pooled features [clips, C]; expected a head of the zoo (config/zoo)"
                )
            rows_of_clips = layer_inputs[0].float().unflatten(0, (len(scores), -1))
            pooled.append(rows_of_clips.mean(dim=1).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(pooled)


def open_model(
    trained: TrainedModel,
    path: str,
    device: str,
    max_batch_size: int,
    modules: Sequence[str] = (),
    features: bool = False,
) -> tuple[Compute, list[dict]]:
    """Build the model of a model file on a device, ready to compute scores or features of clips.

    Args:
        trained: The content of the model file.
        path: The model file.
        device: The torch device.
        max_batch_size: Views per forward pass.
        modules: Names of the user's own modules, which are imported already.
        features: Whether to compute features instead of scores.

    Returns:
        A function that computes the rows of a batch of segments, and the model's test pipeline.

    Raises:
        EpicError: The model cannot be built from the file.
    """
    built, pipeline = open_untrusted(trained, path, modules)
    model: Any = built.to(device)
    dtype = usable(dtype_of(trained.config), device)
    if lies_channels_last(dtype, device):
        lay_out_channels_last(model.backbone)
    frames = frames_of_2d(pipeline)
    outputs = trained.outputs

    def scores(clips: Sequence[torch.Tensor]) -> torch.Tensor:
        """Compute the log-probabilities of segments from their clips."""
        logits = torch.cat(list(scores_of_views(model, clips, max_batch_size, frames, dtype)))
        expected = sum(outputs.values())
        if logits.shape[1] != expected:
            raise EpicError(
                f"{path}: its model gives {logits.shape[1]} scores a segment, but its pair "
                f"table and heads are of {expected}; the two are not of one training"
            )
        return mean_log_probs(logits, outputs, len(clips))

    def pooled(clips: Sequence[torch.Tensor]) -> torch.Tensor:
        """Compute the features of segments from their clips."""
        return pooled_features(model, clips, max_batch_size, frames, path, dtype)

    return (pooled if features else scores), pipeline
