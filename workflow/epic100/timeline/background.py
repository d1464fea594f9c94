"""A score of "nothing happens here", learned from the gaps between the segments of train.

It needs no labels beside the segments, and no pass of its own over a video: it is a logistic
regression on the scores that the model gives for a clip anyway. Its threshold is chosen on val, so
it is a file of its own: the model must not depend on val.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from epic100.base.checked import STRICT, conforming
from epic100.base.errors import EpicError

FORMAT = "epic100 background 1"
DECAY = 0.01  # of the weights
FLOOR = -30.0  # log-probabilities below it tell nothing more


@dataclass(frozen=True)
class Background:
    """How sure it is that nothing happens in a clip.

    Attributes:
        format: `FORMAT`.
        model: SHA-256 of the model file whose scores it takes.
        weights: One for each of the model's outputs.
        bias: What is added to their sum.
        threshold: With this score or more, nothing happens.
        gaps_found: The share of val's gaps that the threshold finds.
        segments_kept: The share of val's segments that it leaves.
    """

    format: str
    model: str
    weights: list[float]
    bias: float
    threshold: float = 0.5
    gaps_found: float = 0.0
    segments_kept: float = 1.0

    __pydantic_config__ = STRICT

    def scores(self, rows: torch.Tensor) -> np.ndarray:
        """Scores from 0 to 1 [N] of clips, from all their log-probabilities [N, outputs]."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return (rows.double().clamp(min=FLOOR) @ weights + self.bias).sigmoid().numpy()


def read_background(path: str | os.PathLike, digest: str) -> Background:
    """Read what `gaps.learn_background` wrote for a model of this SHA-256. Raises EpicError."""
    try:
        found = conforming(Background(**json.loads(Path(path).read_text(encoding="utf-8"))))
        if (found.format, found.model) != (FORMAT, digest):
            raise ValueError("of another version or model")
    except (OSError, ValueError, TypeError) as error:
        raise EpicError(
            f"{path}: no background of this model ({error}); make it with `epic100 run {path}`"
        ) from error
    return found


def fit(rows: torch.Tensor, gaps: np.ndarray) -> tuple[list[float], float]:
    """Logistic regression, with both kinds of the same weight.

    Args:
        rows: float32 [N, outputs], log-probabilities.
        gaps: bool [N].

    Returns:
        A weight for each output, and the bias.
    """
    values = rows.double().clamp(min=FLOOR)
    mean, spread = values.mean(dim=0), values.std(dim=0) + 1e-6
    values, truth = (values - mean) / spread, torch.from_numpy(gaps).double()
    share = torch.where(truth > 0, 0.5 / truth.mean(), 0.5 / (1 - truth).mean())
    weights = torch.zeros(values.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        steps.zero_grad()
        scores = values @ weights[:-1] + weights[-1]
        lost = torch.nn.functional.binary_cross_entropy_with_logits(scores, truth, share)
        lost = lost + DECAY * weights[:-1].square().sum()
        lost.backward()
        return lost

    steps.step(loss)
    own = weights.detach()
    scaled = own[:-1] / spread
    return scaled.tolist(), float(own[-1] - scaled @ mean)


def best_threshold(scores: np.ndarray, gaps: np.ndarray) -> tuple[float, float, float]:
    """Choose where the shares of gaps found and of segments left have the largest sum.

    Args:
        scores: [N], 0 to 1.
        gaps: bool [N].

    Returns:
        The threshold, in the middle of the best places, and the two shares.
    """
    order = np.argsort(scores)
    kept = np.cumsum(~gaps[order]) / (~gaps).sum()
    found = 1 - np.cumsum(gaps[order]) / gaps.sum()
    best = np.flatnonzero(np.isclose(kept + found, (kept + found).max()))
    place = int(best[len(best) // 2])
    ends = scores[order][[place, min(place + 1, len(order) - 1)]]
    return float(ends.mean()), float(found[place]), float(kept[place])
