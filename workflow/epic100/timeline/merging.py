"""From the probabilities of clips to segments."""

from dataclasses import dataclass

import numpy as np

from epic100.settings import TimelineSettings


@dataclass(frozen=True)
class Run:
    """Neighbouring steps with the same pair.

    Attributes:
        start: First step.
        stop: Step after the last one.
        pair: Column of the pair.
        probability: Mean smoothed probability of the pair, 0 to 1.
    """

    start: int
    stop: int
    pair: int
    probability: float


def merge(probabilities: np.ndarray, sound: np.ndarray, settings: TimelineSettings) -> list[Run]:
    """Merge steps into segments.

    With p(t, k) the probability of pair k at step t, and r = round(smooth / stride / 2):

    1. s(t, k) is the mean of p(u, k) over the steps u from t - r to t + r that are in the same
       stretch of sound steps.
    2. The pair of step t is k(t) = argmax s(t, k). A run is a longest stretch of neighbouring sound
       steps with one pair.
    3. A run is kept if the mean of s(t, k(t)) over its steps is at least `threshold`, and it lasts
       `min_seconds` or longer.

    No two segments overlap, and none goes over damage. There is no class for "nothing happens":
    such steps are left out only if the model is unsure there.

    Args:
        probabilities: [N, P], of pairs; rows of steps that are not sound are not used.
        sound: bool [N].
        settings: stride, smooth, threshold, min_seconds.

    Returns:
        The runs in order.
    """
    reach = round(settings.smooth / settings.stride / 2)
    runs = []
    for first, after in stretches(sound):
        smooth = moving_mean(probabilities[first:after], reach)
        best, height = smooth.argmax(axis=1), smooth.max(axis=1)
        borders = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
        for start, stop in zip(borders, borders[1:], strict=False):
            mean = float(height[start:stop].mean())
            long = (stop - start) * settings.stride >= settings.min_seconds - 1e-9
            if long and mean >= settings.threshold:
                runs.append(Run(first + start, first + stop, int(best[start]), mean))
    return runs


def stretches(sound: np.ndarray) -> list[tuple[int, int]]:
    """Half-open ranges of neighbouring True values of a bool [N]."""
    edges = np.flatnonzero(np.diff(sound.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def moving_mean(rows: np.ndarray, reach: int) -> np.ndarray:
    """Mean of each row and the `reach` rows on both sides, fewer at the ends; float64 [N, P]."""
    places = np.arange(len(rows))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(rows))
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=float)])
    return (sums[high] - sums[low]) / (high - low)[:, None]
