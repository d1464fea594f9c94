"""An encoder of Hugging Face in a local folder, as a source of features and tokens."""

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.model.hugging_face_folder import IMAGE_MODELS, HuggingFaceFolder, pixels
from epic100.model.precision import computing_in, usable

HF = "hf"


class HuggingFaceEncoder(HuggingFaceFolder):
    """A Hugging Face model in a local folder, used like a class that `encoder.Encoder` describes.

    It has the same attributes, and a call with a device gives the encoder.

    Args:
        folder: The folder with `config.json`, the processor's file and `*.safetensors`.

    Raises:
        EpicError: The folder holds no such model, or its files contradict each other.
    """

    frame_interval, fps = None, None  # The frames are spread over the whole segment.

    def __init__(self, folder: str | os.PathLike):
        """Read the folder, and compute the grid of its tokens."""
        super().__init__(folder)
        # A class token and registers, which have no place, may come before the tokens of the grid.
        self.counts_without_place = (0, 1 + self.config.num_register_tokens)
        tubelet = self.config.tubelet_size
        # A token covers a tubelet: a number of frames, or (frames, height, width).
        depth, patch = (
            (tubelet, self.config.patch_size) if isinstance(tubelet, int) else tubelet[:2]
        )
        side = self.size // (patch or self.size)
        self.grid = (self.clip_len // depth, side, side)

    @property
    def license(self) -> str:
        """License of the model, from the head of the folder's README.md: `license: mit`."""
        card = self.folder / "README.md"
        text = read_text(card) if card.is_file() else ""
        first, *lines = text.splitlines() or [""]
        # The head is between two lines `---`, the first of which is the first line of the file.
        head = lines[: lines.index("---")] if first == "---" and "---" in lines else []
        licenses = [
            line.removeprefix("license:").strip() for line in head if line.startswith("license:")
        ]
        is_plain = licenses and re.fullmatch(r"[\w .+-]{1,60}", licenses[0])
        return licenses[0] if is_plain else "not stated in its README.md"

    def __call__(self, device: str) -> Callable[[Tensor], Tensor]:
        """Load the weights onto a torch device.

        Raises:
            EpicError: transformers is not installed, or the model cannot be built.
        """
        processor, model = self.open()
        return partial(self._compute_tokens, processor, model.to(device))

    def _compute_tokens(self, processor: Any, model: Any, clips: Tensor) -> Tensor:
        """Compute the tokens of clips by place in time and picture.

        Args:
            processor: The processor of the model.
            model: The model.
            clips: uint8 [B, 3, frames, size, size].

        Returns:
            float32 [B, time, rows, columns, C].

        Raises:
            EpicError: The model gives another number of tokens.
        """
        with computing_in(usable(torch.bfloat16, model.device.type), model.device):
            # The predictor of V-JEPA 2 guesses hidden tokens, which only its pretraining needs.
            options = {"skip_predictor": True} if self.model_type == "vjepa2" else {}
            tokens = model(**pixels(processor, clips.to(model.device)), **options)
        tokens = tokens.last_hidden_state.float()
        time, rows, columns = self.grid
        # For an encoder of pictures, each frame is a sample of its own, [B * time, tokens, C].
        is_image_encoder = self.model_type in IMAGE_MODELS
        frames_of_sample = 1 if is_image_encoder else time
        # The class token and the registers come first, and have no place in the picture. The model
        # must give either all of them or none.
        leading = tokens.shape[1] - frames_of_sample * rows * columns
        if leading not in self.counts_without_place:
            raise EpicError(
                f"{self.folder}: gives {tokens.shape[1]} tokens; expected {time} x {rows} x "
                f"{columns}, and a class token at most"
            )
        placed = tokens[:, leading:]
        if is_image_encoder:
            return placed.unflatten(1, (rows, columns)).unflatten(0, (-1, time))
        if self.model_type == "timesformer":  # Its tokens are in the order (place, time).
            return placed.unflatten(1, (rows, columns, time)).permute(0, 3, 1, 2, 4)
        return placed.unflatten(1, (time, rows, columns))
