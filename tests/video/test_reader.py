"""Frames of each kind of file are those of a full decode."""

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from epic100.clips.transforms import DecordReader
from epic100.video.ffmpeg import packet_of
from epic100.video.index import build_index
from epic100.video.kept import SharedCaches
from epic100.video.reader import FrameError, VideoReader
from epic100.video.window import Window
from support.checkout import needs_decord
from support.damage import overwrite, packets_of
from support.packets import decoded, in_decoder_order
from support.scanned import inspect
from support.tricky_videos import (
    MIRROR,
    PYRAMID,
    QUARTERS,
    audio_only,
    encode,
    join,
    parts_of,
    turn,
)


@pytest.fixture
def every_kind(sound, lab):
    """Undamaged files of every kind and videos of the lab, by name."""
    return {**sound, **{name: video.path(lab.root) for name, video in lab.videos.items()}}


@pytest.mark.slow
def test_frames_in_any_order_are_those_of_a_full_decode(every_kind):
    caches, rng = SharedCaches(), np.random.default_rng(0)
    for name, path in every_kind.items():
        index = build_index(path)
        # A packet of Matroska is in a block with a header of its own, so it cannot be read directly
        # from the file by its offset.
        assert index.direct == (name != "matroska")
        pictures = decoded(path)
        assert index.pts.tolist() == sorted(pictures), name
        full = np.stack([pictures[pts] for pts in index.pts.tolist()])
        for each_index in (index, replace(index, direct=False)):
            reader = VideoReader(path, each_index, caches)
            assert np.array_equal(reader.get_frames([0, len(full) - 1]), full[[0, -1]])
            # Clips of many and of few frames take turns: the reader must not depend on what it has
            # read before. With 40 random frames, some come more than once.
            for count in (1, 13, 5, 2, 40, 1, 1):
                frames = rng.integers(0, len(full), count)
                assert np.array_equal(reader.get_frames(frames), full[frames]), name
            reader.close()


@needs_decord
@pytest.mark.parametrize(
    "name",
    # Decord reads the other kinds of files wrongly.
    [
        *("b_frames", "no_b_frames", "all_key_frames", "index_first", "cavlc", "slices"),
        *("weighted", "joined", "quicktime", "P01_01", "P02_101", "P03_07", "turned"),
    ],
)
def test_decord_gives_the_same_frames(name, every_kind, tmp_path):
    path = every_kind.get(name)
    if name == "turned":
        path = encode(tmp_path / "v.MP4", 40)
        turn(path)
    ours = VideoReader(path)
    decords = DecordReader(str(path), ours.index)
    assert ours.size == decords.size
    frames = np.random.default_rng(11).integers(0, ours.frames, 20)
    assert np.array_equal(ours.get_frames(frames), decords.get_frames(frames))


def turn_in_mp4(path: Path, quarters: int) -> Path:
    """Note in the header of an MP4 file that players turn its pictures clockwise."""
    turn(path, QUARTERS[quarters])
    return path


def turn_in_matroska(path: Path, quarters: int) -> Path:
    """Copy a video into a Matroska file whose header notes that players turn its pictures."""
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".mkv")), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(-90 * quarters)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path.with_suffix(".mkv")


@pytest.mark.parametrize("turn_in_file", [turn_in_mp4, turn_in_matroska])
@pytest.mark.parametrize("quarters", range(4))
def test_frames_and_windows_are_turned_as_players_show_them(quarters, turn_in_file, tmp_path):
    path = encode(tmp_path / "v.MP4", 4, (98, 62))
    expected = np.rot90(VideoReader(path).get_frames(range(4)), -quarters, axes=(1, 2))
    reader = VideoReader(turn_in_file(path, quarters))
    assert reader.size == expected.shape[1:3]
    assert np.array_equal(reader.get_frames(range(4)), expected)
    # The window has lines 6 to 35 and columns 29 to 10, from right to left.
    window = Window(top=6, left=10, height=30, width=20, flipped=True)
    (part,) = reader.get_frames([3], window=window)
    assert np.array_equal(part, expected[3, 6:36, 29:9:-1])
    assert reader.get_frames([3], (48, 40), window).shape == (1, 48, 40, 3)


def test_a_mirrored_video_is_refused(tmp_path):
    path = encode(tmp_path / "v.MP4", 4)
    turn(path, MIRROR)
    with pytest.raises(FrameError, match=r"v\.MP4: its note of how players turn or mirror"):
        VideoReader(path)
    row, _ = inspect(path, "v")
    assert row.status == "unreadable"


