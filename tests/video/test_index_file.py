"""A job reads each file of indexes once, and what it holds is what the files say."""

import multiprocessing
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.video.index import build_index
from epic100.video.index_file import (
    FOLDER,
    find_index,
    load_index,
    load_indexes,
    write_indexes,
)

KINDS = ("b_frames", "cut_start", "variable_rate", "paused", "one_picture", "matroska")
FIRST, SECOND = "videos/P01/b_frames.MP4", "videos/P01/cut_start.MP4"


@pytest.fixture
def folder(tmp_path):
    """A folder for indexes of P01 and P02."""
    return tmp_path / "scan"


@pytest.fixture
def built(sound, folder):
    """Those indexes, by path."""
    built = {kind: build_index(sound[kind]) for kind in KINDS}
    for participant in ("P01", "P02"):
        write_indexes(built, folder / f"{participant}.index.npz")
    return {f"videos/P01/{kind}.MP4": index for kind, index in built.items()}


@pytest.fixture(autouse=True)
def nothing_read():
    """No file is read yet."""
    load_indexes.cache_clear()


def assert_same(folder, built) -> None:
    """The indexes below `folder` say what those that were built say."""
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


@pytest.mark.parametrize("kind", ["another version", "a bad zip"])
def test_an_index_of_another_kind_is_one_short_line_that_says_what_makes_it_again(
    kind, folder, built
):
    path = folder / "P01.index.npz"
    with np.load(path) as arrays:
        found = dict(arrays)
    # The error of this zip repeats both names of a member.
    if kind == "a bad zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("a" * 5000, "format.npy"):
                archive.writestr(name, b"")
            archive.getinfo("format.npy").header_offset = 0
    else:
        np.savez_compressed(path, **found | {"format": np.array("epic100 frame indexes 7")})
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
