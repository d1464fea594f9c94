"""Copies and clips: each picture is its own frame of the video, at the same time."""

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
    """For each kind of sound file the path, the facts and the index of a copy."""
    folder, found = tmp_path_factory.mktemp("copies"), {}
    for name, path in sound.items():
        counts = []
        _, index = inspect(path, name)
        made, own = write_proxy(path, folder / f"{name}.MP4", SMALL, index, counts.append)
        assert seconds(own) == seconds(index), name
        assert counts == sorted(counts) and (counts[0], counts[-1]) == (0, own.frames), name
        found[name] = folder / f"{name}.MP4", made, own
    return found


def greys(path, size=(None, None)) -> np.ndarray:
    """Luma [F, height, width] of a whole decode, scaled to `size` (width, height)."""
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.best("video"))
        scaled = [f.reformat(*size, "yuv420p", interpolation="BICUBIC") for f in frames]
        return np.stack([f.to_ndarray()[: f.height] for f in scaled]).astype(float)


def seconds(index) -> list[Fraction]:
    return [int(pts - index.pts[0]) * index.time_base for pts in index.pts]


def test_frame_i_of_a_copy_is_frame_i_of_the_original_at_the_same_time(sound, copies):
    for name, (path, made, own) in copies.items():
        index = build_index(path)
        assert seconds(index) == seconds(own) == seconds(build_index(sound[name])), name
        assert made["frames"] == index.frames and not made["stand_ins"], name
        copy = greys(path)
        original = greys(sound[name], (made["width"], made["height"]))
        assert len(copy) == len(original) == index.frames, name
        errors = {
            shift: np.abs(copy - np.roll(original, shift, axis=0)).mean((1, 2))
            for shift in (-2, -1, 0, 1, 2)
        }
        assert errors[0].max() < 6, name
        if name not in ("still", "black", "one_picture"):
            others = np.min([errors[shift] for shift in (-2, -1, 1, 2)], axis=0)
            assert (errors[0] < others).all(), name


def references(path) -> list[int]:
    """Frame numbers of the pictures that others may depend on (nal_ref_idc of their slices)."""
    found = [
        packet.pts
        for packet in packets_of(path)
        if any(u[0] & 31 in (SLICE, IDR) and u[0] >> 5 for u in nal_units(bytes(packet), 4))
    ]
    return np.searchsorted(build_index(path).pts, sorted(found)).tolist()


@pytest.mark.parametrize("name", ["open_gop", "all_key_frames", "variable_rate", "joined"])
def test_copies_are_closed_groups_in_which_nothing_depends_on_a_b_frame(name, copies):
    copy, _, own = copies[name]
    groups = np.searchsorted(own.pts, own.packets["pts"]) // 12
    assert own.key_pts.tolist() == own.pts[::12].tolist()
    assert (np.diff(groups) >= 0).all()
    assert own.direct and own.packets["shown"].all()
    last = own.frames - 1
    wanted = {n for n in range(own.frames) if n % 12 in (0, 6, 11)} | {last}
    assert set(references(copy)) == wanted


def test_copies_without_b_frames_are_coded_in_the_order_of_their_pictures(sound, tmp_path):
    copy = tmp_path / "copy.MP4"
    _, own = write_proxy(sound["variable_rate"], copy, SMALL.model_copy(update={"b_frames": 0}))
    assert own.packets["pts"].tolist() == own.packets["dts"].tolist() == own.pts.tolist()
    assert references(copy) == list(range(own.frames))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 360), (456, 256)),
        ((1920, 1080), (456, 256)),
        ((1440, 1080), (342, 256)),
        ((1080, 1920), (256, 456)),
        ((456, 256), (456, 256)),
        ((160, 90), (160, 90)),
        ((101, 57), (100, 56)),
        ((3, 3), (4, 4)),
    ],
)
def test_sizes_are_even_and_in_proportion(size, expected):
    assert ProxySettings(height=256).size(*size) == expected


