"""The hard level of the mini kitchen: segments as EPIC-100 has them, directions in the pictures."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epic100.minikitchen import hard, write_annotations, write_video
from epic100.minikitchen.drawing import Action, chance, random_sprite, render
from epic100.video.sheet import read_sheet

SHEET = read_sheet(Path(__file__).parents[2] / "config/hard_videos.tsv")
SIZE = (160, 90)


def actions(split):
    return [a for video in SHEET if video.split == split for a in hard.schedule(video, 0)]


def test_pairs_have_a_long_tail_and_val_has_some_that_train_lacks():
    train = Counter((a.verb, a.noun) for a in actions("train"))
    val = Counter((a.verb, a.noun) for a in actions("val"))
    assert set(train) <= set(hard.PAIRS) and not set(train) & set(hard.BEYOND)
    beyond = sum(val[pair] for pair in hard.BEYOND) / val.total()
    assert 0.05 < beyond < 0.2
    assert train.total() >= 200 and val.total() >= 100
    assert max(train.values()) >= 10 * min(train.values())
    for column in (0, 1):
        assert {pair[column] for pair in hard.BEYOND} <= {pair[column] for pair in train}


def test_lengths_are_epic_100_s_and_segments_do_not_overlap():
    lengths = np.array([a.stop - a.start for split in ("train", "val") for a in actions(split)])
    # The official val split has quartiles of 1.20, 1.96 and 3.88 s.
    assert np.allclose(np.percentile(lengths, [25, 50, 75]), [1.2, 1.96, 3.88], rtol=0.25)
    for video in SHEET:
        listed = hard.schedule(video, 0)
        assert all(a.stop < b.start for a, b in zip(listed, listed[1:], strict=False))
        assert listed[-1].stop < video.duration
    assert {round(v.fps, 2) for v in SHEET if v.split == "train"} == {59.94, 50.0}


def position(verb: int, at: float) -> tuple[float, float]:
    """(height of the object's middle from below, its size) in pixels, at a share of the segment."""
    action = Action("P01_01_0", 0.0, 4.0, verb, 2)
    sprite = replace(
        random_sprite(action, chance(0, "s"), **hard.FORM), centre=(0.0, 0.0), phase=0.0, period=0.5
    )
    look = hard.look(SHEET[0], 0)
    frames = list(render([sprite], 201, 50.0, SIZE, chance(0, "p"), look))
    ground = list(render([], 201, 50.0, SIZE, chance(0, "p"), look))
    number = round(at * 199)
    changed = np.abs(frames[number].astype(int) - ground[number]).sum(axis=2) > 60
    rows = np.nonzero(changed.any(axis=1))[0]
    return SIZE[1] - rows.mean(), changed.sum()


@pytest.mark.parametrize("verb, measure, sign", [(0, 0, 1), (1, 0, -1), (3, 1, 1), (4, 1, -1)])
def test_take_goes_up_put_down_open_grows_and_close_shrinks(verb, measure, sign):
    early, late = (position(verb, at)[measure] for at in (0.0, 1.0))
    assert sign * (late - early) > 8


def test_a_tremble_hides_the_direction_from_a_short_clip():
    # This is one second of a segment of four.
    heights = [position(0, at)[0] for at in np.linspace(0.25, 0.5, 11)]
    steps = np.sign(np.diff(heights))
    assert 1 in steps and -1 in steps


def test_kitchens_differ_by_participant_and_stay_the_same_in_all_their_videos():
    looks = {v.video_id: hard.look(v, 0) for v in SHEET}
    assert looks["P01_01"] == looks["P01_101"] == looks["P01_05"]
    assert len({looks[f"P0{n}_01"].tint for n in range(1, 8)}) == 7


def test_csvs_and_pictures_are_made_of_the_same_segments(tmp_path):
    video = replace(SHEET[0], duration=6.006)
    write_annotations([video, replace(video, video_id="P01_02", split="val")], tmp_path, 0, "hard")
    table = pd.read_csv(tmp_path / "EPIC_100_train.csv")
    assert table["narration_id"].tolist() == [a.narration_id for a in hard.schedule(video, 0)]
    assert set(table["verb"]) <= set(hard.VERBS.values())
    write_video(video, tmp_path / "hard.MP4", 0, level="hard")
    write_video(video, tmp_path / "easy.MP4", 0)
    assert (tmp_path / "hard.MP4").read_bytes() != (tmp_path / "easy.MP4").read_bytes()
