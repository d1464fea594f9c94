"""Damage of each type is found; the marked range is no larger than needed, and the rest is read."""

import errno
import os
import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from epic100.base import disk
from epic100.base.errors import DiskError
from epic100.minikitchen.damage import flip_bits, truncate
from epic100.scan import worker
from epic100.video.reader import VideoReader
from support.damage import (
    harmed,
    marked,
    number_at,
    overwrite,
    packets_of,
    place_of,
    random_block,
    zero_tail,
)
from support.packets import decoded, drop_packets, rewrite, swap_packets
from support.scanned import index_of, inspect
from support.tricky_videos import (
    PYRAMID,
    audio_only,
    cut_end,
    encode,
    join,
    parts_of,
)

pytestmark = pytest.mark.slow

# The video of most tests has four groups of 30 frames. Each group begins with its key frame.
FRAMES = 120


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("original") / "v.MP4"
    return encode(path, FRAMES, size=(160, 96), **{"b-pyramid": "normal"})


@pytest.fixture
def video(original, tmp_path) -> Path:
    """A copy of the undamaged video, which a test may damage."""
    return Path(shutil.copy(original, tmp_path / "v.MP4"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            lambda path, seed: zero_tail(rewrite(path, movflags="faststart"), (seed + 1) / 4),
            "",
            id="zeros up to the end",
        ),
        pytest.param(
            lambda path, seed: random_block(path, (seed + 1) / 4, 300, seed),
            "",
            id="300 random bytes",
        ),
        pytest.param(
            lambda path, seed: random_block(path, (seed + 1) / 4, 4000, seed),
            "not complete NAL units",
            id="4000 random bytes",
        ),
        pytest.param(lambda path, seed: flip_bits(path, seed + 1, seed), "", id="flipped bits"),
        pytest.param(swap_packets, "break the numbering", id="two packets swapped"),
        pytest.param(partial(drop_packets, count=1), "break the numbering", id="a packet lost"),
        pytest.param(partial(drop_packets, count=12), "break the numbering", id="12 packets lost"),
    ],
)
def test_each_lost_or_changed_frame_is_marked(change, reason, seed, original, video):
    change(video, seed)
    row, index = inspect(video, "v")
    # A lost frame is stood for by the next one in the damaged file.
    frame_at_time = np.searchsorted(index.pts, index_of(original).pts)
    unmarked = {f for f in harmed(original, video) if frame_at_time[f] not in marked(row)}
    assert not unmarked
    assert reason in row.reason


def test_a_damaged_non_reference_is_marked_alone(video):
    # Without B-pyramid, the second of three B-frames is such a frame: its nal_ref_idc, the two
    # bits under the mask 0x60, is 0.
    packets = packets_of(encode(video, 60, size=(160, 96)))
    victim = max((p for p in packets[1:] if bytes(p)[4] & 0x60 == 0), key=lambda p: p.size)
    overwrite(video, victim.pos + 16, b"\xa5" * 8)
    row, index = inspect(video, "v")
    frame = int(np.searchsorted(index.pts, victim.pts))
    assert row.damaged == [(frame, frame + 1)]


@pytest.mark.parametrize("count", [60, 90, 180])
def test_a_lost_group_marks_the_next_key_frame(count, tmp_path):
    path = encode(tmp_path / "v.MP4", count, keyint=15)
    drop_packets(path, seed=3, count=1, groups=True)
    row, _ = inspect(path, "v")
    assert (row.reason, row.timing) == ("1 gaps between frames", "variable")
    ((start, stop),) = row.damaged
    assert (start % 15, stop) == (0, start + 1)


@pytest.mark.parametrize("lost", [2, 8])
def test_key_frames_after_lost_frames_are_marked(lost, video):
    def drop_before_key(packets):
        key = [i for i, p in enumerate(packets) if p.is_key][3]
        return packets[: key - lost] + packets[key:]

    row, index = inspect(rewrite(video, drop_before_key), "v")
    assert "break the numbering" in row.reason
    assert int(np.searchsorted(index.pts, index.key_pts[3])) in marked(row)


def test_the_second_with_one_time_is_marked(video):
    def share_time(packets):
        packets[41] = replace(packets[41], pts=packets[40].pts)
        return packets

    row, index = inspect(rewrite(video, share_time), "v")
    assert "share their time" in row.reason or "break the numbering" in row.reason
    second = int(np.flatnonzero(np.diff(index.pts) == 0)[0]) + 1
    assert second in marked(row)


def test_a_disk_failing_late_is_no_video_defect(video, monkeypatch):
    def failing_reader(*arguments):
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        monkeypatch.setattr(os, "pread", Mock(side_effect=error))
        return VideoReader(*arguments)

    monkeypatch.setattr(worker, "VideoReader", failing_reader)
    monkeypatch.setattr(disk, "WAITS", (0.0,))
    with pytest.raises(DiskError, match="Input/output error"):
        inspect(video, "v")


