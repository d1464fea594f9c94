"""The MP4 copy of a film in another container: its frames, their times, and errors."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from epic100.base.guarded import ProcessError
from epic100.video.index import FrameError
from epic100.video.mp4_copy import make_copy
from epic100.video.reader import VideoReader
from support.packets import packed_mpeg_4, rewrite
from support.this_process import largest_file
from support.tricky_videos import (
    PYRAMID,
    RATE,
    audio_only,
    encode,
    parts_of,
    show_parts,
    turn,
    two_entries,
    uneven_times,
)

pytestmark = pytest.mark.slow

COUNT = 40
LATE = [20000 + 1001 * number for number in range(COUNT)]
HEVC = {"codec": "libx265", "x265": {}}


class Film(NamedTuple):
    """A type of film.

    Attributes:
        make: Writes the film at a path, or near it, and returns its path.
        times: When frames are shown, in 1/30000 s; None means 29.97 frames a second from time 0.
        turns: Number of quarter turns clockwise before a frame is shown.
    """

    make: Callable[[Path], Path]
    times: list[int] | None = None
    turns: int = 0


def plain(**options) -> Film:
    """A film that an encoder and a muxer write; `options` are for `encode`."""
    return Film(partial(encode, count=COUNT, **options), options.get("times"))


def through_mp4(path: Path, turns: int = 0, **options) -> Path:
    """Encode an MP4, and put its packets into another container."""
    film = encode(path.with_name("first.MP4"), COUNT, **options)
    if turns:
        turn(film)
    return rewrite(film, out=path)


def packed(path: Path) -> Path:
    """Write MPEG-4 of which some packets have two frames."""
    return rewrite(encode(path, COUNT, codec="mpeg4", bf=2, g=12), packed_mpeg_4)


def with_sound(path: Path) -> Path:
    """Write a film whose sound begins two thirds of a second before its first frame."""
    paths = (encode(path.with_name("film.MP4"), times=LATE), audio_only(path.with_name("s.MP4")))
    with av.open(str(paths[0])) as film, av.open(str(paths[1])) as sound, av.open(path, "w") as out:
        sources = (film.streams.video[0], sound.streams.audio[0])
        streams = [out.add_stream_from_template(source, opaque=True) for source in sources]
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.container.demux(source):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    return path


def two_parts(path: Path) -> Path:
    """Write an MP4 whose edit list shows two parts of its track."""
    return show_parts(encode(path.with_name("whole.MP4")), [(0, 20), (60, 20)], path)


def two_encodes(path: Path, turns: int = 0) -> Path:
    """Write an MP4 of two parts, each with its own sample entry."""
    parts = parts_of(path.parent, {"count": 20}, {"count": 20, "cabac": 0})
    joined = two_entries(parts, path)
    if turns:
        turn(joined)
    return joined


COPIED = {
    "h264.mkv": plain(**PYRAMID),
    "open_groups.mkv": plain(open_gop=1, b_pyramid="normal"),
    "variable.mkv": plain(times=uneven_times(COUNT)),
    "late.mkv": plain(times=LATE),
    "turned.mkv": Film(partial(through_mp4, turns=1), turns=1),
    "hevc.mkv": plain(**HEVC),
    "hevc_10_bit.mkv": plain(**HEVC, pix_fmt="yuv420p10le"),
    "av1.mkv": plain(codec="libsvtav1"),
    "vp9.webm": plain(codec="libvpx-vp9"),
    "av1.webm": plain(codec="libsvtav1"),
    "h264.ts": plain(**PYRAMID),
    "hevc.ts": plain(**HEVC),
    "sound_first.ts": Film(with_sound, LATE),
    "h264.flv": Film(partial(through_mp4, bframes=0)),
    "vp9.ivf": plain(codec="libvpx-vp9"),
    "av1.ivf": plain(codec="libsvtav1"),
}
ENCODED = {
    "mpeg4.mkv": plain(codec="mpeg4", bf=2),
    "late_mpeg4.mkv": plain(codec="mpeg4", times=LATE),
    "mjpeg.mkv": plain(codec="mjpeg", pix_fmt="yuvj420p"),
    "prores.mkv": plain(codec="prores", pix_fmt="yuv422p10le"),
    "ffv1.mkv": plain(codec="ffv1"),
    "ffv1_rgb.mkv": plain(codec="ffv1", pix_fmt="bgr0"),
    "vp8.webm": plain(codec="libvpx"),
    "mpeg2.ts": plain(codec="mpeg2video", bf=2),
    "flv1.flv": plain(codec="flv"),
    "vp8.ivf": plain(codec="libvpx"),
    "h264.avi": plain(**PYRAMID),
    "mpeg4.avi": plain(codec="mpeg4", bf=2),
    "xvid.avi": Film(packed),
    "mjpeg.avi": plain(codec="mjpeg", pix_fmt="yuvj420p"),
    "raw.avi": plain(codec="rawvideo", pix_fmt="bgr24"),
    "odd_size.avi": plain(codec="mpeg4", size=(101, 57)),
    "mpeg1.mpg": plain(codec="mpeg1video", bf=2),
    "mpeg2.mpg": plain(codec="mpeg2video", bf=2),
    "h264.mpg": plain(),
    "animation.mov": plain(codec="qtrle", pix_fmt="rgb24"),
    "two_parts.MP4": Film(two_parts),
    "two_entries.MP4": Film(two_encodes),
    "turned_entries.MP4": Film(partial(two_encodes, turns=1), turns=1),
}


def shown(path: Path) -> list[np.ndarray]:
    """Decode a film with one decoder from the start to the end; list its frames as they are shown.

    They are not turned.
    """
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        # Else the decoder may give frames too early, where the container does not state the order.
        stream.codec_context.options = {"strict": "strict"}
        frames = [frame for packet in container.demux(stream) for frame in packet.decode()]
        return [frame.to_ndarray(format="rgb24") for frame in frames]


@pytest.mark.parametrize("name", [*COPIED, *ENCODED])
def test_a_copy_has_the_film_s_frames(name, tmp_path):
    film = (COPIED | ENCODED)[name]
    path = film.make(tmp_path / name)
    index, left_out = make_copy(path, tmp_path / "copy.MP4")
    assert left_out == (0 if name in ENCODED else None)
    expected = shown(path)
    reader = VideoReader(tmp_path / "copy.MP4", index)
    frames = reader.get_frames(range(index.frames))
    # A frame of the reader is upright.
    height, width, _ = expected[0].shape
    assert reader.size == ((width, height) if film.turns else (height, width))
    stored = np.rot90(frames, film.turns, axes=(1, 2))
    assert len(stored) == len(expected) == COUNT
    if name in COPIED:
        assert np.array_equal(stored, expected)
    else:
        # The films are grainy, and most of the difference is colours at half the resolution.
        assert np.abs(stored.astype(int) - expected).mean(axis=(1, 2, 3)).max() < 6
    times = np.array(film.times or range(0, 1001 * COUNT, 1001)) / 30000
    # Some containers count milliseconds, and AVI rounds the rate.
    assert np.abs(index.late + index.times - times).max() < 0.002


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_two_films_are_shown_one_after_another(suffix, tmp_path):
    options = {"codec": "mpeg2video"} if suffix == "mpg" else {}
    parts = [encode(tmp_path / f"{n}.{suffix}", COUNT, seed=n, **options) for n in range(2)]
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    index, left_out = make_copy(both, tmp_path / "copy.MP4")
    assert (index.frames, left_out) == (2 * COUNT, 0)
    frames = VideoReader(tmp_path / "copy.MP4", index).get_frames(range(index.frames))
    expected = [*shown(parts[0]), *shown(parts[1])]
    assert np.abs(frames.astype(int) - expected).mean(axis=(1, 2, 3)).max() < 6
    assert np.diff(index.times) == pytest.approx(float(1 / RATE), abs=0.001)


def test_frames_with_errors_are_left_out(tmp_path):
    # FFV1 has a checksum of each frame, and a key frame after eleven others here.
    path = encode(tmp_path / "v.mkv", COUNT, codec="ffv1", g=12)
    expected = np.array(shown(path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)
    index, left_out = make_copy(path, tmp_path / "copy.MP4")
    assert 1 <= left_out <= 12 and index.frames == COUNT - left_out
    frames = VideoReader(tmp_path / "copy.MP4", index).get_frames(range(index.frames))
    numbers = np.rint(index.times * float(RATE)).astype(int)
    assert np.abs(frames.astype(int) - expected[numbers]).mean(axis=(1, 2, 3)).max() < 6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (audio_only, "no video stream in this file"),
        (lambda path: path.write_text("not a film"), "not a video file; expected MP4 or MOV"),
        (lambda path: path.touch(), "cannot open: the file is empty"),
        (lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nv.ts\n"), "not a video file; expected"),
    ],
    ids=["sound alone", "text", "empty", "playlist"],
)
def test_a_file_without_video_is_one_line(make, words, tmp_path):
    make(tmp_path / "v.mp4")
    with pytest.raises(FrameError, match=f"v.mp4: .*{words}") as caught:
        make_copy(tmp_path / "v.mp4", tmp_path / "copy.MP4")
    assert "\n" not in str(caught.value)


def test_an_undecodable_film_is_one_line(tmp_path):
    path = encode(tmp_path / "v.mkv", COUNT, codec="ffv1")
    rewrite(path, lambda packets: [replace(p, data=bytes(len(p.data))) for p in packets])
    with pytest.raises(FrameError, match="v.mkv: no frame of it decodes; if it was cut"):
        make_copy(path, tmp_path / "copy.MP4")


@pytest.mark.parametrize("options", [{}, {"codec": "mpeg4"}], ids=["copied", "encoded"])
def test_a_full_disk_is_one_line(options, tmp_path):
    path = encode(tmp_path / "v.mkv", COUNT, **options)
    with largest_file(4096), pytest.raises(ProcessError, match="copy.MP4: not written: ") as caught:
        make_copy(path, tmp_path / "copy.MP4")
    assert "make room" in str(caught.value) and "\n" not in str(caught.value)
