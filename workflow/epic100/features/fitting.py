"""Fit probes to features: several rates and decays over the same pass, resumed after a stop."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epic100.base.errors import EpicError
from epic100.base.log import Progress
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.features.tokens import Tokens
from epic100.prediction.probe_model import AttentiveProbe
from epic100.settings import ProbeSettings
from epic100.training.epoch_table import ACCURACIES, Row

log = logging.getLogger(__name__)

VALIDATE_EVERY = 10  # epochs, and the last
SAVE_SECONDS = 60.0  # at least, between two saves of the state


@dataclass
class Trial:
    """A probe in training.

    Attributes:
        probe: The probe.
        lr: Its learning rate at the start.
        weight_decay: Its decay.
        history: The rows of its table of epochs.
    """

    probe: AttentiveProbe
    lr: float
    weight_decay: float
    history: list[Row] = field(default_factory=list)

    def __str__(self) -> str:
        return f"lr {self.lr:g}, decay {self.weight_decay:g}"


def fit(
    trials: list[Trial],
    rows: Tokens,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: ProbeSettings,
    accuracies: Callable[[AttentiveProbe], Mapping[str, float | None]],
    state: Path,
) -> None:
    """Train all probes over the same pass. A stopped call goes on to equal weights.

    Args:
        trials: The probes, with their first weights.
        rows: The tokens of the segments.
        labels: Their pair ids, int64 [N].
        loss: The loss of logits and labels.
        settings: The `probe:` section.
        accuracies: What the table of epochs says of a probe that is validated.
        state: Where the state is kept. The caller removes it when it has the result.

    Raises:
        EpicError: A loss is NaN or infinite.
    """
    batches, device = -(-len(labels) // settings.batch_size), settings.device
    parts: list[tuple[Any, ...]] = []
    for trial in trials:
        weights = trial.probe.to(device).parameters()
        optimizer = torch.optim.AdamW(weights, trial.lr, weight_decay=trial.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches * settings.epochs)
        parts.append((trial.probe, optimizer, schedule))
    about = (settings, rows.source, labels.tolist(), trials[0].probe.mean.tolist())
    key = hashlib.sha256(repr((about, [*map(str, trials)])).encode()).hexdigest()
    done = _resumed(state, key, trials, parts)
    bar = Progress("train the probe", (settings.epochs - done) * len(labels), "segments")
    saved = time.monotonic()
    for epoch in range(done + 1, settings.epochs + 1):
        torch.manual_seed(settings.seed * 100_003 + epoch)  # so that no state of it is kept
        started, totals, rate = time.monotonic(), [0.0] * len(trials), 1.0
        order = torch.randperm(len(labels)).tolist()
        for some, feats, padded in rows.batches(order, settings.batch_size, device):
            wanted = labels[some].to(device)
            for number, (probe, optimizer, schedule) in enumerate(parts):
                probe.train()
                with torch.autocast(device, torch.bfloat16, device == "cuda"):
                    scores = probe(feats, padded)
                lost = loss(scores.float(), wanted)
                optimizer.zero_grad()
                lost.backward()
                optimizer.step()
                rate = schedule.get_last_lr()[0] / trials[number].lr
                schedule.step()
                totals[number] += lost.item()
            bar.update(len(some))
        seconds = max(time.monotonic() - started, 1e-9)
        last = epoch == settings.epochs
        for trial, total in zip(trials, totals, strict=True):
            if not total < float("inf"):
                raise EpicError(
                    f"epoch {epoch}: the loss is NaN or infinite with {trial}; set a lower "
                    "`probe: lr:`"
                )
            seen = accuracies(trial.probe) if last or epoch % VALIDATE_EVERY == 0 else {}
            trial.history.append(
                {
                    **dict.fromkeys(ACCURACIES), **seen, "epoch": epoch, "iter": epoch * batches,
                    "lr": trial.lr * rate, "loss": total / batches, "data_share": 0.0,
                    "samples_per_s": len(labels) / seconds, "seconds": seconds,
                }
            )  # fmt: skip
        if last or time.monotonic() - saved > SAVE_SECONDS:
            states = [[part.state_dict() for part in each] for each in parts]
            write_tensors([key, states, [trial.history for trial in trials]], state)
            saved = time.monotonic()
    bar.close()


def _resumed(state: Path, key: str, trials: list[Trial], parts: list[tuple[Any, ...]]) -> int:
    """Go back to the state of this same training, if there is one; returns its epochs."""
    if not state.is_file():
        return 0
    found, states, histories = read_tensors(state, "the state of a probe", f"remove {state}")
    if found != key:
        return 0
    for trial, each, of, history in zip(trials, parts, states, histories, strict=True):
        trial.history = history
        for part, own in zip(each, of, strict=True):
            part.load_state_dict(own)
    log.info(f"{state}: going on after epoch {len(history)}")
    return len(history)
