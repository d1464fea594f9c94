from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from epic100.minikitchen import write_video
from epic100.video.ffmpeg import picture_stream
from epic100.video.index import build_index
from epic100.video.index_file import load_index
from epic100.video.reader import FrameError, ReaderCache, VideoReader
from epic100.video.sheet import Video
from support.decoders import needs_decord
from support.tricky_videos import audio_only, change_size, encode, pictures


@pytest.fixture(scope="module", params=["P01_01", "P02_101", "P03_07"])
def video(request, lab):
    """A video's path and all its frames, decoded from first to last."""
    path = lab.videos[request.param].path(lab.root)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return path, np.stack(frames)


@pytest.mark.parametrize("seed", range(3))
def test_random_frames_are_those_of_a_full_decode(video, seed):
    path, full = video
    rng = np.random.default_rng(seed)
    reader = VideoReader(path)
    for size in (1, 2, 13, 40):
        indices = rng.integers(0, len(full), size)  # any order, repeats too
        assert np.array_equal(reader.get_frames(indices), full[indices])


@needs_decord
def test_decord_gives_the_same_frames(video):
    import decord

    path, full = video
    reader = decord.VideoReader(str(path))
    indices = np.random.default_rng(5).integers(0, len(full), 30)
    ours = VideoReader(path).get_frames(indices)
    assert np.array_equal(ours, reader.get_batch(indices).asnumpy())


def test_first_and_last_frame_can_be_had(video):
    path, full = video
    got = VideoReader(path).get_frames([0, len(full) - 1])
    assert np.array_equal(got, full[[0, -1]])


def test_a_group_of_pictures_is_read_without_touching_a_damaged_one_before_it(tmp_path):
    video = Video("P01_01", "P01", "train", 60000 / 1001, 16.016)
    write_video(video, tmp_path / "whole.mp4", seed=3)
    index = build_index(tmp_path / "whole.mp4")
    with av.open(str(tmp_path / "whole.mp4")) as container:
        inside = [p for p in container.demux(video=0) if p.pts and p.size > 500]
        hit = next(p for p in inside if index.key_pts[1] < p.pts < index.key_pts[2])
        start, size = hit.pos, hit.size
    damaged = bytearray((tmp_path / "whole.mp4").read_bytes())
    damaged[start : start + size] = bytes(size)
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    wanted = np.searchsorted(index.pts, index.key_pts[2]) + np.arange(0, 78, 6)
    whole, reader = VideoReader(tmp_path / "whole.mp4"), VideoReader(tmp_path / "damaged.mp4")
    assert np.array_equal(reader.get_frames(wanted), whole.get_frames(wanted))
    with pytest.raises(FrameError, match=r"damaged\.mp4"):
        reader.get_frames([np.searchsorted(index.pts, hit.pts)])
    assert np.array_equal(reader.get_frames(wanted), whole.get_frames(wanted))


def sequential(path) -> np.ndarray:
    """All shown pictures of a file in order of presentation, decoded from first to last."""
    with av.open(str(path)) as container:
        stream = picture_stream(container)
        frames = {f.pts: f.to_ndarray(format="rgb24") for f in container.decode(stream)}
    return np.stack([frames[pts] for pts in build_index(path).pts.tolist()])


@pytest.mark.parametrize("seed", range(3))
def test_frames_of_every_kind_of_sound_file_are_those_of_a_full_decode(sound, seed):
    rng = np.random.default_rng(seed)
    for name, path in sound.items():
        full, reader = sequential(path), VideoReader(path)
        for size in (1, 13, 5):
            indices = rng.integers(0, len(full), size)
            assert np.array_equal(reader.get_frames(indices), full[indices]), name


def test_colours_of_limited_and_full_range_are_those_of_a_full_decode(tmp_path):
    seen = []
    for name in ("limited", "full"):
        pix_fmt = {"limited": "yuv420p", "full": "yuvj420p"}[name]
        path = encode(tmp_path / f"{name}.MP4", 40, pix_fmt=pix_fmt)
        full = sequential(path)
        assert np.array_equal(VideoReader(path).get_frames(range(40)), full)
        source = np.stack(list(pictures(40)))
        seen.append(np.abs(full.astype(int) - source).mean())
    assert max(seen) < 12  # of 255: a range that is mistaken costs more


@needs_decord
def test_decord_agrees_on_tricky_files_that_it_reads_rightly(sound):
    import decord

    rng = np.random.default_rng(11)
    for name in ("b_frames", "no_b_frames", "all_key_frames", "index_first", "cavlc", "slices",
                 "weighted", "joined", "quicktime"):  # fmt: skip
        ours = VideoReader(sound[name])
        indices = rng.integers(0, ours.index.frames, 20)
        theirs = decord.VideoReader(str(sound[name])).get_batch(indices).asnumpy()
        assert np.array_equal(ours.get_frames(indices), theirs), name


def test_scaling_in_the_decoder_gives_what_scaling_afterwards_gives(video):
    path, full = video
    indices = np.random.default_rng(6).integers(0, len(full), 6)
    got = VideoReader(path).get_frames(indices, size=(48, 86))
    assert got.shape == (6, 48, 86, 3)
    after = [cv2.resize(f, (86, 48), interpolation=cv2.INTER_AREA) for f in full[indices]]
    assert np.abs(got.astype(int) - np.stack(after)).mean() < 4  # of 255


def test_a_change_of_picture_size_is_an_error_that_names_the_frame(tmp_path):
    path = change_size(tmp_path / "v.MP4")
    with pytest.raises(FrameError, match=r"v\.MP4: the picture changes its size at frame 60"):
        VideoReader(path).get_frames([0, 60])


@pytest.mark.parametrize("index", [-1, 10**6])
def test_a_frame_outside_the_file_is_an_error_that_names_it(video, index):
    path, _ = video
    with pytest.raises(FrameError, match=f"{path.name}.*{index}"):
        VideoReader(path).get_frames([0, index])


def test_a_file_without_a_video_stream_is_an_error_that_names_it_whatever_its_index(lab, tmp_path):
    index = build_index(lab.videos["P01_01"].path(lab.root))  # of the file that was there before
    index = replace(index, table=None)  # as scans were at first, without the file's size
    with pytest.raises(FrameError, match=r"a\.MP4: no video stream in this file"):
        VideoReader(audio_only(tmp_path / "a.MP4"), index)


def test_the_index_of_the_scan_is_the_index_of_the_file(lab):
    path = lab.videos["P01_01"].path(lab.root)
    scanned = load_index(f"{lab.results}/scan/P01.index.npz", "P01_01")
    built = build_index(path)
    for name in ("pts", "key_pts", "key_dts"):
        assert np.array_equal(getattr(scanned, name), getattr(built, name))
    assert scanned.time_base == built.time_base
    assert built.fps == pytest.approx(60000 / 1001, abs=1e-6)


def test_the_cache_keeps_the_readers_used_last_and_closes_the_others(lab):
    paths = [str(v.path(lab.root)) for v in lab.videos.values()][:3]
    cache = ReaderCache(size=2)
    first, second = cache.get(paths[0]), cache.get(paths[1])
    assert cache.get(paths[0]) is first
    cache.get(paths[2])  # the second was used longest ago
    assert cache.get(paths[0]) is first
    with pytest.raises((FrameError, AssertionError, ValueError)):
        second.get_frames([0])
