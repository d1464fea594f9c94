"""Encoders of Hugging Face's transformers, each a local folder: config, processor, safetensors.

Nothing is downloaded, no code of the folder runs, and no pickle is read. The folder's own files
determine the clips: `config.json` the number of frames, and the processor's file the size of
frames. Scale, mean and std are left to transformers' own processor.
"""

import hashlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from torch import Tensor

from epic100.base.disk import WatchedFile, digest, read_json, read_text
from epic100.base.errors import EpicError

PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
SHARDS = "model.safetensors.index.json"
# The tokens do not depend on weights with these prefixes, so a folder need not have them.
UNUSED = ("pooler.", "predictor.")
# For each `model_type` of an image encoder: its class in transformers, and the `image_size` and
# `patch_size` if `config.json` states none. If a model also has an encoder of texts, only its image
# encoder is read.
IMAGE_MODELS = {
    "clip": ("CLIPVisionModel", 224, 32),
    "clip_vision_model": ("CLIPVisionModel", 224, 32),
    "siglip": ("SiglipVisionModel", 224, 16),
    "siglip_vision_model": ("SiglipVisionModel", 224, 16),
    "dinov2": ("Dinov2Model", 224, 14),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", 224, 16),
    "dinov3_vit": ("DINOv3ViTModel", 224, 16),
}
# These encoders take images of any size that is a multiple of the patch.
ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")
# Number of frames of a clip for an image encoder.
FRAMES = 8


def _side_of_square(value: Any) -> Any:
    """Read the side of a square: 224, [224, 224] and {"height": 224, "width": 224} give 224.

    Any other value is returned as it is, so that pydantic rejects it with an error that names the
    field.
    """
    values = list(value.values()) if isinstance(value, dict) else value
    sides = values if isinstance(values, list) else [values]
    # The sides are compared as text, since an untrusted file may hold values that cannot be in a
    # set.
    return sides[0] if len(set(map(str, sides))) == 1 else value


Number = Annotated[int, Field(gt=0, lt=10_000)]
Side = Annotated[Number, BeforeValidator(_side_of_square)]


class ModelConfig(BaseModel):
    """The keys of `config.json` that are used.

    The three keys of type None must be absent, since they name code, or packages with code.
    """

    model_type: Literal["timesformer", "videomae", "vivit", "vjepa2", *IMAGE_MODELS]  # type: ignore[valid-type]
    auto_map: None = None
    attn_implementation: None = None
    quantization_config: None = None
    frames: Number = Field(validation_alias=AliasChoices("num_frames", "frames_per_clip"))
    size: Side = Field(validation_alias=AliasChoices("image_size", "crop_size"))
    patch_size: Side = 0

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_images(cls, content: Any) -> Any:
        """Add transformers' defaults to the keys of an image encoder."""
        if not isinstance(content, dict) or str(content.get("model_type")) not in IMAGE_MODELS:
            return content
        _, image_size, patch_size = IMAGE_MODELS[content["model_type"]]
        values = {"num_frames": FRAMES, "image_size": image_size, "patch_size": patch_size}
        # `vision_config` overrides the defaults, and the top of the file overrides both.
        if isinstance(content.get("vision_config"), dict):
            values |= content["vision_config"]
        return values | content


class _Processor(BaseModel):
    """The keys of the processor's file that are used."""

    size: Side
    crop_size: Side | None = None
    do_resize: Literal[True] = True
    do_center_crop: Literal[True] | None = True


