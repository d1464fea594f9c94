"""The hard level of the mini kitchen: segments like EPIC-100's, and motions with a direction."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epic100.minikitchen import hard, write_annotations
from epic100.minikitchen.drawing import SHAPES, Action, chance, random_sprite, render
from epic100.video.sheet import read_sheet

SHEET = read_sheet(Path(__file__).parents[2] / "config/hard_videos.tsv")


def pair_counts(split: str) -> Counter[tuple[int, int]]:
    """The number of segments of each (verb, noun) in the sheet's videos of a split."""
    videos = [video for video in SHEET if video.split == split]
    return Counter((a.verb, a.noun) for video in videos for a in hard.schedule(video, seed=0))


def test_the_pairs_of_train_have_a_long_tail():
    counts = pair_counts("train")
    assert set(counts) <= set(hard.PAIRS) and counts.total() >= 200
    assert max(counts.values()) >= 10 * min(counts.values())


def test_a_tenth_of_val_has_unseen_pairs():
    train, val = pair_counts("train"), pair_counts("val")
    assert not set(train) & set(hard.UNSEEN_PAIRS) and val.total() >= 100
    assert 0.05 < sum(val[pair] for pair in hard.UNSEEN_PAIRS) / val.total() < 0.2
    for verb, noun in hard.UNSEEN_PAIRS:
        assert verb in {pair[0] for pair in train} and noun in {pair[1] for pair in train}


def test_segments_last_as_long_as_epic_100_s():
    segments = [action for video in SHEET for action in hard.schedule(video, seed=0)]
    lengths = [action.stop - action.start for action in segments]
    # The official val split has quartiles of 1.20, 1.96 and 3.88 s.
    assert np.allclose(np.percentile(lengths, [25, 50, 75]), [1.2, 1.96, 3.88], rtol=0.25)


def test_segments_do_not_overlap():
    for video in SHEET:
        segments = hard.schedule(video, seed=0)
        assert all(one.stop < following.start for one, following in pairwise(segments))
        assert segments[-1].stop < video.duration


def heights_and_areas(verb: int, shares: Iterable[float]) -> np.ndarray:
    """Measure the object in frames of a segment of four seconds, at these shares of the segment.

    Returns:
        Two rows: the height of its middle above the bottom of the frame, and its area, in pixels.
    """
    action = Action("P01_01_0", start=0.0, stop=4.0, verb=verb, noun=2)
    sprite = random_sprite(action, chance(0, "s"), **hard.FORM)
    sprite = replace(sprite, centre=(0.0, 0.0), phase=0.0, period=0.5)
    # The frames with the object, and the same frames without it.
    with_it, without = (
        list(render(sprites, 200, 50.0, (160, 90), chance(0, "p"), hard.look(SHEET[0], seed=0)))
        for sprites in ([sprite], [])
    )
    measured = []
    for share in shares:
        number = round(share * 199)
        difference = np.abs(with_it[number].astype(int) - without[number])
        is_object = difference.sum(axis=2) > 60
        (rows,) = np.nonzero(is_object.any(axis=1))
        measured.append((90 - rows.mean(), is_object.sum()))
    return np.transpose(measured)


@pytest.mark.parametrize(
    "verb, measure, sign",
    [
        pytest.param(0, 0, +1, id="take goes up"),
        pytest.param(1, 0, -1, id="put goes down"),
        pytest.param(3, 1, +1, id="open grows"),
        pytest.param(4, 1, -1, id="close shrinks"),
    ],
)
def test_a_motion_has_the_direction_of_its_verb(verb, measure, sign):
    first, last = heights_and_areas(verb, (0.0, 1.0))[measure]
    assert sign * (last - first) > 8


def test_a_tremble_hides_direction_in_short_clips():
    # This is one second of the segment of four.
    heights, _ = heights_and_areas(0, np.linspace(0.25, 0.5, 11))
    assert {-1, 1} <= set(np.sign(np.diff(heights)))


@pytest.mark.parametrize("shape", SHAPES.values())
def test_an_object_is_around_its_middle(shape):
    u, v = np.meshgrid(np.linspace(-4, 4, 81), np.linspace(-4, 4, 81))
    is_inside = shape(u, v) > 0
    assert is_inside.any() and np.hypot(u, v)[is_inside].max() < 1.6


def test_each_participant_has_an_own_kitchen():
    looks = {video.video_id: hard.look(video, seed=0) for video in SHEET}
    assert looks["P01_01"] == looks["P01_101"] == looks["P01_05"]
    assert len({looks[f"P0{n}_01"].tint for n in range(1, 8)}) == 7


def test_the_hard_csvs_have_segments_and_words(tmp_path):
    write_annotations(SHEET[:1], tmp_path, seed=0, level="hard")
    table = pd.read_csv(tmp_path / "EPIC_100_train.csv")
    expected = {a.narration_id: hard.VERBS[a.verb] for a in hard.schedule(SHEET[0], seed=0)}
    assert dict(zip(table["narration_id"], table["verb"], strict=True)) == expected