@pytest.mark.parametrize("full, matrix", [(False, 5), (True, 5), (False, 1), (True, 1)])
def test_colours_are_kept_in_their_range_and_matrix(full, matrix, tmp_path):
    path = tmp_path / "v.MP4"
    # Even colours, so that nothing but range and matrix can move them.
    colours = [(200, 40, 60), (30, 180, 90), (70, 80, 230), (250, 250, 245), (8, 4, 12)]
    values = {"dst_color_range": 2 if full else 1, "dst_colorspace": matrix}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.color_range = values["dst_color_range"]
        stream.codec_context.colorspace = matrix
        for colour in colours:
            frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), colour, np.uint8), "rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p", **values)))
        out.mux(stream.encode(None))
    write_proxy(path, tmp_path / "copy.MP4", SMALL.model_copy(update={"crf": 4}))
    frames = list(range(len(colours)))
    original = VideoReader(path).get_frames(frames).mean((1, 2))
    copy = VideoReader(tmp_path / "copy.MP4").get_frames(frames).mean((1, 2))
    assert np.abs(original - colours).max() < 6
    assert np.abs(copy - original).max() < 3


def test_a_rotation_is_left_to_the_player_as_in_the_original(tmp_path):
    path = encode(tmp_path / "v.MP4", 30)
    before = greys(path)
    turn(path)
    made, _ = write_proxy(path, tmp_path / "copy.MP4", ProxySettings(height=64, crf=10))
    assert (made["width"], made["height"]) == (96, 64)
    assert np.abs(greys(tmp_path / "copy.MP4") - before).mean() < 4
    for file in (path, tmp_path / "copy.MP4"):
        with av.open(str(file)) as container:
            assert next(container.decode(video=0)).rotation == -90


def test_damaged_frames_are_grey_and_no_number_shifts(tmp_path):
    path = encode(tmp_path / "v.MP4", 200, size=(160, 96))
    whole = greys(path, (80, 48))
    zero_block(path, 0.4, 6000)
    row, index = inspect(path, "v")
    made, own = write_proxy(path, tmp_path / "copy.MP4", SMALL, index)
    assert made["stand_ins"] and seconds(own) == seconds(index)
    damaged = np.isin(np.arange(200), list(marked(row)))
    assert damaged[made["stand_ins"]].all() and not damaged.all()
    assert np.abs(greys(tmp_path / "copy.MP4") - whole)[~damaged].mean((1, 2)).max() < 6
    rgb = VideoReader(tmp_path / "copy.MP4", own).get_frames(made["stand_ins"]).astype(int)
    assert np.abs(rgb - 130).mean((1, 2, 3)).max() < 12


