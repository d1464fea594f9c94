"""Encoders, which compute features: a recognizer without its head, or a class of the user's.

A `Source` names the encoder of features, with a digest of all that they depend on.
"""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from epic100.base import disk
from epic100.base.errors import EpicError
from epic100.base.own_modules import use_modules
from epic100.model.model_file import digest, load_model
from epic100.model.views import one_view_pipeline
from epic100.prediction.hugging_face import HF, HuggingFaceEncoder

# This is the name of the encoder that is the recognizer of a model file.
MODEL = "model"


class Encoder(Protocol):
    """The interface of a user's class that `features: encoder: module:Class` names.

    Attributes:
        clip_len: Frames of a clip.
        frame_interval: Distance from one frame of a clip to the next, in frames; None: the frames
            are spread evenly over the time of the clip.
        fps: The frame rate at which `frame_interval` counts; None: the file's own.
        size: Side of the square pictures, in pixels.
        short_side: Optional: the length that the picture's shorter side is scaled to before the
            centre crop, in pixels; `size` if absent.
        files: Optional: paths of the weights. Features are made again when the content of these
            files, or of the module of the class, changes.
    """

    clip_len: int
    frame_interval: int | None
    fps: float | None
    size: int

    def __init__(self, device: str) -> None:
        """Load the weights onto a torch device."""

    def __call__(self, clips: Tensor) -> Tensor:
        """Compute a vector of features, or tokens, for each clip.

        Args:
            clips: uint8 [B, 3, clip_len, size, size], RGB, on the CPU.

        Returns:
            Floats in one of three shapes: one vector per clip [B, C]; with `features: grid:`,
            tokens in order of time [B, G, C]; or tokens by place [B, time, rows, columns, C].
        """
        ...


def encoder_class(name: str, modules: Mapping[str, Any] | None) -> type[Encoder]:
    """Import the encoder that the config names.

    Args:
        name: `module:Class`.
        modules: The config's `modules` section. The module may be in its folder, too.

    Raises:
        EpicError: There is no such class, or it has not all attributes of `Encoder`.
    """
    use_modules(modules)
    module_name, _, class_name = name.partition(":")
    try:
        encoder = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # The import runs the user's code, so any error is possible.
        raise EpicError(
            f"config: `features: encoder:` is {name}, which cannot be imported "
            f"({type(error).__name__}: {error}); expected model, hf, or module:Class of an "
            "installed module or one in `modules: folder:`"
        ) from error
    missing = [
        key for key in ("clip_len", "frame_interval", "fps", "size") if not hasattr(encoder, key)
    ]
    if missing:
        raise EpicError(
            f"config: `features: encoder:` {name} has no {', '.join(missing)}; expected the "
            "attributes of epic100.prediction.encoder.Encoder"
        )
    return encoder


def fingerprint(encoder: Any) -> str:
    """Return a digest of all that a user's encoder depends on: its module, files and clips."""
    module_path = sys.modules[encoder.__module__].__file__
    digests = [
        disk.digest(path, "sha256").value for path in (module_path, *getattr(encoder, "files", ()))
    ]
    return hashlib.sha256(repr((digests, clip_pipeline(encoder))).encode()).hexdigest()


def clip_pipeline(encoder: Any) -> list[dict[str, Any]]:
    """Return the pipeline that makes the clips of an encoder, with a centre crop.

    Args:
        encoder: A class as `Encoder` describes it, or another object with these attributes.
    """
    dense = {"frame_interval": encoder.frame_interval, "target_fps": encoder.fps}
    is_spread = encoder.frame_interval is None
    return [
        {"type": "OpenSegment"},
        {
            "type": "UniformSample" if is_spread else "SampleFrames",
            "clip_len": encoder.clip_len,
            "num_clips": 1,
            "test_mode": True,
            **({} if is_spread else dense),
        },
        {
            "type": "DecodeSegment",
            "short_side": getattr(encoder, "short_side", encoder.size),
            "crop": "centre",
            "size": encoder.size,
        },
        {"type": "FormatShape", "input_format": "NCTHW"},
        {"type": "PackActionInputs", "meta_keys": ("narration_id",)},
    ]


