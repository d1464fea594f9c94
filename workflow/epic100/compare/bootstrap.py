"""Paired bootstrap of the difference of two accuracies, over segments and over whole videos.

Both models answer the same segments, so each segment gives one difference: 1 where only the second
model is right, -1 where only the first is, else 0. Resampling those keeps the pairing. Segments of
one video are alike, and the next kitchen is another video: the interval over videos is the one that
speaks of new videos, and it is the wider one.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentiles).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
PERCENTILES = (2.5, 97.5)

Interval = tuple[float, float]
Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """Top-1 of both models over some segments, and the second minus the first; all in percent.

    Attributes:
        first: Accuracy of the first model.
        second: Accuracy of the second model.
        over_segments: 95 % interval of the difference where segments are resampled.
        over_videos: The same where whole videos are resampled.
        segments: How many segments the figures are over.
    """

    first: float
    second: float
    over_segments: Interval
    over_videos: Interval
    segments: int

    @property
    def points(self) -> float:
        """The second model minus the first, in percentage points."""
        return self.second - self.first


def difference(
    first: Hits, second: Hits, members: Hits, videos: npt.NDArray[np.int64], seed: int = 0
) -> Difference | None:
    """Compare two models over the segments of a group.

    All are resampled, and the group's share of them varies, as it would in other data.

    Args:
        first: Which segments the first model gets right, bool [N].
        second: The same of the second model.
        members: Which segments the group has, bool [N].
        videos: Number of each segment's video, from 0 on, [N].
        seed: Of the resampling.

    Returns:
        The figures, or None for a group without a segment.
    """
    if not members.any():
        return None
    rng = np.random.default_rng(seed)
    change = (second.astype(np.int64) - first) * members
    return Difference(
        first=100 * float(first[members].mean()),
        second=100 * float(second[members].mean()),
        over_segments=_over_segments(change, members, rng),
        over_videos=_over_videos(change, members, videos, rng),
        segments=int(members.sum()),
    )


def _over_segments(
    change: npt.NDArray[np.int64], members: Hits, rng: np.random.Generator
) -> Interval:
    # The figure depends on four counts alone, and resampled counts follow a multinomial law:
    # drawing those is drawing the segments, at a thousandth of the cost.
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    equal, others = int(members.sum()) - better - worse, int((~members).sum())
    counts = np.array([better, worse, equal, others])
    drawn = rng.multinomial(len(change), counts / len(change), RESAMPLES)
    return _interval(drawn[:, 0] - drawn[:, 1], drawn[:, :3].sum(axis=1))


def _over_videos(
    change: npt.NDArray[np.int64],
    members: Hits,
    videos: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Interval:
    count = int(videos.max()) + 1
    changes = np.bincount(videos, weights=change, minlength=count)
    sizes = np.bincount(videos, weights=members, minlength=count)
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return _interval(drawn @ changes, drawn @ sizes)


def _interval(changes: npt.NDArray[np.number], sizes: npt.NDArray[np.number]) -> Interval:
    """Percentiles of changes / sizes in percent; a resample without a member says nothing."""
    some = sizes > 0
    low, high = np.percentile(100 * changes[some] / sizes[some], PERCENTILES)
    return float(low), float(high)
