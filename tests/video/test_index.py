"""The index of a video file, and the files of indexes, which a process reads once each."""

import zipfile
from fractions import Fraction

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.video.build_index import build_index
from epic100.video.index import FrameError, find_index, load_indexes, write_indexes
from epic100.video.reader import VideoReader
from support.packets import decoded
from support.scanned import index_at, index_of, inspect
from support.tricky_videos import parts_of, show_parts, two_entries


def test_the_index_has_closed_key_frames_only(undamaged):
    # With gradual refresh, the container marks frames as key frames that refer to others.
    path = undamaged["intra_refresh"]
    _, index = inspect(path, "v")
    assert len(index_of(path).key_pts) > 1
    assert len(index.key_pts) == 1
    # This frame is behind several of the marked ones.
    (frame,) = VideoReader(path, index).get_frames([100])
    assert np.array_equal(frame, decoded(path)[int(index.pts[100])])


@pytest.mark.parametrize(
    ("name", "rate", "is_constant"),
    [
        pytest.param("b_frames", 30000 / 1001, True, id="constant"),
        # It is the mean over the steps of at most 1.5 times the median; longer ones are gaps.
        pytest.param("variable_rate", 22.2604, False, id="variable"),
        pytest.param("paused", 30000 / 1001, False, id="a pause is not part of the rate"),
        pytest.param("one_frame", 0.0, True, id="one frame has no rate"),
    ],
)
def test_rate_and_constancy_are_measured(name, rate, is_constant, undamaged):
    index = index_of(undamaged[name])
    assert index.fps == pytest.approx(rate, rel=1e-5)
    assert index.is_constant() == is_constant


def test_frames_after_a_pause_are_not_constant(undamaged):
    index = index_of(undamaged["paused"])
    # The camera pauses after frame 57.
    before = np.arange(index.frames) <= 57
    assert index.is_constant(before)
    assert not index.is_constant(~before)


@pytest.mark.parametrize("seed", range(4))
def test_seconds_become_the_frames_shown_then(seed):
    rng = np.random.default_rng(seed)
    # Times are in hundredths of a second, and each frame is shown until the next one.
    pts = np.cumsum(rng.integers(1, 9, 800)) + 37
    index, begins = index_at(pts, Fraction(1, 100)), pts - pts[0]
    ends = np.append(begins[1:], np.inf)
    starts = rng.integers(0, int(begins[-1]) - 5, 60)
    stops = starts + rng.integers(1, 300, 60)
    firsts, lasts = index.frames_between(starts / 100, stops / 100)
    for start, stop, first, last in zip(starts, stops, firsts, lasts, strict=True):
        seen = np.flatnonzero((ends > start) & (begins < stop))
        assert (first, last) == (seen[0], seen[-1] + 1)


def test_a_late_segment_starts_at_the_end():
    index = index_at([0, 1, 2], Fraction(1, 30))
    start, _ = index.frames_between(5.0, 6.0)
    assert start == 3


FIRST, SECOND = "videos/P01/b_frames.MP4", "videos/P01/cut_start.MP4"


@pytest.fixture
def built(undamaged, tmp_path):
    """The indexes in the files of P01 and P02, which are the same, by the paths of P01's videos."""
    # Indexes that earlier tests have read are forgotten, and those of this test when it is over.
    load_indexes.cache_clear()
    built = {
        name: index_of(undamaged[name])
        for name in ("b_frames", "cut_start", "variable_rate", "paused", "one_frame")
    }
    for participant in ("P01", "P02"):
        write_indexes(built, tmp_path / f"{participant}.index.npz")
    return {f"videos/P01/{name}.MP4": index for name, index in built.items()}


def test_indexes_are_read_as_they_were_written(tmp_path, built):
    for path, index in built.items():
        found = find_index(tmp_path, path).to_arrays()
        assert all(np.array_equal(found[name], array) for name, array in index.to_arrays().items())


def test_a_file_of_indexes_is_read_once(tmp_path, built):
    first = find_index(tmp_path, FIRST)
    (tmp_path / "P01.index.npz").unlink()
    assert find_index(str(tmp_path), FIRST) is first
    assert find_index(tmp_path, SECOND).frames == built[SECOND].frames
    assert find_index(tmp_path, "videos/P01/no_such.MP4") is None


def test_a_later_file_of_indexes_is_found(tmp_path, built):
    assert find_index(tmp_path, "videos/P03/b_frames.MP4") is None
    (tmp_path / "P02.index.npz").rename(tmp_path / "P03.index.npz")
    assert find_index(tmp_path, "videos/P03/b_frames.MP4").frames == built[FIRST].frames


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(two_entries, id="two entries"),
        pytest.param(
            lambda parts, out: show_parts(parts[0], [(30, 20), (0, 20)], out),
            id="parts in another order",
        ),
        pytest.param(
            lambda parts, out: show_parts(parts[0], [(0, 20), (0, 20)], out),
            id="a part twice",
        ),
    ],
)
def test_a_film_in_parts_names_the_command(make, tmp_path):
    parts = parts_of(tmp_path, {}, {"ref": 1, "cabac": 0})
    path = make(parts, tmp_path / "v.MP4")
    with pytest.raises(
        FrameError,
        match="joins several films or parts; .*make one: `ffmpeg .* -fps_mode",
    ):
        build_index(path)
    row, index = inspect(path, "v")
    assert (row.status, index) == ("unreadable", None)


def write_zip_with_a_long_name(path) -> None:
    """Write a zip whose error message has 5000 characters: it repeats both names of a member."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a" * 5000, b"")
        archive.writestr("format.npy", b"")
        archive.getinfo("format.npy").header_offset = 0


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(write_zip_with_a_long_name, id="long name"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:100]), id="truncated"),
        pytest.param(
            lambda path: np.savez(path, format="epic100 frame indexes 5"), id="other version"
        ),
    ],
)
def test_a_spoilt_file_of_indexes_is_rejected(spoil, tmp_path, built):
    path = tmp_path / "P01.index.npz"
    whole = path.read_bytes()
    spoil(path)
    with pytest.raises(
        EpicError, match=r"P01\.index\.npz: not a complete frame index.*again"
    ) as caught:
        find_index(tmp_path, FIRST)
    assert len(str(caught.value)) < len(str(path)) + 350
    path.write_bytes(whole)
    assert find_index(tmp_path, FIRST).frames == built[FIRST].frames
