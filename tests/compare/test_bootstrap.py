"""The intervals against figures that are known: closed forms, and resampling segment by segment."""

import numpy as np
import pytest

from epic100.compare.bootstrap import difference

N, VIDEOS = 4000, 40


@pytest.fixture
def data():
    """Hits of two models, of which the second is right more often in some videos; a group."""
    rng = np.random.default_rng(0)
    videos = rng.integers(0, VIDEOS, N)
    better = rng.normal(0.05, 0.08, VIDEOS)[videos]
    first = rng.random(N) < 0.4
    second = np.where(rng.random(N) < 0.7, first, rng.random(N) < 0.4 + better)
    return first, second, rng.random(N) < 0.3, videos


def by_hand(first, second, members, draws):
    """Percentiles of the difference over drawn segment numbers, in percent."""
    gain = 100 * (second.astype(int) - first)
    return np.percentile([gain[rows[members[rows]]].mean() for rows in draws], (2.5, 97.5))


def test_figures_are_the_group_s_means_and_intervals_those_of_resampling_one_by_one(data):
    first, second, members, videos = data
    found = difference(first, second, members, videos)
    assert found.first == pytest.approx(100 * first[members].mean())
    assert found.points == pytest.approx(100 * (second[members].mean() - first[members].mean()))
    assert found.segments == members.sum()
    rng = np.random.default_rng(1)
    segments = (rng.integers(0, N, N) for _ in range(2000))
    assert found.over_segments == pytest.approx(by_hand(first, second, members, segments), abs=0.25)
    own = [np.flatnonzero(videos == video) for video in range(VIDEOS)]
    whole = (
        np.concatenate([own[video] for video in rng.integers(0, VIDEOS, VIDEOS)])
        for _ in range(2000)
    )
    assert found.over_videos == pytest.approx(by_hand(first, second, members, whole), abs=0.4)


def test_segments_that_go_together_by_video_widen_the_interval_over_videos_alone():
    videos = np.repeat(np.arange(20), 100)
    first, second = np.zeros(2000, bool), np.isin(videos, [0, 1, 2, 3, 4])
    found = difference(first, second, np.ones(2000, bool), videos)
    low, high = found.over_segments
    assert 25 - low == pytest.approx(1.96 * 100 * (0.25 * 0.75 / 2000) ** 0.5, rel=0.1)
    assert found.over_videos[1] - found.over_videos[0] > 5 * (high - low)


def test_the_same_model_differs_by_nothing_and_the_same_seed_gives_the_same(data):
    first, second, members, videos = data
    found = difference(first, first, members, videos)
    assert (found.points, found.over_segments, found.over_videos) == (0, (0, 0), (0, 0))
    assert difference(first, second, members, videos) == difference(first, second, members, videos)
    assert difference(first, second, np.zeros_like(members), videos) is None


def test_a_group_in_one_video_is_compared_in_the_resamples_that_have_it():
    videos = np.repeat(np.arange(10), 10)
    first, second = np.zeros(100, bool), videos == 3
    assert difference(first, second, videos == 3, videos).over_videos == (100, 100)
