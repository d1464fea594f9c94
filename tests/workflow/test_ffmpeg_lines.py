"""The lines of docs/own-kitchen.md that make an MP4 of another film, run by FFmpeg's program."""

import re
import shlex

import imageio_ffmpeg
import numpy as np
import pytest

from epic100.video.build_index import build_index
from epic100.video.ffmpeg import COPY, ENCODE, ENCODE_STEADY
from epic100.video.reader import VideoReader
from support.checkout import ROOT, call
from support.damage import number_at, place_of
from support.packets import in_decoder_order
from support.tricky_videos import PYRAMID, encode, parts_of, two_entries, uneven_times

PAGE = (ROOT / "docs/own-kitchen.md").read_text("utf-8")
# Each row of the table has kinds of films, a line, and whether the pictures stay as they are.
ROWS = {
    kinds: (line, pictures)
    for kinds, line, pictures in re.findall(r"(?m)^\| (.+) \| `(ffmpeg .+)` \| (\w+) \|$", PAGE)
}
COUNT = 60
UNEVEN = {"times": uneven_times(COUNT)}
MPEG2, MPEG1 = ({"codec": codec, "bf": 2, "g": 12} for codec in ("mpeg2video", "mpeg1video"))
# Two films of unlike settings are joined.
UNLIKE = ({}, {"cabac": 0, "ref": 4})
# These are the films of each row, with options of `encode`. In AVI and MPEG-PS, B-frames have no
# times, so that a copy of them shows its pictures in the wrong order.
FILMS = {
    "MKV; WebM of VP9 or AV1; MTS, TS; FLV of H.264": [
        ("film.mkv", PYRAMID),
        ("uneven.mkv", UNEVEN),
        ("vp9.webm", {"codec": "libvpx-vp9", "cpu-used": 8, "deadline": "realtime"}),
        ("av1.webm", {"codec": "libsvtav1"}),
        ("interlaced.ts", {"tff": 1}),
    ],
    "AVI; WebM of VP8; older FLV; MP4 joined of unlike parts; what does not copy": [
        ("film.avi", PYRAMID),
        ("mpeg4.avi", {"codec": "mpeg4", "bf": 2}),
        ("vp8.webm", {"codec": "libvpx", "cpu-used": 8, "deadline": "realtime", **UNEVEN}),
        ("joined.mp4", {}),
    ],
    "VOB, MPG": [("mpeg2.vob", MPEG2), ("mpeg1.mpg", MPEG1)],
}


def run(line, name, folder):
    """Run a line of the page on a film of this name in a folder; return the new MP4's path."""
    program, *words = shlex.split(line)
    assert program == "ffmpeg"
    words[words.index("-i") + 1] = name
    call(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", *words, cwd=folder)
    return folder / words[-1]


def difference(pictures, others):
    """The mean difference of each picture from another one, of values from 0 to 255."""
    return np.abs(pictures.astype(np.int16) - others).mean(axis=(1, 2, 3))


def test_the_films_below_are_those_of_the_page():
    assert list(FILMS) == list(ROWS)


def test_scans_advise_the_page_s_lines():
    words = [re.sub(r"^ffmpeg -i \S+ | \S+$", "", line) for line, _ in ROWS.values()]
    assert words == [COPY, ENCODE, ENCODE_STEADY]


@pytest.mark.parametrize(
    ("kinds", "name", "options"),
    [
        pytest.param(kinds, name, options, id=name)
        for kinds, films in FILMS.items()
        for name, options in films
    ],
)
def test_an_mp4_has_every_frame_in_time(kinds, name, options, tmp_path):
    if name == "joined.mp4":
        film = two_entries(
            parts_of(tmp_path, *({"count": COUNT // 2} | o for o in UNLIKE)), tmp_path / name
        )
    else:
        film = encode(tmp_path / name, COUNT, **options)
    line, pictures = ROWS[kinds]
    made = run(line, name, tmp_path)
    index = build_index(made)
    assert index.frames == COUNT
    times = np.array(options.get("times") or [i * 1001 for i in range(COUNT)]) / 30000
    # Matroska and FLV count milliseconds, and AVI counts pictures at a rounded rate.
    assert np.abs(index.times - (times - times[0])).max() < 0.002
    frames = VideoReader(made, index).get_frames(range(COUNT))
    expected = in_decoder_order(film)
    if pictures == "lossless":
        assert np.array_equal(frames, expected)
    else:
        # Pictures in a row differ by 20 or more.
        assert difference(frames, expected).max() < 4
    # A file of several sample entries is not one that each reader follows.
    assert number_at(made, place_of(made, "stsd") + 4) == 1


def test_a_variable_rate_film_becomes_constant(tmp_path):
    (line,) = re.findall(r"(?m)^ffmpeg .*-fps_mode cfr .*", PAGE)
    film = encode(tmp_path / "film.mp4", COUNT, **UNEVEN)
    made = run(line, film.name, tmp_path)
    before, after = build_index(film), build_index(made)
    assert after.is_steady and after.fps == 30 and not before.is_steady
    assert abs(after.frames - 30 * before.time_of(COUNT)) < 2
    old, new = (
        VideoReader(path, index).get_frames(range(index.frames))
        for path, index in ((film, before), (made, after))
    )
    # A new picture is one that the film shows within a step of 1/30 s.
    early, late = (
        np.searchsorted(before.times, after.times + delay, side="right").clip(1, COUNT) - 1
        for delay in (-1 / 30, 1 / 30)
    )
    for picture, first, last in zip(new, early, late, strict=True):
        assert difference(old[first : last + 1], picture).min() < 4
