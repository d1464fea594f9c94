"""Frames of each type of file are as in a full decode."""

import re
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from epic100.clips.transforms import DecordReader
from epic100.video.ffmpeg import packet_of
from epic100.video.reader import FrameError, SharedCaches, VideoReader
from epic100.video.window import Window
from support.checkout import needs_decord
from support.damage import overwrite, packets_of
from support.packets import decoded, rewrite
from support.scanned import index_of, inspect
from support.tricky_videos import (
    MIRROR,
    QUARTERS,
    encode,
    join,
    parts_of,
    turn,
)


@pytest.fixture
def every_type(undamaged, lab):
    """Undamaged files of every type and videos of the lab, by name."""
    return {**undamaged, **{name: video.path(lab.root) for name, video in lab.videos.items()}}


@pytest.mark.slow
def test_frames_in_any_order_are_exact(every_type):
    caches, rng = SharedCaches(), np.random.default_rng(0)
    for name, path in every_type.items():
        index = index_of(path)
        frame_at = decoded(path)
        assert index.pts.tolist() == sorted(frame_at), name
        full = np.stack([frame_at[pts] for pts in index.pts.tolist()])
        reader = VideoReader(path, index, caches)
        assert np.array_equal(reader.get_frames([0, len(full) - 1]), full[[0, -1]])
        # Clips of many and of few frames take turns: the reader must not depend on what it has read
        # before. With 40 random frames, some come more than once.
        for count in (1, 13, 5, 2, 40, 1, 1):
            frames = rng.integers(0, len(full), count)
            assert np.array_equal(reader.get_frames(frames), full[frames]), name
        reader.close()


@needs_decord
@pytest.mark.parametrize(
    "name",
    # Decord reads the other types of files wrongly.
    [
        *("b_frames", "no_b_frames", "all_key_frames", "index_first", "cavlc", "slices"),
        *("weighted", "joined", "quicktime", "P01_01", "P02_101", "P03_07", "turned"),
    ],
)
def test_decord_gives_the_same_frames(name, every_type, tmp_path):
    path = every_type.get(name)
    if name == "turned":
        path = encode(tmp_path / "v.MP4", 40)
        turn(path)
    ours = VideoReader(path, index_of(path))
    decords = DecordReader(str(path), ours.index)
    assert ours.size == decords.size
    frames = np.random.default_rng(11).integers(0, ours.frames, 20)
    assert np.array_equal(ours.get_frames(frames), decords.get_frames(frames))


@pytest.mark.parametrize("quarters", range(4))
def test_frames_are_turned_as_players_do(quarters, tmp_path):
    path = encode(tmp_path / "v.MP4", 4, (98, 62))
    frames = VideoReader(path, index_of(path)).get_frames(range(4))
    expected = np.rot90(frames, -quarters, axes=(1, 2))
    turn(path, QUARTERS[quarters])
    reader = VideoReader(path, index_of(path))
    assert reader.size == expected.shape[1:3]
    assert np.array_equal(reader.get_frames(range(4)), expected)
    # The window has lines 6 to 35 and columns 29 to 10, from right to left.
    window = Window(top=6, left=10, height=30, width=20, flipped=True)
    (part,) = reader.get_frames([3], window=window)
    assert np.array_equal(part, expected[3, 6:36, 29:9:-1])
    assert reader.get_frames([3], (48, 40), window).shape == (1, 48, 40, 3)


def test_a_mirrored_video_is_rejected(tmp_path):
    path = encode(tmp_path / "v.MP4", 4)
    turn(path, MIRROR)
    with pytest.raises(FrameError, match=r"v\.MP4: its note of how players turn or mirror"):
        VideoReader(path)
    row, _ = inspect(path, "v")
    assert row.status == "unreadable"


def test_scaling_in_the_decoder_is_nearly_equal(lab):
    reader = VideoReader(lab.videos["P01_01"].path(lab.root))
    frames = range(0, reader.frames, reader.frames // 6)
    scaled = reader.get_frames(frames, size=(48, 86))
    afterwards = [
        cv2.resize(frame, (86, 48), interpolation=cv2.INTER_AREA)
        for frame in reader.get_frames(frames)
    ]
    # Values go up to 255. The two filters are not the same.
    assert np.abs(scaled.astype(int) - np.stack(afterwards)).mean() < 4


def test_frames_with_one_time_are_an_error(tmp_path):
    path = encode(tmp_path / "v.MP4", 40, bframes=0)

    def share_time(packets):
        packets[29] = replace(packets[29], pts=packets[30].pts)
        return packets

    rewrite(path, share_time)
    reader = VideoReader(path)
    with pytest.raises(FrameError, match=r"v\.MP4: frames 29 and 30 have the same time"):
        reader.get_frames([28, 29, 30])


def test_a_changed_frame_size_is_an_error(tmp_path):
    # Each part has 60 frames.
    options = ({"repeat_headers": 1}, {"repeat_headers": 1, "size": (128, 96)})
    path = join(parts_of(tmp_path, *options), tmp_path / "v.MP4")
    with pytest.raises(FrameError, match=r"v\.MP4: the frame changes its size at frame 60"):
        VideoReader(path).get_frames([0, 60])


def test_frames_behind_damaged_leading_frames_are_exact(tmp_path):
    path = encode(tmp_path / "v.mp4", codec="mpeg4", g=10, bf=2)
    index = index_of(path)
    packets = packets_of(path)
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    # The packet behind a key frame is of a frame that is shown before it.
    key_pts = packets[keys[1]].pts
    damaged = packets[keys[1] + 1]
    assert damaged.pts < key_pts
    frames = np.flatnonzero(index.pts >= key_pts)[:5]
    undamaged = VideoReader(path, index).get_frames(frames)
    overwrite(path, damaged.pos, bytes(damaged.size))
    reader = VideoReader(path, index)
    assert np.array_equal(reader.get_frames(frames), undamaged)
    with pytest.raises(FrameError, match=r"v\.mp4: decoding failed: "):
        reader.get_frames(np.flatnonzero(index.pts == damaged.pts))


def test_a_film_unreadable_by_place_is_unreadable(tmp_path):
    # The header of the file has the depth of the colours, which no packet has.
    path = encode(tmp_path / "v.mov", 10, codec="qtrle", pix_fmt="rgb555be")
    row, _ = inspect(path, "v")
    assert row.status == "unreadable"
    assert re.search("frames .* of qtrle .*make one: `ffmpeg .* -fps_mode", row.reason)


@pytest.mark.slow
def test_bytes_behind_a_packet_change_nothing(tmp_path):
    """A decoder of MPEG-4 part 2 takes these bytes behind a frame for the start of another."""
    path = encode(tmp_path / "v.MP4", 120, codec="mpeg4")
    frames = []
    with av.open(str(path)) as container:
        decoder = container.streams.video[0].codec_context
        for packet in packets_of(path):
            memory = memoryview(bytes(packet) + b"\1" * 64)
            frames += decoder.decode(packet_of(memory[: packet.size]))
    assert len(frames) == 120
    assert not any(frame.is_corrupt for frame in frames)
