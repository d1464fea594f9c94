"""A video or image encoder of Hugging Face as a backbone of MMAction2, and pooling of its tokens.

The encoder is a local folder (`hugging_face_folder`). A frozen one is never saved: checkpoints and
model files have only a digest of its folder, from which it is opened again.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from mmaction.registry import MODELS
from torch import Tensor, nn

from epic100.base.errors import EpicError
from epic100.model.hugging_face_folder import (
    IMAGE_MODELS,
    HuggingFaceFolder,
    ModelConfig,
    pixels,
)
from epic100.model.model_file import TrainedModel

BACKBONE = "HuggingFaceBackbone"
# The tokens do not depend on these parts of an encoder, so they are neither trained nor saved.
UNUSED_PARTS = ("pooler", "predictor", "head")
# A model is built again without these keys of its config: they name classes, files and versions.
UNUSED_KEYS = ("architectures", "dtype", "transformers_version")


def backbone_config(path: str | os.PathLike, frozen: bool) -> dict[str, Any]:
    """Make the arguments of `HuggingFaceBackbone` from the files of a folder.

    Args:
        path: The folder.
        frozen: Whether its weights stay as they are.

    Raises:
        EpicError: The folder holds no encoder that works.
    """
    folder = HuggingFaceFolder(path)
    processor, encoder = folder.open()
    clip = torch.zeros(1, 3, folder.clip_len, folder.size, folder.size, dtype=torch.uint8)
    # A processor rescales and normalises each colour linearly. So its results for black and for
    # white say all, by whatever numbers it comes to them.
    black, white = (
        next(iter(pixels(processor, grey).values()))[..., 0, 0].reshape(-1, 3)[0].tolist()
        for grey in (clip, clip + 255)
    )
    config = {
        key: value
        for key, value in encoder.config.to_dict().items()
        if key not in UNUSED_KEYS and key[0] != "_" and not isinstance(value, dict)
    }
    return {
        "encoder_folder": os.path.abspath(path),
        "fingerprint": folder.fingerprint,
        "channels": encoder.config.hidden_size,
        "black": black,
        "white": white,
        "config": config,
        "frozen": frozen,
    }


@MODELS.register_module()
class HuggingFaceBackbone(nn.Module):
    """A video or image encoder of Hugging Face, which turns clips into tokens.

    Args:
        encoder_folder: The folder of the encoder. A fine-tuned one needs it at the start of its
            training alone.
        fingerprint: Digest of the folder.
        channels: Channels C of a token.
        black: What the folder's processor makes of black: values of red, green and blue.
        white: Likewise of white.
        config: The config of the encoder in transformers.
        frozen: Whether the weights stay as they are. They have no gradients, and are not saved.

    Raises:
        EpicError: The folder of a frozen encoder has moved or changed.
    """

    black: Tensor
    grey_level: Tensor
    digest: Tensor

    def __init__(
        self,
        encoder_folder: str,
        fingerprint: str,
        channels: int,
        black: Sequence[float],
        white: Sequence[float],
        config: Mapping[str, Any],
        frozen: bool = True,
    ) -> None:
        """Open a frozen encoder; build another one, whose weights come later."""
        super().__init__()
        self.folder, self.fingerprint = encoder_folder, fingerprint
        self.channels, self.frozen = channels, frozen
        of_black, of_white = torch.tensor([black, white])[..., None, None, None]
        self.register_buffer("black", of_black, persistent=False)
        self.register_buffer("grey_level", (of_white - of_black) / 255, persistent=False)
        model_type = ModelConfig.model_validate(config).model_type
        self.sees_single_frames = model_type in IMAGE_MODELS
        # The predictor of V-JEPA 2 guesses hidden tokens, which only its pretraining needs.
        self.options = {"skip_predictor": True} if model_type == "vjepa2" else {}
        # Modules that are attributes are saved and trained. One in a list is neither.
        self.unsaved: list[nn.Module] = []
        if frozen:
            self.unsaved.append(self._encoder_of_folder().requires_grad_(False))
            # These are integers of a type in which processes can take a mean.
            self.register_buffer("digest", torch.tensor(list(bytes.fromhex(fingerprint))))
        else:
            import transformers

            built_config = transformers.AutoConfig.for_model(**config)
            self.encoder = _used_part(transformers.AutoModel.from_config(built_config))

    def init_weights(self) -> None:
        """Give an encoder that is fine-tuned its first weights; MMEngine calls this at the start.

        Raises:
            EpicError: The folder has moved or changed.
        """
        if not self.frozen:
            self.encoder.load_state_dict(self._encoder_of_folder().state_dict())

    def forward(self, clips: Tensor) -> Tensor:
        """Compute the tokens of clips.

        Args:
            clips: RGB from 0 to 255, float32 [B, 3, T, H, W].

        Returns:
            All tokens of a clip in order of time, [B, N, C]. The tokens of a frame that is seen
            alone begin with its class token, if it has one.
        """
        frames = (self.black + self.grey_level * clips).transpose(1, 2)
        if self.sees_single_frames:
            frames = frames.flatten(0, 1)
        encoder = self.unsaved[0] if self.frozen else self.encoder
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = encoder(frames, **self.options).last_hidden_state
        # The tokens of an image encoder are [B * T, tokens of a frame, C].
        return tokens.reshape(len(clips), -1, tokens.shape[2])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move a frozen encoder to another device too, when torch moves the backbone."""
        for encoder in self.unsaved:
            encoder._apply(fn)
        return super()._apply(fn, recurse)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *others: Any
    ) -> None:
        """Load the digest of a frozen encoder, which must be the folder's."""
        digest = state_dict.get(f"{prefix}digest")
        if self.frozen and digest is not None and digest.tolist() != self.digest.tolist():
            raise self._error(bytes(digest.tolist()).hex())
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _encoder_of_folder(self) -> nn.Module:
        """Open the encoder of the folder, for evaluation; raise EpicError if it is another one."""
        folder = HuggingFaceFolder(self.folder) if Path(self.folder).is_dir() else None
        if folder is None or folder.fingerprint != self.fingerprint:
            raise self._error(self.fingerprint)
        _, encoder = folder.open()
        return _used_part(encoder)

    def _error(self, fingerprint: str) -> EpicError:
        """Make the error of a folder that has not the encoder with this fingerprint."""
        return EpicError(
            f"{self.folder}: moved or changed: expected the encoder that the model learned on, "
            f"whose fingerprint is {fingerprint[:12]}; name its folder (`train: encoder:`, and "
            "`predict: encoder:` for a prediction), or train again"
        )


