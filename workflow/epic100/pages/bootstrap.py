"""Paired bootstrap of the difference of two accuracies, over whole videos.

Both models predict the same segments. A resample has all segments of the videos that it draws, for
both models, which keeps the pairing. Segments of one video are similar to each other, so that an
interval over single segments would be too narrow for new videos.

The difference in a resample depends on counts alone: of the segments of each video, and of those
that each model has right. So the page of all runs has these counts and the draws, and computes the
same interval for any two runs.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentiles).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
# These are the ends of a 95 % interval.
PERCENTILES = (2.5, 97.5)

# For each segment, whether it is in a group, or whether a model has it right.
Mask = npt.NDArray[np.bool_]
# For each video, a number of segments.
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """The accuracy of the second model minus that of the first, in percentage points.

    Attributes:
        points: The difference.
        interval: Its 95 % interval; None where all segments are of one video.
    """

    points: float
    interval: tuple[float, float] | None


def draw_videos(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Draw how often each of `count` videos is in each resample, [RESAMPLES, count]."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)


def by_video(mask: Mask, videos: Counts) -> Counts:
    """Count the chosen segments of each video.

    Args:
        mask: The chosen segments, bool [N].
        videos: Number of each segment's video, from 0 on, [N].
    """
    return np.bincount(videos[mask], minlength=int(videos.max()) + 1)


def difference(
    first: Counts, second: Counts, sizes: Counts, drawn: npt.NDArray[np.int64]
) -> Difference | None:
    """Compare the accuracies of two models over the segments of a group.

    Args:
        first: For each video, the segments of the group that the first model has right.
        second: The same of the second model.
        sizes: For each video, the segments of the group.
        drawn: The result of `draw_videos`.

    Returns:
        The difference, or None for an empty group.
    """
    if not sizes.any():
        return None
    change, interval = second - first, None
    if np.count_nonzero(sizes) > 1:
        drawn_sizes = drawn @ sizes
        # A resample without a segment of the group does not count.
        filled = drawn_sizes > 0
        points = 100 * (drawn @ change)[filled] / drawn_sizes[filled]
        low, high = np.percentile(points, PERCENTILES)
        interval = float(low), float(high)
    return Difference(100 * float(change.sum() / sizes.sum()), interval)
