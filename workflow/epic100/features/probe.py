"""An attentive probe: train it on stored features, and predict with it."""

import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from epic100.base.errors import EpicError
from epic100.base.log import Progress
from epic100.features.segment_rows import SegmentRows, rows_of_segments
from epic100.model.model_file import (
    TrainedModel,
    digest,
    load_model,
    output_sizes,
    save_model,
    split_outputs,
)
from epic100.model.registered import OutputsLoss
from epic100.prediction.predict import predictions_of
from epic100.scoring.predictions import write_predictions
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_clean_list
from epic100.settings import ProbeSettings
from epic100.training.epoch_table import ACCURACIES, Row, write_epochs
from epic100.training.validation import FIGURES, EpicPairMetric

log = logging.getLogger(__name__)

WIDTH, QUERIES, ATTENTION_HEADS = 256, 4, 4


class AttentiveProbe(nn.Module):
    """Cross-attention of learned queries over a segment's features, an MLP, and the outputs.

    Form: the attentive probe of V-JEPA (Bardes et al. 2024), narrower, with several queries.

    Args:
        channels: C, values of a feature.
        outputs: Number of outputs.
        dropout: On the features and before the last layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.embed = nn.Linear(channels, WIDTH)
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH) * WIDTH**-0.5)
        self.attention = nn.MultiheadAttention(WIDTH, ATTENTION_HEADS, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(QUERIES * WIDTH, outputs)

    def forward(self, feats: Tensor, padded: Tensor) -> Tensor:
        """Compute the scores.

        Args:
            feats: float32 [B, T, C].
            padded: bool [B, T], True for rows that only fill the batch.

        Returns:
            Logits [B, outputs].
        """
        rows = self.embed(self.dropout((feats - self.mean) / self.std))
        queries = self.queries.expand(len(feats), -1, -1)
        seen, _ = self.attention(queries, rows, rows, key_padding_mask=padded, need_weights=False)
        seen = seen + self.mlp(self.norm(seen))
        return self.last(self.dropout(seen.flatten(1)))


KIND = "AttentiveProbe"
VALIDATE_EVERY = 10  # epochs, and the last
AT_ONCE = 256  # segments of a forward pass without gradients


def train_probe(
    settings: ProbeSettings,
    model_path: str | os.PathLike,
    history_path: str | os.PathLike,
    *,
    split: str,
    segments: str | os.PathLike,
    val: str | os.PathLike,
    pairs: str | os.PathLike,
    tables: Sequence[str | os.PathLike],
    classes: tuple[int, int],
    names: dict[str, dict[int, str]],
) -> None:
    """Train a probe on the features of a clean list, on the CPU.

    The result follows from features, list, settings and the number of torch's threads alone.

    Args:
        settings: The `probe:` section.
        model_path: The model file to write.
        history_path: The table of epochs to write (`training.epoch_table`).
        split: What is learned from, train or trainval.
        segments: Its clean list.
        val: The clean list of val, which is looked at only.
        pairs: The pair table.
        tables: The tables of the rule features.
        classes: Numbers of verb and noun classes.
        names: Class names for the model file.

    Raises:
        EpicError: No segment to learn from, or `rows_of_segments` cannot collect the features.
    """
    table = read_clean_list(segments)
    if table.empty:
        raise EpicError(f"{segments}: no segment in it to learn from; see dropped.tsv beside it")
    rows = rows_of_segments(table, tables, None)
    listed = read_clean_list(val) if split == "train" else table[:0]
    val_rows = rows_of_segments(listed, tables, rows.source) if len(listed) else None
    known = read_pairs(pairs)
    number = {(verb, noun): pair for pair, (verb, noun, _) in enumerate(known)}
    labels = torch.tensor([number[pair] for pair in zip(table["verb"], table["noun"], strict=True)])
    sizes = output_sizes(settings.heads, len(known), *classes)
    torch.manual_seed(settings.seed)
    probe = AttentiveProbe(rows.feats.shape[1], sum(sizes.values()), settings.dropout)
    probe.mean.copy_(rows.feats.mean(dim=0))
    probe.std.copy_(rows.feats.std(dim=0, correction=0).clamp_min(1e-6))
    log.info(
        f"{len(table)} segments with {len(rows.feats)} features of {rows.feats.shape[1]} values; "
        f"{sum(weight.numel() for weight in probe.parameters()) / 1e6:.2f} M weights"
    )
    loss = OutputsLoss(known, settings.heads, *classes, smoothing=settings.label_smoothing)
    metric = EpicPairMetric(str(pairs), *classes, heads=settings.heads)
    history = _fit(probe, rows, labels, loss, settings, lambda: _accuracies(
        metric, val_rows, listed, probe, sizes))  # fmt: skip
    about = {
        "split": split, "segments": len(table), "epochs": settings.epochs, "seed": settings.seed,
        "load_from": rows.source["load_from"],
    }  # fmt: skip
    state = {name: value.detach().clone() for name, value in probe.state_dict().items()}
    save_model(
        TrainedModel(
            state,
            known,
            *classes,
            _config(settings, rows.source),
            about,
            settings.heads,
            names,
        ),
        model_path,
    )
    write_epochs(history, history_path)


def predict_probe(
    model_path: str | os.PathLike,
    segments: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str,
    tables: Sequence[str | os.PathLike],
) -> None:
    """Predict every segment of a clean list with a probe, and write the predictions file.

    Args:
        model_path: The model file of `train_probe`.
        segments: The clean list.
        out: The file to write.
        split: Name of the split.
        tables: The tables of the rule features.

    Raises:
        EpicError: It is no probe, or the features are not of the source that it learned from.
    """
    trained = load_model(model_path)
    source = trained.config.get("features")
    if trained.config.get("model", {}).get("type") != KIND or not isinstance(source, dict):
        raise EpicError(
            f"{model_path}: a model, but no probe; expected one of the rule probe_train"
        )
    table = read_clean_list(segments)
    sizes = trained.outputs
    probe = AttentiveProbe(source["channels"], sum(sizes.values()))
    probe.load_state_dict(dict(trained.state_dict))
    scores = torch.empty(0, sum(sizes.values()))
    if len(table):
        scores = _log_probs(probe, rows_of_segments(table, tables, source), sizes)
    if not scores.isfinite().all():
        raise EpicError(f"{model_path}: gives NaN or infinity; train the probe again")
    ids = table["narration_id"].tolist()
    write_predictions(predictions_of(split, ids, scores, trained, digest(model_path)), out)
    log.info(f"{out}: {len(ids)} segments")


def _fit(
    probe: AttentiveProbe, rows: SegmentRows, labels: Tensor, loss: OutputsLoss,
    settings: ProbeSettings, accuracies: Any,
) -> list[Row]:  # fmt: skip
    """Train; returns the rows of the table of epochs."""
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    batches = -(-len(labels) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * settings.epochs)
    order = torch.Generator().manual_seed(settings.seed)
    bar = Progress("train the probe", settings.epochs * len(labels), "segments")
    history: list[Row] = []
    for epoch in range(1, settings.epochs + 1):
        probe.train()
        started, total = time.monotonic(), 0.0
        shuffled = torch.randperm(len(labels), generator=order).tolist()
        for some, feats, padded in rows.batches(shuffled, settings.batch_size):
            lost = loss(probe(feats, padded), labels[some])
            optimizer.zero_grad()
            lost.backward()
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            schedule.step()
            total += lost.item()
            bar.update(len(some))
        if not total < float("inf"):
            raise EpicError(f"epoch {epoch}: the loss is NaN or infinite; set a lower `probe: lr:`")
        seconds = max(time.monotonic() - started, 1e-9)
        last = epoch == settings.epochs
        seen = accuracies() if last or epoch % VALIDATE_EVERY == 0 else {}
        history.append(
            {
                **dict.fromkeys(ACCURACIES), **seen, "epoch": epoch, "iter": epoch * batches,
                "lr": rate, "loss": total / batches, "samples_per_s": len(labels) / seconds,
                "data_share": 0.0, "seconds": seconds,
            }
        )  # fmt: skip
    bar.close()
    top1 = history[-1]["action_top1"]
    if top1 is not None:
        log.info(f"val: {top1:.2f} % top-1 actions of the segments that can be read")
    return history


@torch.inference_mode()
def _log_probs(probe: AttentiveProbe, rows: SegmentRows, sizes: dict[str, int]) -> Tensor:
    """Log-probabilities of all outputs, float32 [N, outputs]."""
    probe.eval()
    found = [
        torch.cat([part.log_softmax(dim=1) for part in split_outputs(
            probe(feats, padded).double(), sizes).values()], dim=1).float()
        for _, feats, padded in rows.batches(range(len(rows.spans)), AT_ONCE)
    ]  # fmt: skip
    return torch.cat(found)


def _accuracies(
    metric: EpicPairMetric, rows: SegmentRows | None, listed: pd.DataFrame,
    probe: AttentiveProbe, sizes: dict[str, int],
) -> dict[str, float | None]:  # fmt: skip
    """Top-1 and top-5 on val by the names of the table of epochs."""
    if rows is None:
        return {}
    scores = _log_probs(probe, rows, sizes).exp()
    metric.results.clear()
    truth = zip(scores, listed["verb"], listed["noun"], strict=True)
    metric.process(None, [{"pred_score": s, "verb": v, "noun": n} for s, v, n in truth])
    found = metric.compute_metrics(metric.results)
    return {column: found[name.partition("/")[2]] for column, name in FIGURES.items()}


def _config(settings: ProbeSettings, source: dict[str, Any]) -> dict[str, Any]:
    """The settings in the form of an MMEngine config, so that `compare` lists what differs."""
    return {
        "model": {"type": KIND, "dropout": settings.dropout,
                  "label_smoothing": settings.label_smoothing},
        "features": source,
        "train_dataloader": {"batch_size": settings.batch_size},
        "train_cfg": {"max_epochs": settings.epochs},
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": settings.lr,
                                        "weight_decay": settings.weight_decay}},
        "randomness": {"seed": settings.seed},
    }  # fmt: skip
