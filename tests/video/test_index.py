"""The index of a file, and the files of indexes: a job reads each once."""

import multiprocessing
import zipfile
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.segments.annotations import frames_between
from epic100.video.index import VideoIndex, build_index
from epic100.video.index_file import (
    FOLDER,
    find_index,
    load_index,
    load_indexes,
    write_indexes,
)
from epic100.video.reader import VideoReader
from support.damage import overwrite
from support.made_index import index_at
from support.packets import decoded
from support.scanned import inspect
from support.tricky_videos import encode


def test_the_scan_s_index_leaves_out_key_frames_that_are_none(sound):
    path = sound["intra_refresh"]
    _, index = inspect(path, "v")
    assert len(index.key_pts) == 1 < len(build_index(path).key_pts)
    (picture,) = VideoReader(path, index).get_frames([100])
    assert np.array_equal(picture, decoded(path)[int(index.pts[100])])


def test_rate_and_evenness_are_measured_and_a_gap_ends_evenness_only_behind_it(sound):
    even, uneven, one, paused = (
        build_index(sound[name]) for name in ("b_frames", "variable_rate", "one_picture", "paused")
    )
    assert even.is_constant() and not uneven.is_constant() and not paused.is_constant()
    # The gap is no part of the rate.
    for index in (even, paused):
        assert index.fps == pytest.approx(30000 / 1001, abs=1e-9)
    assert (one.frames, one.fps, one.is_constant()) == (1, 0.0, True)
    before = np.arange(paused.frames) <= 57
    assert paused.is_constant(before) and not paused.is_constant(~before)


def test_frames_between_seconds_agrees_with_the_annotations_rule_where_the_rate_is_constant():
    pts = np.arange(500) * 1001
    index = index_at(pts, Fraction(1, 60000))
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 7.8, 300)
    stop = np.minimum(start + rng.uniform(0.05, 3, 300), 8.3)
    ours, theirs = index.frames_between(start, stop), frames_between(start, stop, index.fps)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(4))
def test_frames_between_seconds_follows_the_pictures_where_the_rate_varies(seed):
    rng = np.random.default_rng(seed)
    # Times are in hundredths of a second, and picture i is shown until the next one.
    pts = np.cumsum(rng.integers(1, 9, 800)) + 37
    index, shown = index_at(pts, Fraction(1, 100)), pts - pts[0]
    starts = rng.integers(0, int(shown[-1]) - 5, 60)
    stops = starts + rng.integers(1, 300, 60)
    ranges = np.stack(index.frames_between(starts / 100, stops / 100), axis=1)
    for start, stop, (first, end) in zip(starts, stops, ranges, strict=True):
        seen = np.flatnonzero((np.append(shown[1:], np.inf) > start) & (shown < stop))
        assert (seen[0], seen[-1] + 1) == (first, end)
    # A segment that starts behind the last picture starts at frame F.
    assert index.frames_between(shown[-1] + 1.0, shown[-1] + 2.0)[0] == 800


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("frame", 3, r"not 0 to 2, the first is number 1"),
        ("frame", 0, "that is two frames"),
        ("frame", -1, r"\[frame\] hold .* not 0 to 2"),
        ("sets", 1, r"\[sets\] hold .* not -1 to 0"),
        ("shown", 0, "that is no picture"),
        ("shown", 2, r"\[shown\]"),
        ("offset", 3, r"\[end\]"),
        ("offset", -1, r"\[offset\]"),
        ("size", -1, r"\[size\]"),
        ("size", 3, r"\[end\] .* 3, "),
        ("pts", 2**62, r"\[pts\]"),
        ("pts", -1, "values do not rise"),
        ("dts", -(2**63), r"\[dts\]"),
    ],
)
def test_an_index_that_points_beyond_its_packets_is_refused(tmp_path, column, value, words):
    index = index_at([0, 1, 2], Fraction(1, 30))
    index.packets[column][1] = value
    write_indexes({"P01_01": index}, tmp_path / "P01.index.npz")
    with pytest.raises(EpicError, match=rf"not a whole frame index .*{words}"):
        load_index(tmp_path / "P01.index.npz", "P01_01")
    arrays = index_at([0, 1, 2], Fraction(1, 30)).to_arrays()
    with pytest.raises(ValueError, match="values for . packets"):
        VideoIndex.from_arrays(arrays | {column: arrays[column][:2]})
    for facts in ("{", "{}", "[]", str(arrays["stream"]).replace("colours", "colors")):
        with pytest.raises(EpicError, match="no frame index of this version"):
            VideoIndex.from_arrays(arrays | {"stream": np.array(facts)})


