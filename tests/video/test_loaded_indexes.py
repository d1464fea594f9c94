"""A job reads each file of indexes once, and what it holds is what the files say."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.video.index import PackedIndex, VideoIndex, build_index
from epic100.video.index_file import load_index, write_indexes
from epic100.video.loaded_indexes import LoadedIndexes
from epic100.video.reader import VideoReader
from epic100.video.shared_arrays import FOLDER

KINDS = ("b_frames", "cut_start", "variable_rate", "paused", "one_picture", "matroska")


@pytest.fixture
def archive(sound, tmp_path):
    """Indexes of P01 and P02, and the kinds by path."""
    built = {kind: build_index(sound[kind]) for kind in KINDS}
    write_indexes(built, tmp_path / "P01.index.npz")
    write_indexes(built, tmp_path / "P02.index.npz")
    return tmp_path, {f"videos/P01/{kind}.MP4": index for kind, index in built.items()}


def test_a_packed_index_says_what_the_whole_one_says(archive, sound):
    folder, built = archive
    loaded = LoadedIndexes(folder)
    for path, index in built.items():
        found = loaded.find(path)
        assert isinstance(found, PackedIndex)
        assert (found.frames, found.fps) == (index.frames, index.fps)
        places = np.random.default_rng(0).integers(0, index.frames, 20)
        assert np.array_equal(found.pts_of(places), index.pts[places])
        assert np.array_equal(found.key_pts, index.key_pts)
        assert np.array_equal(found.key_dts, index.key_dts)
        file = sound[path.rpartition("/")[2].removesuffix(".MP4")]
        frames = [index.frames - 1, index.frames // 2]
        expected = VideoReader(file, index).get_frames(frames)
        assert np.array_equal(VideoReader(file, found).get_frames(frames), expected)


def test_a_file_of_indexes_is_read_once_and_one_that_comes_later_is_found(archive):
    folder, built = archive
    loaded, (first, second, *_) = LoadedIndexes(folder), built
    assert loaded.find("videos/P03/b_frames.MP4") is None
    (folder / "P02.index.npz").rename(folder / "P03.index.npz")
    assert loaded.find("videos/P03/b_frames.MP4").frames == built[first].frames
    loaded.load([first])
    (folder / "P01.index.npz").unlink()
    assert loaded.find(first) is loaded.find(first)
    assert loaded.find(second).frames == built[second].frames
    assert loaded.find("videos/P01/no_such.MP4") is None


def test_datasets_of_one_process_share_an_index_until_its_file_is_another(archive):
    folder, built = archive
    path = next(iter(built))
    loaded = LoadedIndexes(folder)
    first = loaded.find(path)
    assert LoadedIndexes(folder).find(path) is first
    write_indexes({"b_frames": built[path]}, folder / "P01.index.npz")
    assert LoadedIndexes(folder).find(path) is not first
    assert loaded.find(path) is first


def test_one_file_that_is_no_index_stops_no_other_and_is_tried_again(archive):
    folder, built = archive
    loaded, first = LoadedIndexes(folder), next(iter(built))
    whole = (folder / "P02.index.npz").read_bytes()
    (folder / "P02.index.npz").write_bytes(whole[:100])
    paths = ["videos/P02/b_frames.MP4", first]
    with pytest.raises(EpicError, match=r"P02\.index\.npz: not a whole frame index"):
        loaded.load(paths)
    (folder / "P01.index.npz").unlink()
    assert loaded.find(first).frames == built[first].frames
    (folder / "P02.index.npz").write_bytes(whole)
    loaded.load(paths)


def test_an_index_of_before_stays_whole(archive):
    folder, built = archive
    index = next(iter(built.values()))
    names = ("steps", "key_pts", "key_dts", "time_base")
    old = {f"v/{name}": index.to_arrays()[name] for name in names}
    np.savez_compressed(folder / "P04.index.npz", **old)
    found = LoadedIndexes(folder).find("P04/v.MP4")
    assert isinstance(found, VideoIndex) and found.table is None
    assert np.array_equal(found.pts, load_index(folder / "P04.index.npz", "v").pts)


def test_processes_of_a_node_map_one_copy_and_do_without_where_there_is_no_room(
    archive, sound, tmp_path, monkeypatch
):
    folder, built = archive
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv(FOLDER, str(tmp_path / "shared"))
    code = (
        "import sys; from epic100.video.loaded_indexes import LoadedIndexes;"
        "LoadedIndexes(sys.argv[1]).load(sys.argv[2:])"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), *built], check=True)
    (copy,) = (p for p in (tmp_path / "shared").iterdir() if p.suffix != ".lock")
    before = copy.stat().st_ino
    loaded = LoadedIndexes(folder)
    for path, index in built.items():
        found = loaded.find(path)
        assert np.array_equal(found.pts_of(np.arange(index.frames)), index.pts)
        assert found.table.direct == index.table.direct
        file = sound[path.rpartition("/")[2].removesuffix(".MP4")]
        frames = [index.frames - 1, index.frames // 2]
        expected = VideoReader(file, index).get_frames(frames)
        assert np.array_equal(VideoReader(file, found).get_frames(frames), expected)
    assert copy.stat().st_ino == before and str(copy) in Path("/proc/self/maps").read_text()
    monkeypatch.setenv(FOLDER, str(copy))  # not a folder
    again = LoadedIndexes(folder).find("videos/P02/paused.MP4")
    assert again.frames == built["videos/P01/paused.MP4"].frames
