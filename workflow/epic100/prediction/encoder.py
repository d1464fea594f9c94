"""What computes a row for each clip: the model of a model file, or an encoder of features.

An encoder is a folder of Hugging Face, or a class of the user's. A `Source` names the model or
encoder, with a digest of all that its rows depend on.
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

from epic100.base import disk
from epic100.base.errors import EpicError
from epic100.base.own_modules import use_modules
from epic100.model.hugging_face_folder import HuggingFaceFolder
from epic100.model.model_file import TrainedModel, digest, load_model, test_pipeline_of
from epic100.model.precision import computing_in, usable
from epic100.model.views import chosen_views

# The names of the encoder that is the model of a model file, and of one in a folder of Hugging
# Face. Any other name is that of a class of the user's.
MODEL, HF = "model", "hf"


@dataclass(frozen=True)
class Source:
    """What computes the rows of a prediction or of features.

    Attributes:
        encoder: "model", "hf", or `module:Class` for an encoder of the user's.
        path: The model file, or the folder of `hf`; "" for an encoder of the user's.
        digest: SHA-256 of the model file, or the encoder's fingerprint.
        pipeline: The pipeline steps that make the clips.
        load_from: The start weights of the training of a model file, if any; the name of another
            encoder.
        trained: The content of a model file; None for an encoder.
    """

    encoder: str
    path: str
    digest: str
    pipeline: Any
    load_from: str | None
    trained: TrainedModel | None = None

    @property
    def name(self) -> str:
        """The model file or the encoder, for messages."""
        return self.path if self.encoder == MODEL else self.encoder

    @property
    def outputs(self) -> int:
        """Number of all outputs of a model; 0 for an encoder, whose number is not known."""
        return sum(self.trained.outputs.values()) if self.trained else 0


def source_of(
    encoder: str, path: str | os.PathLike | None, modules: Mapping[str, Any] | None = None
) -> Source:
    """Describe the source of features that the config names.

    Args:
        encoder: The `encoder` of `FeatureSettings`.
        path: The model file, or the folder of `hf`; None for an encoder of the user's.
        modules: The config's `modules` section.

    Raises:
        EpicError: The model or the encoder cannot be used.
    """
    # Without a path, "model" and "hf" are taken for names of classes, and `encoder_class` rejects
    # them.
    if encoder == MODEL and path is not None:
        source = source_of_model(path, load_model(path))
        # This call is only made for its error: features need a model that takes a single clip.
        chosen_views(source.pipeline, clips=1, crops=1)
        return source
    if encoder == HF and path is not None:
        folder = HuggingFaceFolder(path)
        name = f"{HF} {folder.folder.resolve().name}"
        return Source(HF, os.fspath(path), folder.fingerprint, clip_pipeline(folder), name)
    named_class = encoder_class(encoder, modules)
    return Source(encoder, "", fingerprint(named_class), clip_pipeline(named_class), encoder)


def source_of_model(path: str | os.PathLike, trained: TrainedModel) -> Source:
    """Describe a model file, whose content has been read, as a source."""
    return Source(
        encoder=MODEL,
        path=os.fspath(path),
        digest=digest(path),
        pipeline=test_pipeline_of(trained.config, path),
        load_from=trained.trained_on.get("load_from"),
        trained=trained,
    )


class Encoder(Protocol):
    """The interface of a user's class that `features: encoder: module:Class` names.

    Attributes:
        clip_len: Frames of a clip.
        frame_interval: Distance from one frame of a clip to the next, in frames; None: the frames
            are spread evenly over the time of the clip.
        fps: The frame rate at which `frame_interval` counts; None: the file's own.
        size: Side of the square frames, in pixels.
        short_side: Optional: the length that the frame's shorter side is scaled to before the
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
            Floats: one vector per clip [B, C], or tokens [B, ..., C], whose mean is the vector.
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
    sampler = {"clip_len": encoder.clip_len, "num_clips": 1, "test_mode": True}
    if encoder.frame_interval is None:
        sampler["type"] = "UniformSample"
    else:
        rate = {"frame_interval": encoder.frame_interval, "target_fps": encoder.fps}
        sampler |= {"type": "SampleFrames", **rate}
    return [
        {"type": "OpenSegment"},
        sampler,
        {
            "type": "DecodeSegment",
            "short_side": getattr(encoder, "short_side", encoder.size),
            "crop": "centre",
            "size": encoder.size,
        },
        {"type": "FormatShape", "input_format": "NCTHW"},
        {"type": "PackActionInputs", "meta_keys": ("narration_id",)},
    ]


def open_encoder(source: Source, device: str) -> Callable[[Tensor], Tensor]:
    """Load an encoder onto a torch device.

    Args:
        source: The encoder, of a folder of Hugging Face or of the user's. The user's modules can
            be imported already.
        device: The device.
    """
    if source.encoder != HF:
        return encoder_class(source.encoder, modules=None)(device)
    # The import takes a second.
    from epic100.model.hugging_face import HuggingFaceBackbone, backbone_config

    backbone = HuggingFaceBackbone(**backbone_config(source.path, frozen=True)).eval().to(device)
    dtype = usable(torch.bfloat16, device)

    def tokens(clips: Tensor) -> Tensor:
        """Compute the tokens [B, N, C] of clips."""
        with computing_in(dtype, torch.device(device)):
            return backbone(clips.to(device).float())

    return tokens


@torch.inference_mode()
def encode_clips(
    encoder: Callable[[Tensor], Tensor], clips: Sequence[Tensor], batch_size: int, name: str
) -> Tensor:
    """Compute the features of clips with an encoder.

    Args:
        encoder: The encoder.
        clips: B tensors, uint8 [1, 3, T, H, W].
        batch_size: Clips per call of the encoder.
        name: The encoder's name, for errors.

    Returns:
        float32 [B, C] on the CPU.

    Raises:
        EpicError: The encoder returns another shape.
    """
    features = []
    for batch in torch.cat(list(clips)).split(batch_size):
        output = encoder(batch)
        shape = list(getattr(output, "shape", []))
        if len(shape) < 2 or shape[0] != len(batch):
            raise EpicError(
                f"{name}: gives {shape or type(output).__name__} for {len(batch)} clips; expected "
                f"features [{len(batch)}, C] or tokens [{len(batch)}, ..., C]"
            )
        tokens = output.float().reshape(len(batch), -1, shape[-1])
        features.append(tokens.mean(dim=1).cpu())
    return torch.cat(features)
