"""Segments from probabilities, by the three steps of `merge`."""

import numpy as np

from epic100.settings import TimelineSettings
from epic100.timeline.content import merge, moving_mean

BARE = TimelineSettings(stride=0.5, smooth=0, threshold=0, min_seconds=0)


def rows(text, p=0.8):
    """One row a letter; its class has probability p, the other two share the rest."""
    return np.array([[p if c == k else (1 - p) / 2 for k in "abc"] for c in text])


def runs(text, settings, p=0.8):
    found = merge(rows(text, p), np.array([c != "x" for c in text]), settings)
    return [(run.start, run.stop, "abc"[run.pair]) for run in found]


def test_neighbours_with_one_best_pair_are_one_segment():
    assert runs("aabbbc", BARE) == [(0, 2, "a"), (2, 5, "b"), (5, 6, "c")]


def test_damage_parts_segments_and_is_in_none():
    assert runs("aaxxaab", BARE) == [(0, 2, "a"), (4, 6, "a"), (6, 7, "b")]
    assert runs("xxx", BARE) == []


def test_smoothing_takes_a_single_other_clip_for_noise_but_never_crosses_damage():
    smooth = TimelineSettings(stride=0.5, smooth=1.0, threshold=0, min_seconds=0)
    assert runs("aaabaaa", smooth) == [(0, 7, "a")]
    assert runs("aaaxbbb", smooth) == [(0, 3, "a"), (4, 7, "b")]


def test_short_and_unsure_segments_are_left_out():
    settings = TimelineSettings(stride=0.5, smooth=0, threshold=0.5, min_seconds=1.0)
    assert runs("aabccc", settings) == [(0, 2, "a"), (3, 6, "c")]
    assert runs("aabccc", settings, p=0.4) == []


def test_a_segment_s_probability_is_the_mean_of_its_steps():
    first, second = merge(np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9]]), np.ones(3, bool), BARE)
    assert (round(first.probability, 6), round(second.probability, 6)) == (0.8, 0.9)


def test_a_moving_mean_is_the_mean_of_what_is_there():
    values = np.arange(5.0)[:, None]
    assert moving_mean(values, 1).ravel().tolist() == [0.5, 1, 2, 3, 3.5]
    assert moving_mean(values, 9).ravel().tolist() == [2.0] * 5
