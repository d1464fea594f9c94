"""Damage does what it says to the bytes. What a scan finds: tests/behaviour."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen import write_video
from epic100.minikitchen.damage import coded_data, flip_bits, zero_block
from epic100.video.sheet import Video

VIDEO = Video("P22_01", "P22", "train", 50.0, 12.0)
SIZE = (160, 90)
FREE = b"\0\0\0\x0cfree1234"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "P22_01.MP4"
    write_video(VIDEO, path, seed=0, size=SIZE)
    return path


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copyfile(whole, tmp_path / "copy.MP4"))


def test_the_coded_data_are_what_the_packets_hold(whole):
    start, stop = coded_data(whole)
    with av.open(whole) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert min(p.pos for p in packets) == start
    assert max(p.pos + p.size for p in packets) == stop < whole.stat().st_size


@pytest.mark.parametrize(
    "content, byte_range",
    [
        (b"", None),
        (b"text in place of a video", None),
        (b"\0\0\0\4free", None),
        (b"\0\0\0\x08mdat", None),
        (FREE + b"\0\0\0\1mdat" + (16 + 5).to_bytes(8, "big") + b"coded" + FREE, (28, 33)),
        (FREE + b"\0\0\0\0mdat" + b"coded", (20, 25)),
    ],
    ids=["empty", "text", "box too small", "nothing coded", "64-bit length", "up to the end"],
)
def test_coded_data_of_any_length_are_found_and_a_file_without_any_is_refused(
    tmp_path, content, byte_range
):
    (tmp_path / "odd.MP4").write_bytes(content)
    with nullcontext() if byte_range else pytest.raises(EpicError, match=r"odd\.MP4.*mdat"):
        assert coded_data(tmp_path / "odd.MP4") == byte_range


@pytest.mark.parametrize("share, size", [(0.5, 2000), (0.999, 10**9)])
def test_a_zeroed_block_lies_where_it_should_and_stops_before_the_index(whole, copy, share, size):
    zero_block(copy, share, size)
    start, stop = coded_data(whole)
    first = start + int((stop - start) * share)
    data = bytearray(whole.read_bytes())
    data[first : first + size] = bytes(min(size, stop - first)) + data[stop : first + size]
    assert copy.read_bytes() == data


def test_flipped_bits_are_as_many_as_asked_and_seeded(whole, copy, tmp_path):
    second, other = (Path(shutil.copyfile(whole, tmp_path / n)) for n in ("2.MP4", "3.MP4"))
    for path, seed in ((copy, 5), (second, 5), (other, 6)):
        flip_bits(path, 200, seed=seed, between=(0.4, 0.6))
    assert copy.read_bytes() == second.read_bytes() != other.read_bytes()
    flips = np.bitwise_xor(*(np.frombuffer(path.read_bytes(), np.uint8) for path in (whole, copy)))
    assert np.bitwise_count(flips).sum() == 200
    start, stop = coded_data(whole)
    places = (np.flatnonzero(flips) - start) / (stop - start)
    assert places.min() >= 0.399 and places.max() < 0.6
