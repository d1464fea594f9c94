from fractions import Fraction

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.scan.worker import inspect
from epic100.segments.annotations import frames_between
from epic100.video.index import VideoIndex, build_index
from epic100.video.reader import VideoReader
from support.damage import decoded
from support.made_index import index_at
from support.tricky_videos import audio_only, encode


def test_a_hidden_key_frame_is_a_place_to_start_from_and_no_picture(sound):
    index = build_index(sound["cut_start"])
    assert index.frames < 120 - 30
    assert index.key_pts[0] < index.pts[0] == 0
    assert index.times[0] == 0


def test_the_scan_s_index_leaves_out_key_frames_that_are_none(sound):
    path = sound["intra_refresh"]
    _, index = inspect(path, "v")
    assert len(index.key_pts) == 1 < len(build_index(path).key_pts)
    (picture,) = VideoReader(path, index).get_frames([100])
    assert np.array_equal(picture, decoded(path)[int(index.pts[100])])


def test_rate_and_evenness_are_measured(sound):
    even, uneven, one = (
        build_index(sound[name]) for name in ("b_frames", "variable_rate", "one_picture")
    )
    assert even.is_constant and not uneven.is_constant
    assert even.fps == pytest.approx(30000 / 1001, abs=1e-9)
    assert (one.frames, one.fps, one.is_constant) == (1, 0.0, True)


def test_a_gap_is_not_part_of_the_rate_and_ends_evenness_only_behind_it(tmp_path):
    times = [i * 1001 + (30030 if i >= 60 else 0) for i in range(120)]
    index = build_index(encode(tmp_path / "v.MP4", times=times))
    assert index.fps == pytest.approx(30000 / 1001, abs=1e-9)
    assert not index.is_constant
    before = np.arange(120) < 60
    assert index.is_constant_at(before)
    assert not index.is_constant_at(~before)


def test_frames_between_seconds_agrees_with_the_annotations_rule_where_the_rate_is_constant():
    pts = np.arange(500) * 1001
    index = index_at(pts, Fraction(1, 60000))
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 7.8, 300)
    stop = np.minimum(start + rng.uniform(0.05, 3, 300), 8.3)
    ours, theirs = index.frames_between(start, stop), frames_between(start, stop, index.fps)
    assert np.array_equal(ours, theirs)


def test_frames_between_seconds_follows_the_pictures_where_the_rate_varies():
    index = index_at([0, 10, 20, 100, 110], Fraction(1, 10))
    start, stop = index.frames_between(np.array([0.5, 2.5, 10.5]), np.array([1.5, 9.0, 20.0]))
    assert start.tolist() == [0, 2, 3]
    assert stop.tolist() == [2, 3, 5]
    assert index.frames_between(15.0, 16.0)[0] == 5  # behind the last picture


def test_arrays_give_the_same_index_back(sound, tmp_path):
    index = build_index(sound["variable_rate"])
    np.savez(tmp_path / "i.npz", **index.to_arrays("P01_01/"))
    with np.load(tmp_path / "i.npz") as arrays:
        again = VideoIndex.from_arrays(arrays, "P01_01/")
    for name in ("pts", "key_pts", "key_dts"):
        assert np.array_equal(getattr(again, name), getattr(index, name))
    assert again.time_base == index.time_base
    assert again.fps == index.fps and not again.is_constant


def test_a_file_without_pictures_is_a_clear_error(tmp_path):
    text = tmp_path / "text.MP4"
    text.write_text("no video")
    with pytest.raises(EpicError, match=r"text\.MP4: cannot be opened as video"):
        build_index(text)
    with pytest.raises(EpicError, match="no video stream"):
        build_index(audio_only(tmp_path / "audio.MP4"))
