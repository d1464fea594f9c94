"""Damage does what it says to the bytes, and a decoder meets it."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen import write_video
from epic100.minikitchen.damage import KINDS, coded_data, empty, flip_bits, truncate, zero_block
from epic100.video.sheet import Video

VIDEO = Video("P22_01", "P22", "train", 50.0, 12.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "P22_01.MP4"
    write_video(VIDEO, path, seed=0)
    return path


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copyfile(whole, tmp_path / "copy.MP4"))


def changed_bytes(before: Path, after: Path) -> np.ndarray:
    """Places where two files of one length differ."""
    first, second = (np.frombuffer(path.read_bytes(), np.uint8) for path in (before, after))
    assert len(first) == len(second)
    return np.flatnonzero(first != second)


def decode(path: Path) -> tuple[int, int]:
    """Sound frames and complaints (errors and frames flagged corrupt) of a strict decoder."""
    sound = complaints = 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            for packet in container.demux(stream):
                try:
                    for frame in packet.decode():
                        sound += not frame.is_corrupt
                        complaints += frame.is_corrupt
                except av.FFmpegError:
                    complaints += 1
        except av.FFmpegError:  # a packet that the file does not hold to its end
            complaints += 1
    return sound, complaints


def test_the_coded_data_are_what_the_packets_hold(whole):
    start, stop = coded_data(whole)
    with av.open(whole) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert min(p.pos for p in packets) == start
    assert max(p.pos + p.size for p in packets) == stop < whole.stat().st_size


@pytest.mark.parametrize(
    "content",
    [b"", b"text in place of a video", b"\0\0\0\4free", b"\0\0\0\x08mdat"],
    ids=["empty", "text", "box-too-small", "nothing-coded"],
)
def test_a_file_without_coded_data_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "odd.MP4"
    path.write_bytes(content)
    for damage in (lambda: zero_block(path, 0.5, 10), lambda: flip_bits(path, 1, seed=0)):
        with pytest.raises(EpicError, match=r"odd\.MP4.*mdat"):
            damage()
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["odd.MP4"]


def test_coded_data_behind_a_64_bit_length_or_up_to_the_end_are_found(tmp_path):
    path = tmp_path / "large.MP4"
    free = b"\0\0\0\x0cfree1234"
    path.write_bytes(free + b"\0\0\0\1mdat" + (16 + 5).to_bytes(8, "big") + b"coded" + free)
    assert coded_data(path) == (28, 33)
    path.write_bytes(free + b"\0\0\0\0mdat" + b"coded")
    assert coded_data(path) == (20, 25)


def test_truncating_keeps_the_first_bytes_and_nothing_else(whole, copy):
    truncate(copy, 0.25)
    data = whole.read_bytes()
    assert copy.read_bytes() == data[: len(data) // 4]
    with pytest.raises(av.InvalidDataError):  # its index was at the end
        decode(copy)


def test_a_zeroed_block_lies_where_it_should(whole, copy):
    zero_block(copy, 0.5, 2000)
    start, stop = coded_data(whole)
    first = start + int((stop - start) * 0.5)
    data = bytearray(whole.read_bytes())
    data[first : first + 2000] = bytes(2000)
    assert copy.read_bytes() == data


def test_a_zeroed_block_stops_before_the_index(whole, copy):
    zero_block(copy, 0.999, 10**9)
    changed = changed_bytes(whole, copy)
    assert len(changed) and changed.max() < coded_data(whole)[1]


def test_flipped_bits_are_as_many_as_asked_and_seeded(whole, copy, tmp_path):
    second, other = (Path(shutil.copyfile(whole, tmp_path / n)) for n in ("2.MP4", "3.MP4"))
    flip_bits(copy, 200, seed=5, between=(0.4, 0.6))
    flip_bits(second, 200, seed=5, between=(0.4, 0.6))
    flip_bits(other, 200, seed=6, between=(0.4, 0.6))
    assert copy.read_bytes() == second.read_bytes() != other.read_bytes()
    changed = changed_bytes(whole, copy)
    before, after = (np.frombuffer(p.read_bytes(), np.uint8)[changed] for p in (whole, copy))
    assert np.bitwise_count(before ^ after).sum() == 200
    start, stop = coded_data(whole)
    places = (changed - start) / (stop - start)
    assert places.min() >= 0.399 and places.max() < 0.6


def test_more_flips_than_bits_are_refused(copy):
    with pytest.raises(EpicError, match="but only"):
        flip_bits(copy, 100, seed=0, between=(0.5, 0.50001))


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(whole, copy, fraction):
    for damage in (
        lambda: truncate(copy, fraction),
        lambda: zero_block(copy, fraction, 10),
        lambda: flip_bits(copy, 1, seed=0, between=(0.0, fraction)),
    ):
        with pytest.raises(EpicError, match=r"copy\.MP4.*from 0 to 1"):
            damage()
    assert copy.read_bytes() == whole.read_bytes()


def test_an_emptied_file_has_no_bytes(copy):
    empty(copy)
    assert copy.stat().st_size == 0


def test_a_sound_file_draws_no_complaint(whole):
    assert decode(whole) == (600, 0)


@pytest.mark.parametrize(
    ("kind", "least"), [("truncated", 300), ("zeroed", 450), ("bitflips", 450)]
)
def test_a_decoder_complains_of_each_kind_and_most_frames_stay_good(tmp_path, kind, least):
    path = tmp_path / "P22_01.MP4"
    write_video(VIDEO, path, seed=0, damage=kind)
    sound, complaints = decode(path)
    assert complaints > 0
    assert least <= sound < 600
    assert [p.name for p in tmp_path.iterdir()] == ["P22_01.MP4"]


def test_the_kind_empty_gives_a_file_that_does_not_open(tmp_path):
    path = tmp_path / "P22_01.MP4"
    write_video(VIDEO, path, seed=0, damage="empty")
    assert path.stat().st_size == 0
    assert "missing" not in KINDS  # a missing file is one that nobody writes
    with pytest.raises(av.InvalidDataError):
        decode(path)
