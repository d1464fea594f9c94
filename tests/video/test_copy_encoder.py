"""Copies show the frames of the video, each at its own time."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import zero_block
from epic100.scan.nal import IDR, SLICE, nal_units
from epic100.settings.data import ProxySettings
from epic100.video.copy_encoder import check_copy, write_proxy
from epic100.video.reader import VideoReader
from support.damage import packets_of
from support.packets import later, rewrite
from support.scanned import index_of
from support.tricky_videos import encode, turn

SMALL = ProxySettings(height=48, gop=12, crf=18)


@pytest.fixture(scope="module")
def copies(undamaged, tmp_path_factory):
    """For each type of undamaged file: the copy, its index, and that of the original."""
    folder, made = tmp_path_factory.mktemp("copies"), {}
    for name, original in undamaged.items():
        path, index = folder / f"{name}.MP4", index_of(original)
        made[name] = (path, write_proxy(original, path, SMALL, index), index)
    return made


def greys(path, size=(None, None)) -> np.ndarray:
    """Decode the luma of all frames, [F, height, width], scaled to `size` (width, height)."""
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.best("video"))
        scaled = [f.reformat(*size, "yuv420p", interpolation="BICUBIC") for f in frames]
        return np.stack([f.to_ndarray()[: f.height] for f in scaled]).astype(float)


def seconds(index) -> list[Fraction]:
    """The exact times of all frames, counted from the first one."""
    return [int(pts - index.pts[0]) * index.time_base for pts in index.pts]


def assert_same_frames(copy, original, name, moving=True) -> None:
    """Check that each frame of a copy is like its own frame of the original, by their luma.

    Args:
        copy: The frames of the copy, [F, height, width].
        original: The same of the original, in the same size.
        name: The copy, for the message.
        moving: Whether frames one or two places away must be less like it.
    """
    assert len(copy) == len(original), name
    errors = {
        shift: np.abs(copy - np.roll(original, shift, axis=0)).mean((1, 2))
        for shift in (-2, -1, 0, 1, 2)
    }
    assert errors[0].max() < 6, name
    others = np.min([errors[shift] for shift in (-2, -1, 1, 2)], axis=0)
    assert not moving or (errors[0] < others).all(), name


@pytest.mark.slow
def test_a_copy_s_frames_keep_their_times(undamaged, copies):
    for name, (path, index, index_of_original) in copies.items():
        original = greys(undamaged[name], (index.stream.width, index.stream.height))
        moving = name not in ("still", "black", "one_frame")
        assert_same_frames(greys(path), original, name, moving)
        assert index.frames == len(original), name
        assert seconds(index_of(path)) == seconds(index) == seconds(index_of_original), name


def reference_frames(path) -> list[int]:
    """List the frames on which others may depend: nal_ref_idc of their slices is not 0."""
    times = [
        packet.pts
        for packet in packets_of(path)
        if any(u[0] & 31 in (SLICE, IDR) and u[0] >> 5 for u in nal_units(bytes(packet), 4))
    ]
    return np.searchsorted(index_of(path).pts, sorted(times)).tolist()


@pytest.mark.parametrize("name", ["open_gop", "all_key_frames", "variable_rate", "joined"])
def test_no_frame_depends_on_a_b_frame(name, undamaged, tmp_path):
    index = write_proxy(undamaged[name], tmp_path / "copy.MP4", SMALL)
    last = index.frames - 1
    expected = []
    for frame in range(last):
        place = frame % SMALL.gop  # The place of the frame in its group.
        # Five B-frames follow each reference. The last frame of a group, as that of the video, is
        # none, since no other follows it.
        if place % 6 == 0 or place == SMALL.gop - 1:
            expected.append(frame)
    assert reference_frames(tmp_path / "copy.MP4") == [*expected, last]


@pytest.mark.parametrize(
    "size, expected",
    [
        pytest.param((1920, 1080), (456, 256), id="16:9"),
        pytest.param((1440, 1080), (342, 256), id="4:3"),
        pytest.param((1080, 1920), (256, 456), id="upright"),
        pytest.param((160, 90), (160, 90), id="smaller than a copy"),
        pytest.param((101, 57), (100, 56), id="odd"),
        pytest.param((3, 3), (4, 4), id="tiny"),
    ],
)
def test_a_copy_s_size_is_even_and_proportional(size, expected):
    assert ProxySettings(height=256).size(*size) == expected


@pytest.mark.parametrize("matrix", [1, 5], ids=["BT.709", "BT.601"])
@pytest.mark.parametrize("color_range", [1, 2], ids=["limited range", "full range"])
def test_a_copy_has_the_colours_of_the_original(color_range, matrix, tmp_path):
    # Only a wrong range or matrix can change colours that are the same all over the frame.
    colours = [(200, 40, 60), (30, 180, 90), (70, 80, 230), (250, 250, 245), (8, 4, 12)]
    original, copy = tmp_path / "original.MP4", tmp_path / "copy.MP4"
    with av.open(str(original), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.color_range = color_range
        stream.codec_context.colorspace = matrix
        for colour in colours:
            frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), colour, np.uint8), "rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_color_range=color_range, dst_colorspace=matrix
            )
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    write_proxy(original, copy, SMALL.model_copy(update={"crf": 4}))
    means = {path: VideoReader(path).get_frames(range(5)).mean((1, 2)) for path in (original, copy)}
    assert np.abs(means[original] - colours).max() < 6
    assert np.abs(means[copy] - means[original]).max() < 3


def test_copies_are_turned_as_originals(tmp_path):
    original, copy = encode(tmp_path / "original.MP4", 30), tmp_path / "copy.MP4"
    upright = greys(original)
    turn(original)
    # The original has 96 x 64 pixels, so that the copy has the same.
    write_proxy(original, copy, ProxySettings(height=64, crf=10))
    assert np.abs(greys(copy) - upright).mean() < 4
    for path in (original, copy):
        with av.open(str(path)) as container:
            assert next(container.decode(video=0)).rotation == -90


def share_a_time(path: Path) -> None:
    """Give frames 29 to 31 of a film the same time."""
    rewrite(
        path,
        lambda packets: [
            *packets[:29],
            *(replace(packet, pts=packets[31].pts) for packet in packets[29:31]),
            *packets[31:],
        ],
    )


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(share_a_time, id="frames of one time"),
        pytest.param(lambda path: zero_block(path, 0.4, 6000), id="6000 bytes of 0"),
    ],
)
def test_a_missing_frame_means_no_copy(spoil, tmp_path):
    path = encode(tmp_path / "v.MP4", 200, size=(160, 96), bframes=0)
    spoil(path)
    with pytest.raises(EpicError, match=r"frame \d+ does not decode"):
        write_proxy(path, tmp_path / "made/v.MP4", SMALL)
    assert os.listdir(tmp_path / "made") == []


def test_progress_is_told_every_64_frames(tmp_path):
    path, progress = encode(tmp_path / "v.MP4", 200), []
    write_proxy(path, tmp_path / "copy.MP4", SMALL, progress=progress.append)
    assert progress == [0, 64, 128, 192, 200]


@pytest.mark.parametrize(
    "change, gop, text",
    [
        pytest.param(lambda packets: packets[:20] + packets[21:], 12, "has 119 frames", id="gap"),
        pytest.param(lambda packets: packets[:-1], 12, "has 119 frames", id="last frame missing"),
        pytest.param(
            lambda packets: [*packets[:-1], *later(packets[-1:], 1)],
            12,
            "other times",
            id="last frame late",
        ),
        pytest.param(list, 10, "key frame every 10 frames", id="key frames every 12 frames"),
    ],
)
def test_a_copy_with_other_frames_is_rejected(change, gop, text, copies, tmp_path):
    # The index of the undamaged copy stands for that of the original: its times are the same.
    copy, index, _ = copies["b_frames"]
    changed = rewrite(copy, change, tmp_path / "copy.MP4")
    with pytest.raises(EpicError, match=text):
        check_copy(changed, index, SMALL.model_copy(update={"gop": gop}))


def test_only_the_scanned_file_is_copied(tmp_path):
    path = encode(tmp_path / "v.MP4", 120)
    index = index_of(path)
    rewrite(path, lambda packets: packets[:90] + packets[91:])
    with pytest.raises(EpicError, match="is not the file that was scanned; scan it again"):
        write_proxy(path, tmp_path / "made/v.MP4", SMALL, index)
    assert os.listdir(tmp_path / "made") == []
