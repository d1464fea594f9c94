"""Paired bootstrap of the difference of two accuracies, over segments and over whole videos.

Both models predict the same segments, so each segment has one difference: 1 if only the second
model is right, -1 if only the first is, else 0. Resampling these differences keeps the pairing.
Segments of one video are similar to each other. So the interval over videos is the wider one, and
it is the one that applies to new videos.

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
    """Top-1 of both models over the same segments, and the second minus the first, in percent.

    Attributes:
        first: Accuracy of the first model.
        second: Accuracy of the second model.
        over_segments: 95 % interval of the difference, with segments resampled; None for a group
            of one segment, which says nothing of others.
        over_videos: 95 % interval of the difference, with whole videos resampled; None for a group
            in one video.
        segments: Number of segments.
    """

    first: float
    second: float
    over_segments: Interval | None
    over_videos: Interval | None
    segments: int

    @property
    def points(self) -> float:
        """The second model minus the first, in percentage points."""
        return self.second - self.first


def difference(
    first: Hits, second: Hits, members: Hits, videos: npt.NDArray[np.int64], seed: int = 0
) -> Difference | None:
    """Compare two models over the segments of a group.

    All segments are resampled, so the size of the group varies, as it would in other data.

    Args:
        first: Whether the first model is right, bool [N].
        second: Whether the second model is right, bool [N].
        members: Whether a segment is in the group, bool [N].
        videos: Index of each segment's video, from 0 on, [N].
        seed: Seed of the resampling.

    Returns:
        The figures, or None for an empty group.
    """
    if not members.any():
        return None
    rng = np.random.default_rng(seed)
    change = (second.astype(np.int64) - first) * members
    return Difference(
        first=100 * float(first[members].mean()),
        second=100 * float(second[members].mean()),
        over_segments=_over_segments(change, members, rng) if members.sum() > 1 else None,
        over_videos=_over_videos(change, members, videos, rng)
        if len(np.unique(videos[members])) > 1
        else None,
        segments=int(members.sum()),
    )


def _over_segments(
    change: npt.NDArray[np.int64], members: Hits, rng: np.random.Generator
) -> Interval:
    # The figure depends on four counts only, and resampled counts have a multinomial distribution.
    # Drawing the counts is equivalent to drawing segments, at a thousandth of the cost.
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
    """Percentiles of changes / sizes, in percent. Resamples without group members are ignored."""
    has_members = sizes > 0
    low, high = np.percentile(100 * changes[has_members] / sizes[has_members], PERCENTILES)
    return float(low), float(high)
