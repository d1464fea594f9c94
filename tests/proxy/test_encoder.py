"""Copies and clips show the frames of the video, each at its own time."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import zero_block
from epic100.proxy.cutter import Clip, cut_clips
from epic100.proxy.encoder import check_copy, write_proxy
from epic100.settings import ClipSettings, ProxySettings
from epic100.video.containers import boxes_of
from epic100.video.index import build_index
from epic100.video.nal import IDR, SLICE, nal_units
from epic100.video.reader import VideoReader
from support.damage import marked, packets_of
from support.packets import later, rewrite
from support.scanned import inspect
from support.tricky_videos import encode, turn

SMALL = ProxySettings(height=48, gop=12, crf=18)


@pytest.fixture(scope="module")
def copies(sound, tmp_path_factory):
    """For each kind of undamaged file: the copy, the notes of `write_proxy`, and its index."""
    folder = tmp_path_factory.mktemp("copies")
    return {
        name: (folder / f"{name}.MP4", *write_proxy(original, folder / f"{name}.MP4", SMALL))
        for name, original in sound.items()
    }


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
        original: Those of the original, in the same size.
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
def test_frame_i_of_a_copy_is_frame_i_of_the_original(sound, copies):
    for name, (path, notes, _) in copies.items():
        original = greys(sound[name], (notes["width"], notes["height"]))
        moving = name not in ("still", "black", "one_picture")
        assert_same_frames(greys(path), original, name, moving)
        assert notes["frames"] == len(original) and not notes["stand_ins"], name


@pytest.mark.slow
def test_a_copy_shows_its_frames_at_the_times_of_the_original(sound, copies):
    for name, (path, _, index) in copies.items():
        assert seconds(build_index(path)) == seconds(index), name
        assert seconds(index) == seconds(build_index(sound[name])), name


def reference_frames(path) -> list[int]:
    """List the frames on which others may depend: nal_ref_idc of their slices is not 0."""
    times = [
        packet.pts
        for packet in packets_of(path)
        if any(u[0] & 31 in (SLICE, IDR) and u[0] >> 5 for u in nal_units(bytes(packet), 4))
    ]
    return np.searchsorted(build_index(path).pts, sorted(times)).tolist()


@pytest.mark.parametrize(
    "name, b_frames",
    [
        ("open_gop", 5),
        ("all_key_frames", 5),
        ("variable_rate", 5),
        ("joined", 5),
        ("variable_rate", 0),
    ],
)
def test_no_frame_of_a_copy_depends_on_a_b_frame(name, b_frames, sound, tmp_path):
    settings = SMALL.model_copy(update={"b_frames": b_frames})
    _, index = write_proxy(sound[name], tmp_path / "copy.MP4", settings)
    last = index.frames - 1
    expected = []
    for frame in range(last):
        place = frame % SMALL.gop  # The place of the frame in its group.
        # The last frame of a group, as that of the video, is no B-frame, since no other follows it.
        if place % (b_frames + 1) == 0 or place == SMALL.gop - 1:
            expected.append(frame)
    assert reference_frames(tmp_path / "copy.MP4") == [*expected, last]
    assert index.direct


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
def test_the_size_of_a_copy_is_even_and_in_proportion(size, expected):
    assert ProxySettings(height=256).size(*size) == expected


@pytest.mark.parametrize("matrix", [1, 5], ids=["BT.709", "BT.601"])
@pytest.mark.parametrize("color_range", [1, 2], ids=["limited range", "full range"])
def test_a_copy_has_the_colours_of_the_original(color_range, matrix, tmp_path):
    # Only a wrong range or matrix can change colours that are the same all over the picture.
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


def test_players_turn_a_copy_as_they_turn_the_original(tmp_path):
    original, copy = encode(tmp_path / "original.MP4", 30), tmp_path / "copy.MP4"
    upright = greys(original)
    turn(original)
    # The original has 96 x 64 pixels, so that the copy has the same.
    write_proxy(original, copy, ProxySettings(height=64, crf=10))
    assert np.abs(greys(copy) - upright).mean() < 4
    for path in (original, copy):
        with av.open(str(path)) as container:
            assert next(container.decode(video=0)).rotation == -90


def test_damaged_frames_are_grey_and_no_frame_number_changes(tmp_path):
    original, copy = encode(tmp_path / "v.MP4", 200, size=(160, 96)), tmp_path / "copy.MP4"
    undamaged = greys(original, (80, 48))
    # From 40 % of the coded pictures on, 6000 bytes become 0.
    zero_block(original, 0.4, 6000)
    row, index = inspect(original, "v")
    progress = []
    notes, copy_index = write_proxy(original, copy, SMALL, index, progress.append)
    assert progress == [0, 64, 128, 192, 200]
    assert seconds(copy_index) == seconds(index)
    is_damaged = np.isin(np.arange(200), list(marked(row)))
    # The codec changes the other frames a little.
    assert np.abs(greys(copy) - undamaged)[~is_damaged].mean((1, 2)).max() < 6
    assert notes["stand_ins"] and is_damaged[notes["stand_ins"]].all()
    grey = VideoReader(copy, copy_index).get_frames(notes["stand_ins"]).astype(int)
    # A luma of 128 is 130 in RGB, since luma begins at 16.
    assert np.abs(grey - 130).mean((1, 2, 3)).max() < 12


def test_frames_with_the_same_time_follow_each_other(tmp_path):
    path = encode(tmp_path / "v.MP4", 60, bframes=0)

    def give_the_time_of_frame_31(packets):
        same = [replace(packet, pts=packets[31].pts) for packet in packets[29:31]]
        return [*packets[:29], *same, *packets[31:]]

    rewrite(path, give_the_time_of_frame_31)
    _, index = inspect(path, "v")
    _, copy_index = write_proxy(path, tmp_path / "copy.MP4", SMALL, index)
    assert (np.diff(copy_index.pts) > 0).all()
    delays = copy_index.times - index.times
    assert np.flatnonzero(delays > 1e-9).tolist() == [30, 31]
    assert delays.max() < float(index.time_base)


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
        pytest.param(list, 10, "key frame every 10 pictures", id="key frames every 12 frames"),
    ],
)
def test_a_copy_with_other_frames_than_the_original_is_refused(change, gop, text, copies, tmp_path):
    # The index of the undamaged copy stands for that of the original: its times are the same.
    copy, _, index = copies["b_frames"]
    changed = rewrite(copy, change, tmp_path / "copy.MP4")
    with pytest.raises(EpicError, match=text):
        check_copy(changed, index, SMALL.model_copy(update={"gop": gop}))


SHARP = ClipSettings(height=64, gop=12, crf=12)
OVERLAPPING = ((0, 20), (10, 45), (44, 45), (17, 45), (60, 100))


def clips_of(folder: Path, ranges) -> list[Clip]:
    """The clips for these ranges [start, stop) of frames."""
    return [Clip(str(folder / f"{a}_{b}.mp4"), a, b, f"made from {a} to {b}") for a, b in ranges]


@pytest.mark.parametrize("name", ["b_frames", "open_gop", "cut_open_gop", "variable_rate"])
def test_a_clip_has_the_frames_of_its_segment_in_order(name, sound, tmp_path):
    # `cut_open_gop` has fewer than 100 frames.
    ranges = [(a, b) for a, b in OVERLAPPING if name != "cut_open_gop" or b < 60]
    clips, index = clips_of(tmp_path, ranges), build_index(sound[name])
    assert not cut_clips(sound[name], index, clips, SHARP)
    original = greys(sound[name])
    for clip in clips:
        assert clip.is_there()
        own_frames = original[clip.start : clip.stop]
        assert_same_frames(greys(clip.target), own_frames, clip, moving=len(own_frames) > 1)
        assert seconds(build_index(clip.target)) == seconds(index.part(clip.start, clip.stop))


def test_a_browser_can_play_a_clip(sound, tmp_path):
    (clip,) = clips_of(tmp_path, [(40, 90)])
    cut_clips(sound["444"], build_index(sound["444"]), [clip], SHARP)
    data = Path(clip.target).read_bytes()
    boxes = boxes_of(lambda at, count: data[at : at + count], 0, len(data))
    # The header comes first, so that playing begins before the whole file is there.
    assert [box.name for box in boxes][:2] == ["ftyp", "moov"]
    with av.open(clip.target) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert next(container.demux(video=0)).is_keyframe


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            lambda path, index, folder: write_proxy(path, folder / "v.MP4", SMALL, index),
            id="copy",
        ),
        pytest.param(
            lambda path, index, folder: cut_clips(
                path, index, clips_of(folder, [(0, 20), (30, 50)]), SHARP
            ),
            id="clips",
        ),
    ],
)
def test_nothing_is_made_from_another_file_than_the_scanned_one(write, tmp_path):
    path = encode(tmp_path / "v.MP4", 120)
    index = build_index(path)
    rewrite(path, lambda packets: packets[:90] + packets[91:])
    with pytest.raises(EpicError, match="its packets are not those that were scanned; scan it"):
        write(path, index, tmp_path / "made")
    assert os.listdir(tmp_path / "made") == []


def test_a_limit_on_kilobits_holds_for_each_clip(sound, tmp_path):
    path, clips = sound["b_frames"], clips_of(tmp_path, [(0, 120), (50, 65)])
    sizes = {}
    for max_kbit in (None, 30):
        settings = SHARP.model_copy(update={"crf": 4, "max_kbit": max_kbit})
        cut_clips(path, build_index(path), clips, settings)
        sizes[max_kbit] = np.array([Path(clip.target).stat().st_size for clip in clips])
    frames = np.array([120, 15])
    # Half a second may come on top, and the header has 8 bytes for each frame.
    limits = 30_000 / 8 * (frames / 29.97 + 0.5) + 1500 + 8 * frames
    assert (sizes[30] < limits).all() and (limits < sizes[None]).all()
