"""An attentive probe: a small model on an encoder's tokens, or on clips through the encoder."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel
from epic100.model.views import mean_log_probs
from epic100.prediction.encoder import clip_pipeline, encode_clips, pooled_tokens
from epic100.prediction.hugging_face import HF, HuggingFaceEncoder

# The config of a probe in a model file has this `type`.
PROBE_TYPE = "AttentiveProbe"
# The numbers of a form are the width, the heads, the queries, and the blocks of self-attention
# before the queries. A width of None means the number of channels, rounded up to a multiple of the
# heads.
FORMS: Mapping[str, tuple[int | None, int, int, int]] = {
    "small": (256, 4, 4, 0),
    "attentive": (None, 16, 3, 3),
}


class AttentiveProbe(nn.Module):
    """Cross-attention of learned queries over a segment's tokens, an MLP, and the outputs.

    The form `small` is the attentive probe of V-JEPA (Bardes et al. 2024), but narrower and with
    several queries. The form `attentive` is the probe of V-JEPA 2 (Assran et al. 2025): three
    blocks of self-attention come first, and there are queries for pairs, verbs and nouns. A
    positional encoding is added to each token.

    Attributes:
        mean: Mean of each channel of the training tokens, float32 [C]. The input is normalised.
        std: Standard deviation of each channel, float32 [C].

    Args:
        channels: Number of channels C of a token.
        outputs: Number of outputs.
        dropout: Rate of dropout on the tokens and before the last layer.
        kind: A key of `FORMS`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, outputs: int, dropout: float = 0.0, kind: str = "small"
    ) -> None:
        """Build the layers."""
        super().__init__()
        fixed_width, heads, queries, blocks = FORMS[kind]
        width = fixed_width or math.ceil(channels / heads) * heads
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.embed = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                dim_feedforward=4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(blocks)
        )
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(queries * width, outputs)

    def forward(self, feats: Tensor, padded: Tensor) -> Tensor:
        """Compute the scores of B segments from their tokens.

        Args:
            feats: Tokens in order, float32 [B, T, C].
            padded: bool [B, T], True for padding, since segments differ in T.

        Returns:
            Logits [B, outputs].
        """
        tokens = self.embed(self.dropout((feats - self.mean) / self.std))
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2]).to(tokens.device)
        for block in self.blocks:
            tokens = block(tokens, src_key_padding_mask=padded)
        queries = self.queries.expand(len(feats), -1, -1)
        attended, _ = self.attention(
            queries, tokens, tokens, key_padding_mask=padded, need_weights=False
        )
        attended = attended + self.mlp(self.norm(attended))
        return self.last(self.dropout(attended.flatten(1)))


def positions(rows: int, width: int) -> Tensor:
    """Compute the sinusoidal positional encoding of Vaswani et al. 2017, float32 [rows, width]."""
    rates = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(rows)[:, None] * rates
    # Sines and cosines alternate; an odd width leaves out the last cosine.
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def build_probe(trained: TrainedModel) -> AttentiveProbe | None:
    """Build the probe of a model file, for evaluation; None if the file holds another model.

    Raises:
        EpicError: The weights do not fit.
    """
    model_config = trained.config.get("model")
    if not isinstance(model_config, dict) or model_config.get("type") != PROBE_TYPE:
        return None
    try:
        probe = AttentiveProbe(
            channels=len(trained.state_dict["mean"]),
            outputs=sum(trained.outputs.values()),
            kind=model_config.get("kind", "small"),
        )
        probe.load_state_dict(trained.state_dict)
    except (KeyError, RuntimeError, TypeError) as error:
        raise EpicError(
            f"a probe whose weights do not fit ({' '.join(str(error).split())[:200]}); train it "
            "again"
        ) from error
    return probe.eval()


def open_probe(
    trained: TrainedModel,
    probe: AttentiveProbe,
    path: str,
    device: str,
    max_batch_size: int,
    folder: str | None,
) -> tuple[Callable[[Sequence[Tensor]], Tensor], list[dict[str, Any]]]:
    """Open the encoder of a probe, and return a function that runs both on clips.

    Args:
        trained: The content of a model file.
        probe: The probe of this file.
        path: The model file, for errors.
        device: The torch device.
        max_batch_size: Clips per call of the encoder.
        folder: The folder of the encoder; None: the folder that the training used.

    Returns:
        A function that computes log-probabilities [B, outputs] from the clips of B segments, and
        the pipeline that makes the clips.

    Raises:
        EpicError: The folder holds no encoder or another one, or the probe is not for an encoder in
            a folder (`hf`).
    """
    source = trained.config.get("features", {})
    if source.get("encoder") != HF:
        raise EpicError(
            f"{path}: a probe on tokens of {source.get('encoder')!r}; whole videos can be shown to "
            "one with `features: encoder: hf` alone"
        )
    encoder_folder = HuggingFaceEncoder(folder or trained.config["encoder"]["path"])
    if encoder_folder.fingerprint != source["model"]:
        raise EpicError(
            f"{encoder_folder.folder}: its fingerprint is {encoder_folder.fingerprint[:12]}, "
            f"but {path} learned from {str(source['model'])[:12]}: other weights, or another "
            "processor; name the folder of that encoder (`predict: encoder:`), or train the probe "
            "again"
        )
    encoder, grid = encoder_folder(device), source["grid"]
    probe.to(device)

    @torch.inference_mode()
    def log_probs(clips: Sequence[Tensor]) -> Tensor:
        """Compute the log-probabilities of segments from their clips."""
        # HF is the name of the encoder in errors.
        features = encode_clips(encoder, clips, max_batch_size, HF, grid)
        tokens = pooled_tokens(features, grid).to(device).float()
        # All segments have the same number of tokens, so there is no padding.
        padded = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=device)
        return mean_log_probs(probe(tokens, padded), trained.outputs, len(clips))

    return log_probs, clip_pipeline(encoder_folder)