@dataclass(frozen=True)
class Source:
    """The encoder that computes features, with all that they depend on.

    Attributes:
        encoder: "model", "hf", or `module:Class` for an encoder of the user's.
        path: The model file, or the folder of `hf`; "" for an encoder of the user's.
        digest: SHA-256 of the model file, or the encoder's fingerprint.
        pipeline: The pipeline steps that make the clips.
        load_from: The start weights of the training of a model file, if any; the name of another
            encoder.
    """

    encoder: str
    path: str
    digest: str
    pipeline: Any
    load_from: str | None


def source_of(
    encoder: str, model: str | os.PathLike | None, modules: Mapping[str, Any] | None = None
) -> Source:
    """Describe the encoder that the config names as a `Source`.

    Args:
        encoder: The `encoder` of `FeatureSettings`.
        model: The model file, or the folder of `hf`; None for an encoder of the user's.
        modules: The config's `modules` section.

    Raises:
        EpicError: The model or the encoder cannot be used.
    """
    if encoder == HF and model is not None:
        folder = HuggingFaceEncoder(model)
        return Source(
            encoder=HF,
            path=os.fspath(model),
            digest=folder.fingerprint,
            pipeline=clip_pipeline(folder),
            load_from=f"{HF} {folder.folder.resolve().name}",
        )
    # Without a path, "model" and "hf" are taken for names of classes, and `encoder_class` refuses
    # them.
    if encoder != MODEL or model is None:
        named_class = encoder_class(encoder, modules)
        return Source(
            encoder=encoder,
            path="",
            digest=fingerprint(named_class),
            pipeline=clip_pipeline(named_class),
            load_from=encoder,
        )
    trained = load_model(model)
    return Source(
        encoder=MODEL,
        path=os.fspath(model),
        digest=digest(model),
        pipeline=one_view_pipeline(trained.config, model),
        load_from=trained.trained_on.get("load_from"),
    )


@torch.inference_mode()
def encode_clips(
    encoder: Callable[[Tensor], Tensor],
    clips: Sequence[Tensor],
    batch_size: int,
    name: str,
    grid: Sequence[int] | None = None,
) -> Tensor:
    """Compute the features of clips with an encoder that is no recognizer.

    Args:
        encoder: The encoder.
        clips: B tensors, uint8 [1, 3, T, H, W].
        batch_size: Clips per call of the encoder.
        name: The encoder's name, for errors.
        grid: The grid to which `pooled_tokens` pools the result later; None: one vector per clip.

    Returns:
        float32 [B, C], [B, G, C] or [B, time, rows, columns, C] on the CPU.

    Raises:
        EpicError: The encoder returns another shape.
    """
    # Vectors [B, C] are kept as they are, and `pooled_tokens` averages tokens by place [B, time,
    # rows, columns, C]. Tokens [B, G, C] have no place to average over, so they need a grid.
    allowed_ndims = (2, 3, 5) if grid else (2, 5)
    features = []
    for batch in torch.cat(list(clips)).split(batch_size):
        output = encoder(batch)
        shape = list(getattr(output, "shape", []))
        if len(shape) not in allowed_ndims or shape[0] != len(batch):
            raise EpicError(
                f"{name}: gives {shape or type(output).__name__} for {len(batch)} clips; expected "
                f"features [{len(batch)}, C]; tokens [{len(batch)}, G, C] are for a probe alone"
            )
        features.append(output.float().cpu())
    return torch.cat(features)


def pooled_tokens(rows: Tensor, grid: Sequence[int] | None) -> Tensor:
    """Pool an encoder's output for clips to a grid of tokens, or to one vector per clip.

    Args:
        rows: Floats [B, C], [B, G, C] or by place [B, time, rows, columns, C].
        grid: The highest number of tokens in time, and in rows and columns each; None: one vector
            for each clip.

    Returns:
        float32 [B, C] without a grid, else float16 [B, G, C], in order of time, row and column.
    """
    if rows.dim() == 5:
        max_time, max_side = (1, 1) if grid is None else grid
        time, height, width = rows.shape[1:4]
        sides = (min(max_time, time), min(max_side, height), min(max_side, width))
        pooled = functional.adaptive_avg_pool3d(rows.permute(0, 4, 1, 2, 3), sides)
        rows = pooled.flatten(2).transpose(1, 2)
        return rows[:, 0] if grid is None else rows.half()
    return rows if grid is None else rows.reshape(len(rows), -1, rows.shape[-1]).half()
