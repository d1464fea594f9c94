"""The clips of one video show its frames, each at its own time, in any browser."""

from pathlib import Path

import av
import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.pages.clip_cutter import Clip, cut_video
from epic100.video.build_index import build_index
from epic100.video.ffmpeg import boxes_of
from epic100.video.reader import VideoReader
from support.packets import rewrite
from support.tricky_videos import encode, turn

RANGES = ((0, 20), (10, 45), (44, 45), (17, 45), (60, 90))


def clips_of(folder: Path, ranges) -> dict[str, Clip]:
    """The clips for these ranges [start, stop) of frames."""
    return {f"{a}_{b}": Clip(folder / f"{a}_{b}.mp4", a, b) for a, b in ranges}


def assert_same_frames(copy: np.ndarray, original: np.ndarray) -> None:
    """Check that each frame of a clip is most like its own of the original, upright, in colour.

    Args:
        copy: uint8 RGB [F, height, width, 3].
        original: The same.
    """
    assert copy.shape == original.shape
    assert np.abs(copy.mean((1, 2)) - original.mean((1, 2))).max() < 4
    others = np.concatenate([original, original[:, ::-1, ::-1]]).astype(int)
    for number, frame in enumerate(copy):
        assert np.abs(others - frame).mean((1, 2, 3)).argmin() == number


@pytest.mark.parametrize("name", ["b_frames", "open_gop", "cut_open_gop", "variable_rate"])
def test_a_clip_has_its_segment_s_times(name, undamaged, tmp_path):
    # `cut_open_gop` has fewer than 90 frames.
    ranges = [(a, b) for a, b in RANGES if name != "cut_open_gop" or b < 60]
    clips, index = clips_of(tmp_path, ranges), build_index(undamaged[name])
    assert cut_video(undamaged[name], index, clips) == {}
    reader = VideoReader(undamaged[name], index)
    for clip in clips.values():
        copy = VideoReader(clip.target)
        original = reader.get_frames(range(clip.start, clip.stop))
        assert_same_frames(copy.get_frames(range(copy.frames)), original)
        times = index.times[clip.start : clip.stop] - index.times[clip.start]
        assert copy.index.times == pytest.approx(times)


def test_a_turned_large_video_becomes_upright_and_small(tmp_path):
    # In 1/30000 s these are the times of 60 frames a second.
    path = encode(tmp_path / "v.MP4", 60, size=(640, 320), times=list(range(0, 30000, 500)))
    turn(path)
    (clip,) = clips_of(tmp_path, [(5, 40)]).values()
    cut_video(path, build_index(path), {"": clip})
    copy = VideoReader(clip.target)
    assert (copy.size, copy.frames) == ((360, 180), 18)
    assert copy.index.times == pytest.approx(np.arange(18) / 30, abs=1e-3)
    original = VideoReader(path).get_frames(range(5, 40, 2), copy.size)
    assert_same_frames(copy.get_frames(range(18)), original)


def test_a_browser_can_play_a_clip(undamaged, tmp_path):
    (clip,) = clips_of(tmp_path, [(40, 90)]).values()
    cut_video(undamaged["444"], build_index(undamaged["444"]), {"": clip})
    data = clip.target.read_bytes()
    boxes = boxes_of(lambda at, count: data[at : at + count], 0, len(data))
    # The header comes first, so that playing begins before the whole file is there.
    assert [box.name for box in boxes][:2] == ["ftyp", "moov"]
    with av.open(str(clip.target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert next(container.demux(video=0)).is_keyframe


def test_only_the_scanned_file_is_cut(tmp_path):
    path = encode(tmp_path / "v.MP4", 120)
    index, clips = build_index(path), clips_of(tmp_path / "made", [(0, 20), (30, 50)])
    rewrite(path, lambda packets: packets[:90] + packets[91:])
    with pytest.raises(EpicError, match="is not the file that was scanned; scan it again"):
        cut_video(path, index, clips)
    assert not (tmp_path / "made").exists()


def test_the_size_of_a_clip_has_a_limit(tmp_path):
    # Noise takes far more bits than a kitchen.
    noise = np.random.default_rng(0).integers(0, 256, (150, 180, 320, 3), np.uint8)
    path = encode(tmp_path / "v.MP4", 150, size=(320, 180), source=list(noise))
    (clip,) = clips_of(tmp_path, [(0, 150)]).values()
    cut_video(path, build_index(path), {"": clip})
    # 90 kbit/s for the 5 seconds and at most half a second more; the header has some bytes for
    # each frame.
    assert clip.target.stat().st_size < 90_000 / 8 * (5 + 0.5) + 4000
