"""Extracted frames are scanned and read as the video is: a tar of JPEGs, or a folder of them."""

import os
import shutil
import tarfile
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from epic100.minikitchen.damage import truncate
from epic100.scan.damage import clock_finding
from epic100.scan.frames import list_frames
from epic100.scan.participant import scan_participant
from epic100.video.index import load_index
from epic100.video.reader import FrameError, VideoReader
from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video
from support.scanned import inspect
from support.this_process import records_of
from support.tricky_videos import draw_frames, frame_file, pack, write_frames

# The frames of these tests last a second at the official 60 frames a second.
FRAMES, SIZE = 60, (114, 64)
VIDEO = Video("P01_01", "P01", "train", fps=60000 / 1001, duration=1.0)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_frames(tmp_path / "P01/rgb_frames/P01_01", draw_frames(FRAMES, SIZE))


def scan(path: Path, fps: float = 60000 / 1001, duration: float = 1.0):
    """Scan frames in this process; return their row and their index."""
    return inspect(path, "P01_01", seconds=duration, fps=fps)


@pytest.mark.parametrize(
    "store",
    [
        pytest.param(lambda folder: folder, id="folder"),
        pytest.param(pack, id="tar"),
        pytest.param(partial(pack, order=-1), id="tar in another order"),
    ],
)
def test_frames_are_read_as_each_jpeg_decodes(store, folder):
    path = store(folder)
    row, index = scan(path)
    assert (row.status, row.frames, row.fps) == ("ok", FRAMES, 60.0)
    assert (row.judged, row.timing) == ("frames", "constant")
    reader = VideoReader(path, index)
    for frame in np.random.default_rng(0).permutation(FRAMES)[:20].tolist():
        (decoded,) = av.open(str(frame_file(folder, frame))).decode(video=0)
        (read,) = reader.get_frames([frame])
        assert np.array_equal(read, decoded.to_ndarray(format="rgb24"))
    assert reader.get_frames([7, 7, 3], (32, 57)).shape == (3, 32, 57, 3)


@pytest.mark.parametrize("store", [lambda folder: folder, pack], ids=["folder", "tar"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(Path.unlink, "2 frames have no file", id="number missing"),
        pytest.param(
            lambda jpeg: jpeg.write_bytes(b""), "2 frames have no file, or an", id="empty"
        ),
        pytest.param(partial(truncate, fraction=0.5), "2 packets do not decode", id="cut"),
        pytest.param(lambda jpeg: jpeg.write_text("404"), "2 p", id="no frame"),
        pytest.param(lambda jpeg: jpeg.write_bytes(bytes(jpeg.stat().st_size)), "2 p", id="zeros"),
        pytest.param(
            lambda jpeg: cv2.imwrite(str(jpeg), np.zeros((128, 228, 3), np.uint8)),
            "2 frames are of another size",
            id="another size",
        ),
    ],
)
def test_damaged_frames_keep_their_numbers(spoil, reason, store, folder):
    for frame in (10, 11):
        spoil(frame_file(folder, frame))
    path = store(folder)
    row, index = scan(path)
    assert (row.status, row.damaged) == ("damaged", [(10, 12)])
    assert reason in row.reason
    reader = VideoReader(path, index)
    assert reader.get_frames([9, 12]).any()
    if not index.packets[10]["size"]:
        with pytest.raises(FrameError, match="P01_01.*: frame 10 does not decode"):
            reader.get_frames([10])


def test_a_broken_tar_is_damaged_from_there(folder):
    path = pack(folder)
    truncate(path, 0.5)
    row, index = scan(path)
    ((start, stop),) = row.damaged
    assert index.frames == start
    assert stop == FRAMES
    assert 20 < start < stop
    assert f"truncated: {start} of {FRAMES} frames are in the file" in row.reason
    assert VideoReader(path, index).get_frames([start - 1]).any()
    assert clock_finding(row, index, VIDEO.duration) == ""


@pytest.mark.parametrize(
    ("write", "words"),
    [
        pytest.param(
            lambda path: path.write_bytes(b"\1" * 5000), "no plain tar of frames", id="no tar"
        ),
        pytest.param(
            lambda path: tarfile.open(path, "w:gz").close(),
            "no plain tar of frames",
            id="compressed",
        ),
        pytest.param(lambda path: tarfile.open(path, "w").close(), "no frames in it", id="empty"),
    ],
)
def test_a_tar_without_frames_is_unreadable(write, words, tmp_path):
    path = tmp_path / "P01/rgb_frames/P01_01.tar"
    path.parent.mkdir(parents=True)
    write(path)
    (row,), _ = scan_lab(tmp_path)
    assert row.status == "unreadable"
    assert words in row.reason


def scan_lab(root: Path) -> tuple[list[ScanRow], list[str]]:
    """Scan the participant of a lab; return the rows, and the lines of the log."""
    with records_of("epic100.scan.participant") as lines:
        rows = scan_participant([VIDEO], root, root / "P01.tsv", root / "P01.index.npz")
    return rows, lines


def test_other_names_are_no_frames(folder):
    for name in ("frame_0000000000.jpg", "frame_1.jpg", "img_0000000001.jpg", "notes.txt"):
        shutil.copy(frame_file(folder, 0), folder / name)
    for source in (folder, pack(folder)):
        packets, _ = list_frames(source)
        assert len(packets) == FRAMES


@pytest.mark.parametrize(
    ("fps", "duration", "rate", "finding"),
    [
        pytest.param(60000 / 1001, 1.0, 60.0, "", id="official"),
        pytest.param(30.0, 2.0, 30.0, "", id="the sheet's"),
        pytest.param(
            60000 / 1001,
            9.0,
            60.0,
            "its frames last 1.00 s, the sheet says 9.00 s",
            id="neither",
        ),
    ],
)
def test_frames_have_the_official_rate_if_it_fits(fps, duration, rate, finding, folder):
    row, index = scan(folder, fps, duration)
    assert index.fps == rate
    assert clock_finding(row, index, duration, fps) == finding


def test_frames_are_found_in_their_layout(folder, tmp_path):
    pack(folder)
    shutil.rmtree(folder)
    first, lines = scan_lab(tmp_path)
    assert first[0].status == "ok"
    assert load_index(tmp_path / "P01.index.npz", "P01_01").frames == FRAMES
    assert lines == ["1 videos: 1 ok; 1 of them decoded now"]
    _, lines = scan_lab(tmp_path)
    assert lines == ["1 videos: 1 ok; 0 of them decoded now"]


def test_a_frame_replaced_since_is_an_error(folder):
    _, index = scan(folder)
    os.replace(frame_file(folder, 20), frame_file(folder, 30))
    reader = VideoReader(folder, index)
    with pytest.raises(FrameError, match="is not the file that was scanned"):
        reader.get_frames([30])
    with pytest.raises(FrameError, match="No such file"):
        reader.get_frames([20])


def test_a_folder_may_lack_its_first_frame(folder):
    frame_file(folder, 0).unlink()
    row, index = scan(folder)
    assert (row.status, row.damaged) == ("damaged", [(0, 1)])
    assert "1 frames have no file" in row.reason
    reader = VideoReader(folder, index)
    assert reader.get_frames([1, FRAMES - 1]).any()
    with pytest.raises(FrameError, match="P01_01.*: frame 0 does not decode"):
        reader.get_frames([0])
