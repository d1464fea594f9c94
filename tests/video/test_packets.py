"""Packets are read by their places, many at once, from the file that was scanned."""

import errno
import gc
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from epic100.base import disk
from epic100.base.disk import WatchedFile
from epic100.base.errors import DiskError
from epic100.scan.h264 import parse_sps
from epic100.scan.nal import Bits, SetRecord, escaped
from epic100.video import packets
from epic100.video.index import VideoIndex
from epic100.video.packets import read_packets
from epic100.video.reader import FrameError, SharedCaches, VideoReader
from support.damage import flip, overwrite
from support.packets import decoded
from support.scanned import index_of, inspect
from support.tricky_videos import encode, join, parts_of


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("packets") / "v.MP4", 90, **{"b-pyramid": "normal"})


@pytest.fixture(scope="module")
def index(video) -> VideoIndex:
    return index_of(video)


# The encodes of each codec are joined. All their sets have the same number, and stand before each
# key frame, as in files that were joined by copy. Those of the first encode are in the head of the
# file alone.
SETS = {
    "h264": (
        {"qp": 20, "colormatrix": "bt709"},
        {"cabac": 0, "ref": 1, "colormatrix": "smpte170m", "repeat_headers": 1},
        {"ref": 5, "weightp": 2, "chroma-qp-offset": 6, "fullrange": "on", "repeat_headers": 1},
    ),
    "hevc": (
        {"codec": "libx265", "x265": {"amp": 0, "sao": 0}},
        {"codec": "libx265", "x265": {"ref": 1, "range": "full", "repeat-headers": 1}},
    ),
}


@pytest.mark.parametrize("codec", SETS)
def test_frames_behind_other_parameter_sets_are_damaged(codec, tmp_path):
    path = join(parts_of(tmp_path, *SETS[codec]), tmp_path / "v.MP4")
    row, index = inspect(path, "v")
    # Each part has 60 frames.
    assert row.damaged == [(60, index.frames)]
    assert "have other parameter sets" in row.reason
    expected = decoded(path)
    # The later parts are read between, so they must change nothing.
    for number in (30, 100, 50, index.frames - 1, 10):
        (frame,) = VideoReader(path, index).get_frames([number])
        if number < 60:
            assert np.array_equal(frame, expected[int(index.pts[number])])


@pytest.mark.parametrize(
    ("name", "all_are_decoded"),
    [
        pytest.param("b_frames", False, id="one slice per frame"),
        pytest.param("slices", True, id="several slices per frame"),
    ],
)
def test_unneeded_packets_are_not_decoded(undamaged, name, all_are_decoded):
    index = index_of(undamaged[name])
    wanted = int(index.pts[20])
    stop = int(index.packets["frame"][20]) + 1
    with WatchedFile(undamaged[name]) as file:
        packets = list(read_packets(undamaged[name], file, index, 0, stop, {wanted}))
    decoded_times = [packet.pts for packet, _ in packets]
    assert decoded_times[-1] == wanted
    times = index.packets["pts"].tolist()
    assert (decoded_times == times[: times.index(wanted) + 1]) == all_are_decoded