def test_a_text_tag_that_is_not_utf_8_costs_no_video(tmp_path):
    """Old cameras write such tags: "Küche" has one byte for its second letter in Latin-1."""
    path = encode(tmp_path / "v.MP4", 30)
    # FFmpeg names itself in a text tag of each file.
    overwrite(path, path.read_bytes().index(b"Lavf"), "Kü".encode("latin-1"))
    assert build_index(path).frames == 30
    assert inspect(path, "v")[0].status == "ok"


KINDS = ("b_frames", "cut_start", "variable_rate", "paused", "one_picture", "matroska")
FIRST, SECOND = "videos/P01/b_frames.MP4", "videos/P01/cut_start.MP4"


@pytest.fixture
def folder(tmp_path):
    """A folder for indexes of P01 and P02."""
    return tmp_path / "scan"


@pytest.fixture
def built(sound, folder):
    """The indexes of P01 and P02, by path."""
    built = {kind: build_index(sound[kind]) for kind in KINDS}
    for participant in ("P01", "P02"):
        write_indexes(built, folder / f"{participant}.index.npz")
    return {f"videos/P01/{kind}.MP4": index for kind, index in built.items()}


@pytest.fixture(autouse=True)
def nothing_read():
    """No file is read yet."""
    load_indexes.cache_clear()


def assert_same(folder, built) -> None:
    """Assert that the indexes in `folder` are equal to those that were built."""
    load_indexes.cache_clear()
    for path, index in built.items():
        found = find_index(folder, path)
        assert (found.frames, found.fps) == (index.frames, index.fps)
        assert (found.stream, found.sets, found.direct) == (index.stream, index.sets, index.direct)
        assert np.array_equal(found.packets, index.packets)


def test_what_is_read_is_what_was_written(folder, built):
    assert_same(folder, built)


def test_a_file_is_read_once_a_process_whatever_becomes_of_it_and_a_later_one_is_found(
    folder, built
):
    assert find_index(folder, "videos/P03/b_frames.MP4") is None
    (folder / "P02.index.npz").rename(folder / "P03.index.npz")
    assert find_index(folder, "videos/P03/b_frames.MP4").frames == built[FIRST].frames
    first = find_index(folder, FIRST)
    (folder / "P01.index.npz").unlink()
    assert find_index(str(folder), FIRST) is first
    assert find_index(folder, SECOND).frames == built[SECOND].frames
    assert find_index(folder, "videos/P01/no_such.MP4") is None


def test_a_file_that_is_no_index_is_tried_again(folder, built):
    path = folder / "P02.index.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(EpicError, match=r"P02\.index\.npz: not a whole frame index"):
        find_index(folder, "videos/P02/b_frames.MP4")
    path.write_bytes(whole)
    assert find_index(folder, "videos/P02/b_frames.MP4").frames == built[FIRST].frames


def spoil_the_zip(path: Path) -> None:
    """The error of this zip repeats both names of a member."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a" * 5000, "format.npy"):
            archive.writestr(name, b"")
        archive.getinfo("format.npy").header_offset = 0


@pytest.mark.parametrize(
    "spoil", [spoil_the_zip, lambda path: np.savez(path, format="epic100 frame indexes 7")]
)
def test_an_index_of_another_kind_is_one_short_line_that_says_what_makes_it_again(
    spoil, folder, built
):
    path = folder / "P01.index.npz"
    spoil(path)
    for read in (partial(find_index, folder), lambda file: load_index(path, "b_frames")):
        with pytest.raises(EpicError, match="P01.*not a whole frame index.*again") as caught:
            read(FIRST)
        assert len(str(caught.value)) < len(str(path)) + 350


def test_processes_of_a_node_map_one_copy_and_do_without_where_there_is_no_room(
    folder, built, tmp_path, monkeypatch
):
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv(FOLDER, str(tmp_path / "shared"))
    # The other process gets this environment.
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=find_index, args=(folder, FIRST))
    other.start()
    other.join()
    (copy,) = (p for p in (tmp_path / "shared").iterdir() if p.suffix != ".lock")
    before = copy.stat().st_ino
    assert_same(folder, built)
    assert copy.stat().st_ino == before
    held = find_index(folder, FIRST)
    assert held.frames and str(copy) in Path("/proc/self/maps").read_text()
    # It is a file, and not a folder.
    monkeypatch.setenv(FOLDER, str(copy))
    again = find_index(folder, "videos/P02/paused.MP4")
    assert again.frames == built["videos/P01/paused.MP4"].frames
