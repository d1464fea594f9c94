"""Files whose containers state no times of presentation, or not where each picture begins."""

from dataclasses import replace

import av
import numpy as np
import pytest

from epic100.video.ffmpeg import packet_of
from epic100.video.reader import VideoReader
from support.damage import packets_of
from support.scanned import inspect
from support.tricky_videos import PYRAMID, encode


def in_decoding_order(path):
    """All pictures as a decoder gives them."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.mark.parametrize("name, options", [
    ("h264.avi", PYRAMID),
    ("mpeg4.avi", {"codec": "mpeg4"}),
    ("h264.mpg", PYRAMID),
    ("mpeg2.mpg", {"codec": "mpeg2video"}),
])  # fmt: skip
def test_frames_are_in_the_order_of_the_decoder_and_a_step_apart(name, options, tmp_path):
    path = encode(tmp_path / name, 100, **options)
    wanted = in_decoding_order(path)
    row, index = inspect(path, "v")
    assert (row.status, row.frames, len(wanted)) == ("ok", 100, 100)
    assert np.abs(index.times - np.arange(100) * 1001 / 30000).max() < 0.001
    order = np.random.default_rng(0).permutation(100)
    for known in (index, replace(index, direct=False), None):
        reader = VideoReader(path, known)
        for some in np.split(order, 10):
            assert np.array_equal(reader.get_frames(some), wanted[some])


def test_a_seek_that_lands_within_a_picture_is_no_other_file(tmp_path):
    path = encode(tmp_path / "v.mpg", 60, (640, 360), codec="mpeg1video")
    wanted, reader = in_decoding_order(path), VideoReader(path)
    for frame in range(60):
        assert np.array_equal(reader.get_frames([frame])[0], wanted[frame])


def test_what_lies_behind_a_packet_in_memory_changes_no_picture(tmp_path):
    """In a decoder of MPEG-4 part 2, these bytes behind a picture begin another one."""
    path = encode(tmp_path / "v.MP4", 120, codec="mpeg4")
    reader = VideoReader(path)
    decoder, found = reader._packets.decoder, []
    for packet in packets_of(path):
        memory = memoryview(bytes(packet) + b"\1" * 64)
        found += decoder.decode(packet_of(memory[: packet.size]))
    assert len(found) == 120 and not any(frame.is_corrupt for frame in found)
