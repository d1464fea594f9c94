from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.scan.worker import inspect
from epic100.segments.annotations import frames_between
from epic100.video.ffmpeg import picture_stream
from epic100.video.index import VideoIndex, build_index
from epic100.video.reader import VideoReader
from support.tricky_videos import (
    audio_only,
    cut_end,
    cut_start,
    encode,
    join,
    two_streams,
    uneven_times,
)

PYRAMID = {"b-pyramid": "normal", "ref": 4}
MAKERS = {
    "b_frames": lambda folder: encode(folder / "v.MP4", **PYRAMID),
    "open_gop": lambda folder: encode(folder / "v.MP4", **{"open-gop": 1}, **PYRAMID),
    "cut_inside_a_group": lambda folder: cut_start(
        encode(folder / "whole.MP4", **PYRAMID), folder / "v.MP4", 45
    ),
    "cut_inside_an_open_group": lambda folder: cut_start(
        encode(folder / "whole.MP4", **{"open-gop": 1}, **PYRAMID), folder / "v.MP4", 45
    ),
    "end_hidden": lambda folder: cut_end(encode(folder / "v.MP4"), 0.6),
    "late_start": lambda folder: encode(
        folder / "v.MP4", times=[20000 + i * 1001 for i in range(120)]
    ),
    "variable_rate": lambda folder: encode(folder / "v.MP4", times=uneven_times(120)),
    "fragmented": lambda folder: encode(folder / "v.MP4", movflags="frag_keyframe+empty_moov"),
    "two_streams": lambda folder: two_streams(folder / "v.MP4"),
    "joined": lambda folder: join(
        [encode(folder / "a.MP4", 50), encode(folder / "b.MP4", 50, seed=2)], folder / "v.MP4"
    ),
}


def decoded(path: Path) -> dict[int, np.ndarray]:
    """Every picture that a decode from the start shows, by its time."""
    with av.open(str(path)) as container:
        frames = container.decode(picture_stream(container))
        return {frame.pts: frame.to_ndarray(format="rgb24") for frame in frames}


@pytest.mark.parametrize("kind", MAKERS)
def test_frame_i_is_the_ith_picture_that_a_whole_decode_shows(kind, tmp_path):
    path = MAKERS[kind](tmp_path)
    pictures, index = decoded(path), build_index(path)
    assert index.pts.tolist() == sorted(pictures)
    reader = VideoReader(path, index)
    wanted = [index.frames - 1, 0, 1, index.frames // 2, index.frames // 3]
    for frame, picture in zip(wanted, reader.get_frames(wanted), strict=True):
        assert np.array_equal(picture, pictures[int(index.pts[frame])]), frame
    reader.close()


def test_a_hidden_key_frame_is_a_place_to_start_from_and_no_picture(tmp_path):
    whole = encode(tmp_path / "whole.MP4", 90)
    index = build_index(cut_start(whole, tmp_path / "cut.MP4", 45))
    assert index.frames < 90 - 30
    assert index.key_pts[0] < index.pts[0] == 0
    assert index.times[0] == 0


def test_the_scan_s_index_leaves_out_key_frames_that_are_none(tmp_path):
    path = encode(tmp_path / "v.MP4", **{"intra-refresh": 1, "bframes": 0})
    _, index = inspect(path, "v")
    assert len(index.key_pts) == 1 < len(build_index(path).key_pts)
    reader = VideoReader(path, index)
    assert np.array_equal(reader.get_frames([100])[0], decoded(path)[int(index.pts[100])])


def test_rate_and_evenness_are_measured(tmp_path):
    even = build_index(encode(tmp_path / "even.MP4"))
    assert even.is_constant
    assert even.fps == pytest.approx(30000 / 1001, abs=1e-9)
    uneven = build_index(encode(tmp_path / "uneven.MP4", times=uneven_times(120)))
    assert not uneven.is_constant
    one = build_index(encode(tmp_path / "one.MP4", 1))
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
    index = VideoIndex(pts, pts[::50], pts[::50], Fraction(1, 60000))
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 7.8, 300)
    stop = np.minimum(start + rng.uniform(0.05, 3, 300), 8.3)
    ours, theirs = index.frames_between(start, stop), frames_between(start, stop, index.fps)
    assert np.array_equal(ours[0], theirs[0])
    assert np.array_equal(ours[1], theirs[1])


def test_frames_between_seconds_follows_the_pictures_where_the_rate_varies():
    index = VideoIndex(
        np.array([0, 10, 20, 100, 110]), np.array([0]), np.array([0]), Fraction(1, 10)
    )
    start, stop = index.frames_between(np.array([0.5, 2.5, 10.5]), np.array([1.5, 9.0, 20.0]))
    assert start.tolist() == [0, 2, 3]
    assert stop.tolist() == [2, 3, 5]
    assert index.frames_between(15.0, 16.0)[0] == 5  # behind the last picture


def test_arrays_give_the_same_index_back(tmp_path):
    index = build_index(encode(tmp_path / "v.MP4", times=uneven_times(120)))
    np.savez(tmp_path / "i.npz", **index.to_arrays("P01_01/"))
    with np.load(tmp_path / "i.npz") as arrays:
        again = VideoIndex.from_arrays(arrays, "P01_01/")
    for name in ("pts", "key_pts", "key_dts"):
        assert np.array_equal(getattr(again, name), getattr(index, name))
    assert again.time_base == index.time_base


def test_a_file_without_pictures_is_a_clear_error(tmp_path):
    text = tmp_path / "text.MP4"
    text.write_text("no video")
    with pytest.raises(EpicError, match=r"text\.MP4: cannot be opened as video"):
        build_index(text)
    with pytest.raises(EpicError, match="no video stream"):
        build_index(audio_only(tmp_path / "audio.MP4"))