class HuggingFaceFolder:
    """A Hugging Face model in a local folder.

    Args:
        folder: The folder with `config.json`, the processor's file and `*.safetensors`.

    Attributes:
        model_type: The `model_type` of `config.json`.
        clip_len: Frames of a clip.
        short_side: What the shorter side of a frame is scaled to, in pixels.
        size: Side of the square crop, in pixels.
        frame_interval: None, since the frames are spread evenly over the time of a clip.

    Raises:
        EpicError: The folder holds no such model, or its files contradict each other.
    """

    frame_interval = None

    def __init__(self, folder: str | os.PathLike):
        """Read the config and the processor of a folder, and check that they match."""
        self.folder = Path(folder)
        processors = [name for name in PROCESSORS if (self.folder / name).is_file()]
        self._processor_file = processors[0] if processors else PROCESSORS[0]
        self.config = config = self._read("config.json", ModelConfig)
        processor = self._read(self._processor_file, _Processor)
        self.model_type = config.model_type
        self.clip_len = config.frames
        self.short_side = processor.size
        # The size is that of the config. But some encoders take any size, and see what their
        # processor crops.
        self.size = config.size
        crop = processor.crop_size or processor.size
        if self.model_type in ANY_SIZE and crop % config.patch_size == 0:
            self.size = crop
        self.weights = sorted(self.folder.glob("*.safetensors"))
        if not self.weights:
            raise EpicError(
                f"{self.folder}: has no *.safetensors, and no other form of weights is read; save "
                "the model with `save_pretrained`, or download its model.safetensors"
            )
        if crop != self.size or crop > self.short_side:
            raise EpicError(
                f"{self.folder / self._processor_file}: scales to {self.short_side} and crops to "
                f"{crop} pixels, but the model of config.json sees {self.size}; expected one size; "
                "take both files from the same model"
            )

    def _read(self, name: str, content_type: type[BaseModel]) -> Any:
        """Read a JSON file of the folder; raise EpicError if it is missing or has another form."""
        try:
            return content_type.model_validate_json(read_text(self.folder / name))
        except ValidationError as error:
            first_error = error.errors()[0]
            key = ".".join(map(str, first_error["loc"])) or "content"
            why = f"its {key} is {str(first_error['input'])[:60]}: {first_error['msg']}"
        except (OSError, ValueError, EpicError) as error:
            why = f"cannot be read ({error})"
        raise EpicError(
            f"{self.folder / name}: {why}; expected the file of a model of transformers that "
            "docs/features.md lists, without its own code"
        )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that the features follow from: the files, and how clips are sampled."""
        files = [self.folder / "config.json", self.folder / self._processor_file, *self.weights]
        lines = [f"{path.name} {digest(path, 'sha256').value}" for path in files]
        frames = f"{FRAMES} pictures" if self.model_type in IMAGE_MODELS else "frames"
        return hashlib.sha256("\n".join([f"{frames} spread evenly", *lines]).encode()).hexdigest()

    def open(self) -> tuple[Any, Any]:
        """Open the processor and the model, which is in float32 on the CPU, for evaluation.

        Raises:
            EpicError: transformers is not installed, or the model cannot be built.
        """
        if importlib.util.find_spec("transformers") is None:
            raise EpicError(
                f"{self.folder}: a model of transformers, which is not installed; install the "
                "extra: `make hf`, or `pip install epic100[hf]` (docs/features.md)"
            )
        # The import of transformers reads these variables, so it comes after them.
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
        import transformers

        transformers.utils.logging.disable_progress_bar()
        model_class, processor_class = transformers.AutoModel, transformers.AutoVideoProcessor
        if self.model_type in IMAGE_MODELS:
            model_class = getattr(transformers, IMAGE_MODELS[self.model_type][0])
            processor_class = transformers.AutoImageProcessor
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            with self._used_files() as folder:
                model, loading_info = model_class.from_pretrained(
                    folder,
                    use_safetensors=True,
                    dtype=torch.float32,
                    output_loading_info=True,
                    **options,
                )
                processor = processor_class.from_pretrained(folder, **options)
            missing = [name for name in loading_info["missing_keys"] if not name.startswith(UNUSED)]
            if missing:
                raise ValueError(f"its files lack {len(missing)} weights, such as {min(missing)}")
        except EpicError:
            raise
        except Exception as error:  # The package raises many types of errors for wrong files.
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise EpicError(
                f"{self.folder}: its model cannot be built ({why}); expected config and weights of "
                "one complete model; download them again"
            ) from error
        return processor, model.eval()

    @contextmanager
    def _used_files(self) -> Iterator[str]:
        """Yield the path of a temporary folder with only the files that are used.

        transformers opens any file that one of its files names, so it must not find others.

        Raises:
            EpicError: One of the files is no plain file.
            ValueError: The list of shards names a file elsewhere.
        """
        with tempfile.TemporaryDirectory(prefix="epic100-") as used_folder:
            for name in ("config.json", *PROCESSORS, SHARDS):
                if os.path.lexists(self.folder / name):
                    text = read_text(self.folder / name)
                    Path(used_folder, name).write_text(text, encoding="utf-8")
            for path in self.weights:
                # `WatchedFile` raises an error for a pipe or a device.
                WatchedFile(path).close()
                Path(used_folder, path.name).symlink_to(path.resolve())
            if Path(used_folder, SHARDS).exists():
                shards = set(read_json(Path(used_folder, SHARDS))["weight_map"].values())
                if elsewhere := shards.difference(os.listdir(used_folder)):
                    raise ValueError(
                        f"{SHARDS} names {min(elsewhere)[:80]!r}, which is not in this folder"
                    )
            yield used_folder


def pixels(processor: Any, clips: Tensor) -> dict[str, Tensor]:
    """Make the input of a model from clips that are resized and cropped already.

    Args:
        processor: The processor of transformers, which scales and normalises the values.
        clips: uint8 [B, 3, T, H, W].

    Returns:
        The input by the name of the model's argument: float32 [B, T, 3, H, W], or [B * T, 3, H, W]
        for an image encoder.
    """
    # Only a processor of videos has this method. For images, each frame is a sample.
    takes_videos = hasattr(processor, "sample_frames")
    samples = clips.transpose(1, 2) if takes_videos else clips.transpose(1, 2).flatten(0, 1)
    options = {"do_sample_frames": False} if takes_videos else {}
    return dict(
        processor(
            list(samples), do_resize=False, do_center_crop=False, return_tensors="pt", **options
        )
    )


def license_of(folder: str | os.PathLike) -> str:
    """Return the license of a model, from the head of its folder's README.md: `license: mit`."""
    card = Path(folder, "README.md")
    text = read_text(card) if card.is_file() else ""
    # The head is between two lines `---`, the first of which is the first line of the file.
    head = re.match(r"(?ms)---\n(.*?)^---$", "\n".join(text.splitlines()))
    found = re.search(r"(?m)^license: *([\w .+-]{1,60}?) *$", head[1]) if head else None
    return found[1] if found else "not stated in its README.md"