def test_frames_scaled_in_the_decoder_are_nearly_those_scaled_afterwards(lab):
    reader = VideoReader(lab.videos["P01_01"].path(lab.root))
    frames = range(0, reader.frames, reader.frames // 6)
    scaled = reader.get_frames(frames, size=(48, 86))
    afterwards = [
        cv2.resize(picture, (86, 48), interpolation=cv2.INTER_AREA)
        for picture in reader.get_frames(frames)
    ]
    # Values go up to 255. The two filters are not the same.
    assert np.abs(scaled.astype(int) - np.stack(afterwards)).mean() < 4


def test_a_change_of_picture_size_is_an_error_that_names_the_frame(tmp_path):
    # Each part has 60 pictures.
    kinds = ({"repeat_headers": 1}, {"repeat_headers": 1, "size": (128, 96)})
    path = join(parts_of(tmp_path, *kinds), tmp_path / "v.MP4")
    with pytest.raises(FrameError, match=r"v\.MP4: the picture changes its size at frame 60"):
        VideoReader(path).get_frames([0, 60])


def test_frames_behind_a_damaged_leading_picture_are_those_of_the_sound_file(tmp_path):
    path = encode(tmp_path / "v.mp4", codec="mpeg4", g=10, bf=2)
    index = build_index(path)
    packets = packets_of(path)
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    # The packet behind a key frame is of a picture that is shown before it.
    key_pts = packets[keys[1]].pts
    damaged = packets[keys[1] + 1]
    assert damaged.pts < key_pts
    frames = np.flatnonzero(index.pts >= key_pts)[:5]
    sound = VideoReader(path, index).get_frames(frames)
    overwrite(path, damaged.pos, bytes(damaged.size))
    reader = VideoReader(path, index)
    assert np.array_equal(reader.get_frames(frames), sound)
    with pytest.raises(FrameError, match=r"v\.mp4: decoding failed: "):
        reader.get_frames(np.flatnonzero(index.pts == damaged.pts))


def test_a_video_that_was_replaced_by_an_audio_file_of_its_size_is_an_error(sound, tmp_path):
    path = audio_only(tmp_path / "a.MP4")
    index = replace(build_index(sound["b_frames"]), file_size=path.stat().st_size, direct=False)
    with pytest.raises(FrameError, match=r"a\.MP4: no video stream in this file"):
        VideoReader(path, index)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        pytest.param("h264.avi", PYRAMID, 0.001, id="H.264 in AVI"),
        pytest.param("mpeg4.avi", {"codec": "mpeg4"}, 0.001, id="MPEG-4 in AVI"),
        pytest.param("h264.mpg", PYRAMID, 0.001, id="H.264 in MPEG-PS"),
        pytest.param("mpeg2.mpg", {"codec": "mpeg2video"}, 0.001, id="MPEG-2"),
        # In MPEG-PS, the last B-frames have no time.
        pytest.param(
            "mpeg2_b.mpg", {"codec": "mpeg2video", "bf": 2, "g": 12}, 0.07, id="MPEG-2, B-frames"
        ),
        pytest.param(
            "mpeg1_b.mpg", {"codec": "mpeg1video", "bf": 2, "g": 12}, 0.07, id="MPEG-1, B-frames"
        ),
        # A picture of this size is in several packs of the container.
        pytest.param(
            "mpeg1.mpg", {"codec": "mpeg1video", "size": (640, 360)}, 0.001, id="MPEG-1, large"
        ),
    ],
)
def test_a_file_without_times_has_the_order_of_its_decoder(name, options, tolerance, tmp_path):
    path = encode(tmp_path / name, 60, **options)
    expected = in_decoder_order(path)
    row, index = inspect(path, "v")
    assert (row.status, row.frames, len(expected)) == ("ok", 60, 60)
    # Frame i is shown at i / 29.97 seconds.
    assert np.abs(index.times - np.arange(60) * 1001 / 30000).max() < tolerance
    order = np.random.default_rng(0).permutation(60)
    for each_index in (index, replace(index, direct=False), None):
        reader = VideoReader(path, each_index)
        for frames in np.split(order, 20):
            assert np.array_equal(reader.get_frames(frames), expected[frames])


@pytest.mark.slow
def test_bytes_behind_a_packet_in_memory_change_no_picture(tmp_path):
    """A decoder of MPEG-4 part 2 takes these bytes behind a picture for the start of another."""
    path = encode(tmp_path / "v.MP4", 120, codec="mpeg4")
    pictures = []
    with av.open(str(path)) as container:
        decoder = container.streams.video[0].codec_context
        for packet in packets_of(path):
            memory = memoryview(bytes(packet) + b"\1" * 64)
            pictures += decoder.decode(packet_of(memory[: packet.size]))
    assert len(pictures) == 120
    assert not any(picture.is_corrupt for picture in pictures)
