import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.proxy.cutter import Clip, cut_clips
from epic100.settings import ClipSettings
from epic100.video.containers import boxes_of
from epic100.video.index import build_index
from epic100.video.reader import VideoReader
from support.packets import rewrite
from support.tricky_videos import encode, turn

SHARP = ClipSettings(height=64, gop=12, crf=12)
OVERLAPPING = ((0, 20), (10, 45), (44, 45), (17, 45), (60, 100))


def clips_of(folder: Path, ranges) -> list[Clip]:
    return [Clip(str(folder / f"{a}_{b}.mp4"), a, b, f"made from {a} to {b}") for a, b in ranges]


def seconds(pts, time_base) -> list[Fraction]:
    return [int(time - pts[0]) * time_base for time in pts]


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
    index = build_index(clip.target)
    part = source.index.pts[clip.start : clip.stop]
    assert seconds(index.pts, index.time_base) == seconds(part, source.index.time_base)


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


def test_a_rotation_is_left_to_the_player(tmp_path):
    path = encode(tmp_path / "v.MP4", 60)
    turn(path)
    clips = clips_of(tmp_path, [(5, 15), (10, 40)])
    cut_clips(path, build_index(path), clips, SHARP)
    for clip in clips:
        with av.open(clip.target) as container:
            first = next(container.decode(video=0))
            assert (first.width, first.height, first.rotation) == (96, 64, -90)


def test_a_file_other_than_the_one_that_was_scanned_gives_no_clip(tmp_path):
    path = encode(tmp_path / "v.MP4", 120)
    index = build_index(path)
    rewrite(path, lambda packets: packets[:90] + packets[91:])
    clips = clips_of(tmp_path, [(0, 20), (30, 50)])
    with pytest.raises(EpicError, match="its packets are not those that were scanned"):
        cut_clips(path, index, clips, SHARP)
    assert sorted(os.listdir(tmp_path)) == ["v.MP4"]


def test_a_limit_on_kilobits_holds_for_each_clip(sound, tmp_path):
    index = build_index(sound["b_frames"])
    clips = clips_of(tmp_path, [(0, 120), (50, 65)])
    sizes = {}
    for most in (None, 30):
        cut_clips(
            sound["b_frames"], index, clips, SHARP.model_copy(update=dict(crf=4, max_kbit=most))
        )
        sizes[most] = [Path(clip.target).stat().st_size for clip in clips]
    for clip, free, limited in zip(clips, *sizes.values(), strict=True):
        length = (clip.stop - clip.start) / 29.97
        header = 1500 + 8 * (clip.stop - clip.start)
        assert limited < 30_000 / 8 * (length + 0.5) + header < free