def test_frames_that_share_a_time_follow_each_other_and_move_no_other(tmp_path):
    path = encode(tmp_path / "v.MP4", 60, bframes=0)
    rewrite(
        path, lambda p: [*p[:29], *(replace(each, pts=p[31].pts) for each in p[29:31]), *p[31:]]
    )
    row, index = inspect(path, "v")
    assert index.frames == 60 and len(set(index.pts[29:32])) == 1
    _, own = write_proxy(path, tmp_path / "copy.MP4", SMALL, index)
    assert own.frames == 60 and (np.diff(own.pts) > 0).all()
    apart = np.abs(own.times - index.times)
    assert apart.max() < float(index.time_base)
    assert np.flatnonzero(apart > 1e-9).tolist() == [30, 31]
    assert any(a <= 31 < b for a, b in row.damaged)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy, and the index of its original."""
    folder = tmp_path_factory.mktemp("copied")
    index = build_index(encode(folder / "v.MP4", 60))
    write_proxy(folder / "v.MP4", folder / "copy.MP4", SMALL, index)
    return folder / "copy.MP4", index


def last_one_late(packets):
    return [*packets[:-1], *later(packets[-1:], 1)]


@pytest.mark.parametrize(
    ("change", "gop", "words"),
    [
        (lambda packets: packets[:20] + packets[21:], 12, "has 59 frames"),
        (lambda packets: packets[:-1], 12, "has 59 frames"),
        (last_one_late, 12, "other times"),
        (list, 10, "key frame every 10 pictures"),
    ],
    ids=["one dropped", "last dropped", "one late", "another distance of key frames"],
)
def test_a_copy_that_does_not_hold_is_refused(change, gop, words, copied, tmp_path):
    copy, index = copied
    check_copy(copy, index, SMALL)
    spoilt = rewrite(copy, change, tmp_path / "copy.MP4")
    with pytest.raises(EpicError, match=words):
        check_copy(spoilt, index, SMALL.model_copy(update={"gop": gop}))


def test_nothing_is_left_of_a_copy_that_fails(tmp_path):
    path = encode(tmp_path / "v.MP4", 30)
    other = build_index(encode(tmp_path / "other.MP4", 31))
    target = tmp_path / "copies" / "v.MP4"
    with pytest.raises(EpicError, match="scan it again"):
        write_proxy(path, target, SMALL, other)
    assert list(target.parent.iterdir()) == []


SHARP = ClipSettings(height=64, gop=12, crf=12)
OVERLAPPING = ((0, 20), (10, 45), (44, 45), (17, 45), (60, 100))


def clips_of(folder: Path, ranges) -> list[Clip]:
    return [Clip(str(folder / f"{a}_{b}.mp4"), a, b, f"made from {a} to {b}") for a, b in ranges]


def assert_same_frames(path: Path, clip: Clip) -> None:
    """Each picture of the clip is nearest to its own frame of the video, and at its time."""
    source = VideoReader(path)
    frames = source.get_frames(range(source.frames))[:, ::2, ::2].astype(np.float32)
    with av.open(clip.target) as container:
        cut = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert len(cut) == clip.stop - clip.start
    for number, picture in enumerate(cut[:, ::2, ::2].astype(np.float32), start=clip.start):
        errors = np.abs(frames - picture).mean((1, 2, 3))
        assert errors.argmin() == number and errors[number] < 6, (clip, number)
    part = source.index.part(clip.start, clip.stop)
    assert seconds(build_index(clip.target)) == seconds(part)


@pytest.mark.parametrize("name", ["b_frames", "open_gop", "cut_open_gop", "variable_rate"])
def test_a_clip_has_the_frames_of_its_segment_each_once_and_in_order(name, sound, tmp_path):
    clips = clips_of(tmp_path, [r for r in OVERLAPPING if name != "cut_open_gop" or r[1] < 60])
    assert not cut_clips(sound[name], build_index(sound[name]), clips, SHARP)
    for clip in clips:
        assert_same_frames(sound[name], clip)
        assert clip.is_there()


def test_a_clip_begins_with_its_header_and_a_key_frame_in_a_format_that_browsers_play(
    sound, tmp_path
):
    (clip,) = clips = clips_of(tmp_path, [(40, 90)])
    cut_clips(sound["444"], build_index(sound["444"]), clips, SHARP)
    data = Path(clip.target).read_bytes()
    boxes = boxes_of(lambda at, count: data[at : at + count], 0, len(data))
    assert [box.name for box in boxes][:2] == ["ftyp", "moov"]
    with av.open(clip.target) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == [0, 12, 24, 36, 48]


def test_a_file_other_than_the_one_that_was_scanned_gives_no_clip(tmp_path):
    path = encode(tmp_path / "v.MP4", 120)
    index = build_index(path)
    rewrite(path, lambda packets: packets[:90] + packets[91:])
    clips = clips_of(tmp_path, [(0, 20), (30, 50)])
    with pytest.raises(EpicError, match="its packets are not those that were scanned"):
        cut_clips(path, index, clips, SHARP)
    assert sorted(os.listdir(tmp_path)) == ["v.MP4"]


def test_a_limit_on_kilobits_holds_for_each_clip(sound, tmp_path):
    path, clips = sound["b_frames"], clips_of(tmp_path, [(0, 120), (50, 65)])
    sizes = {}
    for most in (None, 30):
        settings = SHARP.model_copy(update={"crf": 4, "max_kbit": most})
        cut_clips(path, build_index(path), clips, settings)
        sizes[most] = [Path(clip.target).stat().st_size for clip in clips]
    for clip, free, limited in zip(clips, *sizes.values(), strict=True):
        length, header = (clip.stop - clip.start) / 29.97, 1500 + 8 * (clip.stop - clip.start)
        assert limited < 30_000 / 8 * (length + 0.5) + header < free
