"""An attentive probe: a small model on features, and on clips through the encoder of these."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel
from epic100.model.views import mean_log_probs
from epic100.prediction.encoder import clip_pipeline, encoded, pooled_tokens
from epic100.prediction.hugging_face import HF, HuggingFaceFolder

KIND = "AttentiveProbe"
# The numbers are the width, the heads, the queries, and the blocks of self-attention before them.
# If the width is None, it is that of the features, rounded up to a multiple of the heads.
FORMS: Mapping[str, tuple[int | None, int, int, int]] = {
    "small": (256, 4, 4, 0),
    "attentive": (None, 16, 3, 3),
}


class AttentiveProbe(nn.Module):
    """Cross-attention of learned queries over a segment's features, an MLP, and the outputs.

    Form: the attentive probe of V-JEPA (Bardes et al. 2024), narrower, with several queries.
    `attentive` is that of V-JEPA 2 (Assran et al. 2025): three blocks of self-attention before, and
    queries for pairs, verbs and nouns. Each row gets a sinusoid of its place in the segment.

    Args:
        channels: C, values of a feature.
        outputs: Number of outputs.
        dropout: On the features and before the last layer.
        kind: A key of `FORMS`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, outputs: int, dropout: float = 0.0, kind: str = "small"
    ) -> None:
        super().__init__()
        fixed, heads, queries, blocks = FORMS[kind]
        width = fixed or -(-channels // heads) * heads
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.embed = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
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
        """Compute the scores.

        Args:
            feats: float32 [B, T, C], in order.
            padded: bool [B, T], True for rows that only fill the batch.

        Returns:
            Logits [B, outputs].
        """
        rows = self.embed(self.dropout((feats - self.mean) / self.std))
        rows = rows + positions(rows.shape[1], rows.shape[2]).to(rows.device)
        for block in self.blocks:
            rows = block(rows, src_key_padding_mask=padded)
        queries = self.queries.expand(len(feats), -1, -1)
        seen, _ = self.attention(queries, rows, rows, key_padding_mask=padded, need_weights=False)
        seen = seen + self.mlp(self.norm(seen))
        return self.last(self.dropout(seen.flatten(1)))


def positions(rows: int, width: int) -> Tensor:
    """Sinusoids of the places 0 to `rows` - 1, float32 [rows, width] (Vaswani et al. 2017)."""
    rates = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(rows)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def built_probe(trained: TrainedModel) -> AttentiveProbe | None:
    """The probe of a model file, for evaluation; None if the file has another model.

    Raises:
        EpicError: Its weights do not fit.
    """
    model_config, state = trained.config.get("model"), dict(trained.state_dict)
    if not isinstance(model_config, dict) or model_config.get("type") != KIND:
        return None
    try:
        kind, channels = model_config.get("kind", "small"), len(state["mean"])
        probe = AttentiveProbe(channels, sum(trained.outputs.values()), kind=kind)
        probe.load_state_dict(state)
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
    at_once: int,
    folder: str | None,
) -> tuple[Callable[[Sequence[Tensor]], Tensor], list[dict[str, Any]]]:
    """Open the encoder of a probe's tokens.

    Args:
        trained: The content of a model file.
        probe: Its probe.
        path: That file, for errors.
        device: The torch device.
        at_once: Clips per call of the encoder.
        folder: Where the encoder is; None: where it was in training.

    Returns:
        What computes log-probabilities [B, outputs] of the clips of B segments, and the pipeline
        of these.

    Raises:
        EpicError: The encoder is not there, has other weights, or is none of a folder.
    """
    source = trained.config.get("features", {})
    if source.get("encoder") != HF:
        raise EpicError(
            f"{path}: a probe on tokens of {source.get('encoder')!r}; whole videos can be shown to "
            "one with `features: encoder: hf` alone"
        )
    encoder_folder = HuggingFaceFolder(folder or trained.config["encoder"]["path"])
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
        tokens = pooled_tokens(encoded(encoder, clips, at_once, HF, grid), grid).to(device).float()
        padded = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=device)
        return mean_log_probs(probe(tokens, padded), trained.outputs, len(clips))

    return log_probs, clip_pipeline(encoder_folder)