def grey(width: int, height: int, count: int) -> dict:
    """The options of `encode` for `count` grey frames of a size."""
    frame = np.full((height, width, 3), 128, np.uint8)
    return {
        "size": (width, height),
        "source": [frame] * count,
        "codec": "mjpeg",
        "pix_fmt": "yuvj420p",
    }


@pytest.mark.parametrize(
    ("max_pixels", "decoded_count", "reason"),
    [
        pytest.param(2**26, 10, "4 frames are of another size", id="below the limit"),
        pytest.param(96 * 64, 6, "4 packets do not decode cleanly", id="above the limit"),
    ],
)
def test_frames_of_a_rarer_size_are_marked(max_pixels, decoded_count, reason, tmp_path):
    parts = parts_of(tmp_path, grey(96, 64, count=6), grey(4352, 4096, count=4))
    path = join(parts, tmp_path / "v.MP4")
    row, _ = inspect(path, "v", max_pixels=max_pixels)
    assert (row.frames, row.damaged) == (decoded_count, [(6, 10)])
    assert row.reason == reason


def test_readers_take_frames_as_large_as_scans(tmp_path):
    path = encode(tmp_path / "v.MP4", 4, **grey(4352, 4096, count=4))
    _, index = inspect(path, "v", max_pixels=2**26)
    (frame,) = VideoReader(path, index).get_frames([3])
    assert frame.shape == (4096, 4352, 3)


def zero_frames(path: Path) -> None:
    """Overwrite all packets of a file with zeros, except the lengths at their beginnings."""
    for packet in packets_of(path):
        overwrite(path, packet.pos + 4, bytes(packet.size - 4))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(partial(truncate, fraction=0), "cannot open: the file is empty", id="empty"),
        pytest.param(
            partial(truncate, fraction=0.9),
            "cannot open: truncated: its index (moov box) is not there, or not all of it",
            id="truncated",
        ),
        pytest.param(
            lambda path: path.write_text("404\n" * 99), "cannot open: not a video file", id="text"
        ),
        pytest.param(audio_only, "no video stream in this file", id="audio"),
        pytest.param(partial(cut_end, share=0.0), "its edit list hides every frame", id="hidden"),
        pytest.param(zero_frames, "no frame decodes", id="zeros"),
    ],
)
def test_without_a_usable_frame_it_is_unreadable(spoil, reason, video):
    spoil(video)
    row, index = inspect(video, "v")
    assert (row.status, index) == ("unreadable", None)
    assert row.reason.startswith(reason)


def late_sync(closed: Path, _: Path, folder: Path) -> Path:
    """Write a video whose table of key frames begins one frame late."""
    place = place_of(closed, "stss") + 8
    return overwrite(closed, place, number_at(closed, place) + 1, folder / "v.MP4")


def broken_leading(_: Path, open_gop: Path, folder: Path) -> Path:
    """Write a video in which one leading frame of an open group does not decode."""
    packets = packets_of(open_gop)
    key = [n for n, p in enumerate(packets) if p.is_keyframe][1]
    victim = next(p for p in packets[key + 1 :] if p.pts < packets[key].pts)
    # A NAL unit of type 31 is no slice.
    no_slice = bytes([bytes(victim)[4] | 31]) + b"\xff" * (victim.size - 5)
    return overwrite(open_gop, victim.pos + 4, no_slice, folder / "v.MP4")


def without_first_packets(closed: Path, _: Path, folder: Path) -> Path:
    """Write a video that lacks its first five packets."""
    return rewrite(closed, lambda packets: packets[5:], folder / "v.MP4")


def cropped_from_the_left(_: Path, __: Path, folder: Path) -> Path:
    """Write a video whose header crops four columns on the left."""
    return encode(folder / "v.MP4", 120, **PYRAMID, **{"crop-rect": "4,0,0,0"})


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> tuple[Path, Path]:
    """Two undamaged videos of 120 frames, with closed and with open groups."""
    folder = tmp_path_factory.mktemp("originals")
    closed = encode(folder / "closed.MP4", 120, **{"b-pyramid": "normal"})
    return closed, encode(folder / "open.MP4", 120, **{"open-gop": 1, "b-pyramid": "normal"})


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(late_sync, id="a late table of key frames"),
        pytest.param(without_first_packets, id="first packets lost"),
        pytest.param(cropped_from_the_left, id="cropped from the left"),
        pytest.param(broken_leading, id="a broken leading frame"),
    ],
)
def test_unmarked_frames_read_as_a_full_decode(write, originals, tmp_path):
    path = write(*originals, tmp_path)
    row, index = inspect(path, "v")
    unmarked = sorted({*range(index.frames)} - marked(row))
    assert len(unmarked) >= 50
    expected, reader = decoded(path), VideoReader(path, index)
    random.Random(0).shuffle(unmarked)
    for number in unmarked:
        (frame,) = reader.get_frames([number])
        assert np.array_equal(frame, expected[int(index.pts[number])]), number
