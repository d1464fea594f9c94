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
# These are the ends of a 95 % interval.
PERCENTILES = (2.5, 97.5)

Interval = tuple[float, float]
# For each segment, whether a model is right.
Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """The top-1 accuracies of two models over the same segments, and their difference, in percent.

    Attributes:
        first: Accuracy of the first model.
        second: Accuracy of the second model.
        over_segments: 95 % interval of the difference, with segments resampled; None for a group
            of one segment, since a sample of one has no spread.
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
        """The accuracy of the second model minus that of the first, in percentage points."""
        return self.second - self.first


def difference(
    first: Hits,
    second: Hits,
    in_group: npt.NDArray[np.bool_],
    videos: npt.NDArray[np.int64],
    seed: int = 0,
) -> Difference | None:
    """Compare the accuracies of two models over the segments of a group.

    All segments are resampled, so the size of the group varies, as it would in other data.

    Args:
        first: Whether the first model is right, bool [N].
        second: Whether the second model is right, bool [N].
        in_group: Whether a segment is in the group, bool [N].
        videos: Index of each segment's video, from 0 on, [N].
        seed: Seed of the resampling.

    Returns:
        The figures, or None for an empty group.
    """
    if not in_group.any():
        return None
    rng = np.random.default_rng(seed)
    # A segment outside the group has change 0, and is resampled like the others.
    change = (second.astype(np.int64) - first) * in_group
    has_several_videos = len(np.unique(videos[in_group])) > 1
    return Difference(
        first=100 * float(first[in_group].mean()),
        second=100 * float(second[in_group].mean()),
        over_segments=_over_segments(change, in_group, rng) if in_group.sum() > 1 else None,
        over_videos=_over_videos(change, in_group, videos, rng) if has_several_videos else None,
        segments=int(in_group.sum()),
    )


def _over_segments(
    change: npt.NDArray[np.int64], in_group: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Interval:
    """Resample single segments, and return the interval of the difference over the group.

    Args:
        change: For each segment 1, 0 or -1: the second model is better, equal or worse. It is 0
            outside the group.
        in_group: Whether a segment is in the group.
        rng: Draws the samples.
    """
    # The difference depends on four counts only: of the segments that the second model has better,
    # worse and equal, and of those outside the group. Resampled counts have a multinomial
    # distribution. Drawing them is equivalent to drawing segments, at a thousandth of the cost.
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    equal, others = int(in_group.sum()) - better - worse, int((~in_group).sum())
    counts = np.array([better, worse, equal, others])
    drawn = rng.multinomial(len(change), counts / len(change), RESAMPLES)
    better_drawn, worse_drawn, equal_drawn, _ = drawn.T
    return _interval(better_drawn - worse_drawn, better_drawn + worse_drawn + equal_drawn)


def _over_videos(
    change: npt.NDArray[np.int64],
    in_group: npt.NDArray[np.bool_],
    videos: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Interval:
    """Resample whole videos, and return the interval of the difference over the group."""
    video_count = int(videos.max()) + 1
    change_of_video = np.bincount(videos, weights=change, minlength=video_count)
    size_of_video = np.bincount(videos, weights=in_group, minlength=video_count)
    # The entry [i, j] of `drawn` is how often video j is in resample i.
    drawn = rng.multinomial(video_count, np.full(video_count, 1 / video_count), RESAMPLES)
    return _interval(drawn @ change_of_video, drawn @ size_of_video)


def _interval(changes: npt.NDArray[np.number], sizes: npt.NDArray[np.number]) -> Interval:
    """Return the percentiles of changes / sizes over the resamples, in percent.

    Resamples without a segment of the group are ignored.
    """
    has_members = sizes > 0
    low, high = np.percentile(100 * changes[has_members] / sizes[has_members], PERCENTILES)
    return float(low), float(high)
