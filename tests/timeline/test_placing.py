"""Where clips are: every step has one, at any rate, and none touches damage."""

from fractions import Fraction

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.timeline.clips import clip_frames, place_clips
from support.made_index import index_at

MILLISECOND = Fraction(1, 1000)
STEADY = index_at(range(0, 10_000, 40), MILLISECOND)  # 25 a second for 10 s


def test_each_step_has_a_clip_around_its_middle_inside_the_video():
    placed = place_clips(STEADY, [], 0.5, 20)
    assert len(placed.start) == 20 and placed.sound.all() and placed.duration == 10
    assert (placed.stop - placed.start == 20).all()
    assert placed.start[0] == 0 and placed.stop[-1] == 250
    middle = (placed.start + placed.stop)[2:-2] / 2 / 25
    assert np.abs(middle - (np.arange(2, 18) + 0.5) / 2).max() <= 0.04


def test_no_clip_touches_damage_and_steps_that_do_have_none():
    placed = place_clips(STEADY, [(100, 120)], 0.5, 20)  # 4.0 to 4.8 s
    assert np.flatnonzero(~placed.sound).tolist() == [8, 9]
    assert placed.damaged == [(4.0, 4.8)]
    starts, stops = placed.start[placed.sound], placed.stop[placed.sound]
    assert ((stops <= 100) | (starts >= 120)).all() and (stops - starts == 20).all()


def test_a_sound_stretch_shorter_than_a_clip_is_one_clip():
    placed = place_clips(STEADY, [(0, 100), (125, 250)], 0.5, 60)  # sound from 4 to 5 s
    assert np.flatnonzero(placed.sound).tolist() == [8, 9]
    assert placed.start[8:10].tolist() == [100, 100] and placed.stop[8:10].tolist() == [125, 125]


def test_pictures_that_a_cut_file_promised_are_damaged_time_at_its_end():
    placed = place_clips(STEADY, [(240, 300)], 1.0, 20)
    assert placed.duration == pytest.approx(12) and len(placed.sound) == 12
    assert placed.sound.tolist() == [True] * 9 + [False] * 3
    assert placed.damaged[0] == (pytest.approx(9.6), pytest.approx(12))


def test_at_a_variable_rate_the_times_count_not_the_frame_numbers():
    # 25 pictures a second; in the second half every other one is missing, then a pause of 2 s.
    times = [*range(0, 5000, 40), *range(5000, 10_000, 80), *range(12_000, 13_000, 40)]
    placed = place_clips(index_at(times, MILLISECOND), [], 1.0, 5)
    assert len(placed.start) == 13 and placed.sound.all()
    seconds = np.array(times)[placed.start] / 1000
    assert np.abs(seconds[:10] - np.arange(10) - 0.5).max() < 0.3
    assert seconds[12] == pytest.approx(12.5, abs=0.2)


@pytest.mark.parametrize("times", [[0], [0, 0]])
def test_a_video_of_one_moment_is_one_error(times):
    with pytest.raises(EpicError, match="picture in it; expected a video, with two or more"):
        place_clips(index_at(times, MILLISECOND), [], 0.5, 20)


DENSE = {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6}


@pytest.mark.parametrize("step, fps, window, frames", [
    (DENSE, 60, None, 78),
    (DENSE, 25, None, 78),
    (DENSE | {"target_fps": 30}, 60, None, 156),
    (DENSE, 60, 3.0, 180),
    ({"type": "UniformSample", "clip_len": 16}, 50, None, 100),
    ({"type": "SampleFrames", "clip_len": 1, "num_clips": 8}, 50, None, 100),
])  # fmt: skip
def test_a_clip_spans_what_the_model_was_trained_on(step, fps, window, frames):
    assert clip_frames([step], fps, window) == frames
