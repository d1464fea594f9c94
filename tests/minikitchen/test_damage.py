"""Damage changes the bytes that it should. What a scan finds of it: tests/behaviour."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen import write_video
from epic100.minikitchen.damage import coded_data, flip_bits, zero_block
from epic100.video.sheet import Video


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A video of 3 seconds, which no test may change."""
    path = tmp_path_factory.mktemp("whole") / "P22_01.MP4"
    write_video(Video("P22_01", "P22", "train", 50.0, 3.0), path, seed=0)
    return path


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """A copy of `whole`, to be damaged."""
    return Path(shutil.copyfile(whole, tmp_path / "copy.MP4"))


def test_coded_data_are_all_packets_bytes(whole):
    start, stop = coded_data(whole)
    with av.open(whole) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert min(p.pos for p in packets) == start
    assert max(p.pos + p.size for p in packets) == stop
    # The box with the index (`moov`) comes after the packets.
    assert stop < whole.stat().st_size


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty file"),
        pytest.param(b"text in place of a video", id="text"),
        pytest.param(b"\0\0\0\4free", id="a box that is shorter than its header"),
        pytest.param(b"\0\0\0\x08mdat", id="nothing coded"),
    ],
)
def test_a_file_without_coded_data_is_rejected(content, tmp_path):
    (tmp_path / "odd.MP4").write_bytes(content)
    with pytest.raises(EpicError, match=r"odd\.MP4.*mdat"):
        coded_data(tmp_path / "odd.MP4")


@pytest.mark.parametrize(
    "header",
    [
        # The first length, 1, means that a length of 8 bytes follows: 16 of the header and 5 coded.
        pytest.param(b"\0\0\0\1mdat" + (16 + 5).to_bytes(8), id="64-bit length"),
        pytest.param(b"\0\0\0\0mdat", id="up to the end"),
    ],
)
def test_both_types_of_length_are_read(header, tmp_path):
    free = b"\0\0\0\x0cfree1234"
    (tmp_path / "odd.MP4").write_bytes(free + header + b"coded")
    start = len(free) + len(header)
    assert coded_data(tmp_path / "odd.MP4") == (start, start + 5)


@pytest.mark.parametrize(
    "share, size",
    [
        pytest.param(0.5, 2000, id="within the coded data"),
        pytest.param(0.999, 10**9, id="beyond their end"),
    ],
)
def test_a_zeroed_block_changes_only_coded_data(share, size, whole, copy):
    zero_block(copy, share, size)
    start, stop = coded_data(whole)
    block_start = start + int((stop - start) * share)
    block_stop = min(block_start + size, stop)
    before, after = whole.read_bytes(), copy.read_bytes()
    assert after[:block_start] == before[:block_start]
    assert not any(after[block_start:block_stop])
    assert after[block_stop:] == before[block_stop:]


def test_a_seed_flips_the_same_bits(whole, copy, tmp_path):
    other = Path(shutil.copyfile(whole, tmp_path / "other.MP4"))
    for path in (copy, other):
        flip_bits(path, 200, seed=5, between=(0.4, 0.6))
    assert copy.read_bytes() == other.read_bytes()
    flips = np.fromfile(whole, np.uint8) ^ np.fromfile(copy, np.uint8)
    assert np.bitwise_count(flips).sum() == 200
    start, stop = coded_data(whole)
    places = (np.flatnonzero(flips) - start) / (stop - start)
    assert places.min() >= 0.399 and places.max() < 0.6
