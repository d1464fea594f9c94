"""Frames of every kind of file are those of a full decode."""

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from epic100.clips.transforms import DecordReader
from epic100.video.ffmpeg import packet_of
from epic100.video.index import build_index
from epic100.video.kept import Kept
from epic100.video.reader import FrameError, VideoReader
from epic100.video.window import Window
from support.checkout import needs_decord
from support.damage import packets_of
from support.packets import decoded
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
    """Sound files of every kind, and videos of the lab."""
    return {**sound, **{name: video.path(lab.root) for name, video in lab.videos.items()}}


def sequential(path, index) -> np.ndarray:
    """All shown pictures of a file in order of presentation, decoded from first to last."""
    found = decoded(path)
    assert index.pts.tolist() == sorted(found), path
    return np.stack([found[pts] for pts in sorted(found)])


def test_frames_of_every_kind_of_sound_file_are_those_of_a_full_decode_both_ways(every_kind):
    kept, rng = Kept(), np.random.default_rng(0)
    for name, path in every_kind.items():
        index = build_index(path)
        # Matroska's blocks have a head of their own.
        assert index.direct == (name != "matroska")
        full = sequential(path, index)
        for way in (index, replace(index, direct=False)):
            reader = VideoReader(path, way, kept)
            assert np.array_equal(reader.get_frames([0, len(full) - 1]), full[[0, -1]])
            for size in (1, 13, 5, 2, 40, 1, 1):
                # Frames come in any order, and may repeat.
                indices = rng.integers(0, len(full), size)
                assert np.array_equal(reader.get_frames(indices), full[indices]), name
            reader.close()


READ_BY_DECORD = [
    "b_frames",
    "no_b_frames",
    "all_key_frames",
    "index_first",
    "cavlc",
    "slices",
    "weighted",
    "joined",
    "quicktime",
    "P01_01",
    "P02_101",
    "P03_07",
    "turned",
]


@needs_decord
def test_decord_agrees_on_files_that_it_reads_rightly(every_kind, tmp_path):
    rng, turned = np.random.default_rng(11), encode(tmp_path / "v.MP4", 40)
    turn(turned)
    for name in READ_BY_DECORD:
        path = every_kind.get(name, turned)
        ours = VideoReader(path)
        theirs = DecordReader(str(path), ours.index)
        assert ours.size == theirs.size
        indices = rng.integers(0, ours.frames, 20)
        assert np.array_equal(ours.get_frames(indices), theirs.get_frames(indices)), name


def turned_matroska(path: Path, quarters: int) -> Path:
    """A copy in another container, whose note of how to turn pictures has a form of its own."""
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".mkv")), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(-90 * quarters)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path.with_suffix(".mkv")


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("quarters", range(4))
def test_pictures_stand_as_players_show_them(quarters, container, tmp_path):
    path = encode(tmp_path / "v.MP4", 4, (98, 62))
    wanted = np.rot90(VideoReader(path).get_frames(range(4)), -quarters, axes=(1, 2))
    if container == "mp4":
        turn(path, QUARTERS[quarters])
    else:
        path = turned_matroska(path, quarters)
    reader, part = VideoReader(path), Window(6, 10, 30, 20, flipped=True)
    assert reader.size == wanted.shape[1:3]
    assert np.array_equal(reader.get_frames(range(4)), wanted)
    assert np.array_equal(reader.get_frames([3], window=part)[0], wanted[3, 6:36, 29:9:-1])
    assert reader.get_frames([3], (48, 40), part).shape == (1, 48, 40, 3)


def test_a_turn_that_is_no_quarter_is_refused(tmp_path):
    path = encode(tmp_path / "v.MP4", 4)
    turn(path, MIRROR)
    with pytest.raises(FrameError, match=r"v\.MP4: its note of how players turn or mirror"):
        VideoReader(path)
    assert inspect(path, "v")[0].status == "unreadable"


def test_scaling_in_the_decoder_gives_what_scaling_afterwards_gives(lab):
    reader = VideoReader(lab.videos["P01_01"].path(lab.root))
    indices = np.random.default_rng(6).integers(0, reader.frames, 6)
    got = reader.get_frames(indices, size=(48, 86))
    assert got.shape == (6, 48, 86, 3)
    after = [
        cv2.resize(frame, (86, 48), interpolation=cv2.INTER_AREA)
        for frame in reader.get_frames(indices)
    ]
    # Values go up to 255.
    assert np.abs(got.astype(int) - np.stack(after)).mean() < 4


def test_a_change_of_picture_size_is_an_error_that_names_the_frame(tmp_path):
    kinds = ({"repeat_headers": 1}, {"repeat_headers": 1, "size": (128, 96)})
    path = join(parts_of(tmp_path, *kinds), tmp_path / "v.MP4")
    with pytest.raises(FrameError, match=r"v\.MP4: the picture changes its size at frame 60"):
        VideoReader(path).get_frames([0, 60])


def test_a_file_without_a_video_stream_is_an_error_that_names_it_whatever_its_index(
    sound, tmp_path
):
    # The index is of the file that was there before.
    index = build_index(sound["b_frames"])
    audio_only(tmp_path / "a.MP4")
    of_its_size = replace(index, direct=False, file_size=(tmp_path / "a.MP4").stat().st_size)
    with pytest.raises(FrameError, match=r"a\.MP4: no video stream in this file"):
        VideoReader(tmp_path / "a.MP4", of_its_size)
    with pytest.raises(FrameError, match=r"a\.MP4: is not the file that was scanned"):
        VideoReader(tmp_path / "a.MP4", index)


def in_decoding_order(path):
    """All pictures of a file, in the order in which a decoder gives them."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


# Seconds by which a picture may be off. Program streams with B-frames state no time for the last.
@pytest.mark.parametrize(
    ("name", "options", "off"),
    [
        ("h264.avi", PYRAMID, 0.001),
        ("mpeg4.avi", {"codec": "mpeg4"}, 0.001),
        ("h264.mpg", PYRAMID, 0.001),
        ("mpeg2.mpg", {"codec": "mpeg2video"}, 0.001),
        ("mpeg2_b.mpg", {"codec": "mpeg2video", "bf": 2, "g": 12}, 0.07),
        ("mpeg1_b.mpg", {"codec": "mpeg1video", "bf": 2, "g": 12}, 0.07),
    ],
)
def test_frames_are_in_the_order_of_the_decoder_and_a_step_apart(name, options, off, tmp_path):
    path = encode(tmp_path / name, 100, **options)
    wanted = in_decoding_order(path)
    row, index = inspect(path, "v")
    assert (row.status, row.frames, len(wanted)) == ("ok", 100, 100)
    assert np.abs(index.times - np.arange(100) * 1001 / 30000).max() < off
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