def open_descriptors() -> int:
    """The number of files that this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_few_files_stay_open(undamaged, monkeypatch):
    monkeypatch.setattr("epic100.video.reader.MAX_FILES", 3)
    names = ["b_frames", "cavlc", "b_frames", "hevc", "444", "10_bit"]
    indexes = {name: index_of(undamaged[name]) for name in names}
    # Files that earlier tests left are closed now, not later.
    gc.collect()
    before, caches = open_descriptors(), SharedCaches()
    for name in names:
        VideoReader(undamaged[name], indexes[name], caches=caches).get_frames([10, 3])
    assert open_descriptors() == before + 3
    caches.files.cache_clear()
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("soft_limit", "file_count"),
    [
        pytest.param(resource.RLIM_INFINITY, 512, id="no limit"),
        pytest.param(4096, 512, id="more than needed"),
        pytest.param(256, 128, id="half of a low limit"),
        pytest.param(1, 1, id="at least one"),
    ],
)
def test_open_files_take_half_the_descriptors(soft_limit, file_count, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft_limit, soft_limit))
    assert SharedCaches().files.cache_parameters()["maxsize"] == file_count


@pytest.mark.parametrize(
    ("between", "at_once", "is_one_read"),
    [
        pytest.param(1 << 16, 1 << 22, True, id="small and near"),
        pytest.param(0, 1 << 22, False, id="apart"),
        pytest.param(1 << 16, 700, False, id="large"),
    ],
)
def test_small_near_packets_are_read_together(
    between, at_once, is_one_read, undamaged, monkeypatch
):
    monkeypatch.setattr("epic100.video.packets.MAX_GAP_BYTES", between)
    monkeypatch.setattr("epic100.video.packets.MAX_READ_BYTES", at_once)
    # Packets of the other stream are in between.
    path = undamaged["two_streams"]
    index = index_of(path)
    expected = [*decoded(path).values()][:10]
    read_at = mock.create_autospec(disk.WatchedFile.read_at, side_effect=disk.WatchedFile.read_at)
    monkeypatch.setattr(disk.WatchedFile, "read_at", read_at)
    assert np.array_equal(VideoReader(path, index).get_frames(range(10)), expected)
    assert (read_at.call_count == 1) == is_one_read


@pytest.mark.parametrize(
    ("change", "is_open"),
    [
        pytest.param(
            lambda path, key: overwrite(path, path.stat().st_size, b"\0\0\0\x10free" + bytes(8)),
            False,
            id="longer",
        ),
        pytest.param(lambda path, key: flip(path, key + 500, 7), True, id="same length"),
        pytest.param(lambda path, key: os.truncate(path, key + 600), True, id="truncated"),
        pytest.param(lambda path, key: overwrite(path, key + 100, b"x"), True, id="other packets"),
    ],
)
def test_a_file_changed_since_scanning_is_an_error(change, is_open, video, index, tmp_path):
    path, caches = Path(shutil.copy(video, tmp_path / "v.MP4")), SharedCaches()
    if is_open:
        VideoReader(path, index, caches=caches).get_frames([5])
    # Frame 45 is in the second group, whose key frame is changed.
    change(path, int(index.packets["offset"][index.keys[1]]))
    with pytest.raises(FrameError, match=r"v\.MP4: is not the file that was scanned"):
        VideoReader(path, index, caches=caches).get_frames([45])


def test_a_disk_error_reopens_the_file(video, index, monkeypatch):
    caches = SharedCaches()
    expected = VideoReader(video, index, caches=caches).get_frames([40])
    with monkeypatch.context() as patched:
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        patched.setattr(os, "pread", mock.Mock(side_effect=error))
        # There is one more try, without a pause before it.
        patched.setattr(disk, "WAITS", (0.0,))
        with pytest.raises(DiskError, match="reading at byte .* failed 2 times: Input/output err"):
            VideoReader(video, index, caches=caches).get_frames([40])
    opening = mock.Mock(wraps=os.open)
    monkeypatch.setattr(os, "open", opening)
    assert np.array_equal(VideoReader(video, index, caches=caches).get_frames([40]), expected)
    # A thread of another test may open other files.
    paths = [call.args[0] for call in opening.call_args_list]
    assert paths.count(str(video)) == 1


def test_neighbouring_packets_are_read_together_within_limits(video, index, monkeypatch):
    # The last group begins with the last of three key frames, and is the end of the file.
    sizes = index.packets["size"][index.keys[-1] :]
    frames = range(index.frames - 10, index.frames)
    for limit, reads in ((int(sizes.sum()), 1), (0, len(sizes))):
        monkeypatch.setattr(packets, "MAX_READ_BYTES", limit)
        reading = mock.Mock(wraps=os.pread)
        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", reading)
            VideoReader(video, index).get_frames(frames)
        assert reading.call_count == reads


def without_reorder_depth(extradata: bytes) -> bytes:
    """Remove the VUI from the sequence parameter set, as encoders that write none do."""
    record = SetRecord.of(extradata)
    (sps,) = record.sps
    _, height_stop = parse_sps(sps).height_at
    # Three flags follow the height if a video is progressive and not cropped (clause 7.3.2.1.1).
    bits = Bits(sps).digits[: height_stop + 3]
    # The first bit says that no VUI follows, the second one ends the set.
    return replace(record, sps=[escaped(bits + "01")]).packed()


def test_an_unstated_reorder_depth_loses_no_frame(undamaged):
    index = index_of(undamaged["b_frames"])
    frames = range(index.frames)
    expected = VideoReader(undamaged["b_frames"], index).get_frames(frames)
    silent = replace(index, extradata=without_reorder_depth(index.extradata))
    assert np.array_equal(VideoReader(undamaged["b_frames"], silent).get_frames(frames), expected)