def _used_part(encoder: nn.Module) -> nn.Module:
    """Remove the parts of an encoder on which its tokens do not depend, and return it."""
    for name in UNUSED_PARTS:
        if hasattr(encoder, name):
            setattr(encoder, name, nn.Identity())
    return encoder


def with_encoder(trained: TrainedModel, folder: str | None) -> TrainedModel:
    """Return a model whose encoder is read from another folder; without one, the model itself.

    Args:
        trained: The content of a model file.
        folder: The folder, which must have the same files.
    """
    model: Any = trained.config.get("model")
    backbone = model.get("backbone") if isinstance(model, dict) else None
    if folder is None or not isinstance(backbone, dict) or backbone.get("type") != BACKBONE:
        return trained
    moved = {**model, "backbone": {**backbone, "encoder_folder": os.path.abspath(folder)}}
    return replace(trained, config={**trained.config, "model": moved})


@MODELS.register_module()
class MeanOfTokens(nn.Module):
    """Takes the mean of all tokens."""

    def forward(self, tokens: Tensor, data_samples: Any = None) -> tuple[Tensor, dict]:
        """Pool tokens [B, N, C] to [B, C]; a neck of MMAction2 also returns losses, here none."""
        return tokens.mean(dim=1), {}


@MODELS.register_module()
class AttentivePooling(nn.Module):
    """Pools tokens by the attention of a learned query to all of them, then by an MLP.

    This is the attentive pooler of V-JEPA 2's evaluation (Assran et al. 2025), which has three
    blocks of self-attention before it. Here, each token also gets a sinusoid of its place in the
    order: an image encoder does not tell its tokens when a frame was.

    Args:
        channels: Channels C of a token, a multiple of `heads`.
        heads: Heads of each attention.
        blocks: Blocks of self-attention before the query.
    """

    def __init__(self, channels: int, heads: int = 16, blocks: int = 0) -> None:
        """Build the layers."""
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels,
                heads,
                dim_feedforward=4 * channels,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(blocks)
        )
        self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, channels), std=0.02))
        self.token_norm, self.norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, tokens: Tensor, data_samples: Any = None) -> tuple[Tensor, dict]:
        """Pool tokens [B, N, C] to [B, C]; a neck of MMAction2 also returns losses, here none."""
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.token_norm(tokens) + sinusoids(*tokens.shape[1:]).to(tokens.device)
        query = self.query.expand(len(tokens), -1, -1)
        attended, _ = self.attention(query, tokens, tokens, need_weights=False)
        pooled = query + attended
        return (pooled + self.mlp(self.norm(pooled)))[:, 0], {}


def sinusoids(rows: int, width: int) -> Tensor:
    """Compute the sinusoidal positional encoding of Vaswani et al. 2017, float32 [rows, width]."""
    rates = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(rows)[:, None] * rates
    # Sines and cosines alternate; an odd width leaves out the last cosine.
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
