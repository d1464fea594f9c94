"""The types of undamaged films, and of damage. No test is here, and nothing of the library."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from behaviour.films import film
from support.packets import CodedFrame, later, rewrite

# Each type of H.264 film has settings of libx264. With 27 frames in a group, two B-frames are shown
# before the key frame of each open group.
H264 = {
    "b_frames": {},
    "open_groups": {"open_gop": 1, "b_pyramid": "normal", "keyint": 27},
    "no_b_frames": {"bframes": 0},
}
# This is the number of frames of each damaged film.
LENGTH = 160
# These are options of other encoders.
X265 = {"x265-params": "log-level=none:keyint=25"}
VP9 = {"g": "25", "deadline": "realtime", "cpu-used": "8"}


def hidden_start(packets: list[CodedFrame]) -> list[CodedFrame]:
    """Drop the packets before the second key frame, and give the next ten frames negative times.

    The muxer then writes an edit list that hides these ten frames.
    """
    _, second_key, *_ = [number for number, p in enumerate(packets) if p.is_key]
    shown = sorted(p.pts for p in packets[second_key:])[10]
    return later(packets[second_key:], -shown)


# Each type of undamaged film has its rate and a function that encodes it.
UNDAMAGED: dict[str, tuple[str, Callable[[Path], object]]] = {
    **{f"h264_{name}": ("59.94", partial(film, **options)) for name, options in H264.items()},
    **{
        f"h264_{name}_50": ("50", partial(film, rate="50", **options))
        for name, options in H264.items()
    },
    "key_frames": ("50", partial(film, rate="50", keyint=1)),
    "cavlc": ("59.94", partial(film, cabac=0)),
    "index_first": ("59.94", partial(film, muxer={"movflags": "faststart"})),
    "fragments": ("59.94", partial(film, muxer={"movflags": "frag_keyframe+empty_moov"})),
    "hidden_start": (
        "59.94",
        lambda path: rewrite(film(path), hidden_start, avoid_negative_ts="disabled"),
    ),
    "late_start": ("50", partial(film, rate="50", times=list(range(33, 153)))),
    "hevc": ("59.94", partial(film, codec="libx265", coder=X265)),
    "vp9": ("50", partial(film, rate="50", codec="libvpx-vp9", coder=VP9)),
    "av1": ("59.94", partial(film, codec="libsvtav1", coder={"preset": "11", "g": "25"})),
    "mpeg4": ("50", partial(film, rate="50", codec="mpeg4", coder={"g": "25", "bf": "2"})),
}


def _frames_in(data: bytes) -> tuple[int, int]:
    """Find the bytes [start, stop) of an MP4 file that hold coded frames.

    They begin after the name of the box `mdat`. They end where the box `moov` begins, four bytes
    before its name, or at the end of the file if `moov` comes first.
    """
    start = data.index(b"mdat") + 4
    index = data.rindex(b"moov") - 4
    return start, index if index > start else len(data)


def flipped(path: Path, rng: np.random.Generator, bits: int) -> None:
    """Flip bits at random places of the coded frames."""
    data = bytearray(path.read_bytes())
    start, stop = _frames_in(data)
    for bit in rng.choice(8 * (stop - start), bits, replace=False).tolist():
        byte, bit_in_byte = divmod(bit, 8)
        data[start + byte] ^= 1 << bit_in_byte
    path.write_bytes(data)


def zeroed(path: Path, rng: np.random.Generator, size: int) -> None:
    """Put zeros over a block of the coded frames."""
    data = bytearray(path.read_bytes())
    start, stop = _frames_in(data)
    first = int(rng.integers(start, stop - size))
    data[first : first + size] = bytes(size)
    path.write_bytes(data)


def cut(path: Path, rng: np.random.Generator, movflags: str) -> None:
    """Rewrite the file with these flags of the MP4 muxer, and cut a random share of its end off."""
    data = rewrite(path, movflags=movflags).read_bytes()
    path.write_bytes(data[: int(rng.uniform(0.3, 0.95) * len(data))])


def lost(path: Path, rng: np.random.Generator, count: int) -> None:
    """Leave `count` packets out, or for 0 a complete group of frames; the rest keep their times."""

    def change(packets: list[CodedFrame]) -> list[CodedFrame]:
        keys = [number for number, p in enumerate(packets) if p.is_key]
        first = int(rng.integers(1, len(packets) - 20))
        group = int(rng.integers(1, len(keys) - 1))
        start, stop = (first, first + count) if count else keys[group : group + 2]
        return packets[:start] + packets[stop:]

    rewrite(path, change)


# Each type of damage has a function of the file and a generator of random numbers.
DAMAGES: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "1_bit": partial(flipped, bits=1),
    "3_bits": partial(flipped, bits=3),
    "10_bits": partial(flipped, bits=10),
    "50_bits": partial(flipped, bits=50),
    "16_zeros": partial(zeroed, size=16),
    "512_zeros": partial(zeroed, size=512),
    "4096_zeros": partial(zeroed, size=4096),
    "cut_index_last": partial(cut, movflags="0"),
    "cut_index_first": partial(cut, movflags="faststart"),
    "cut_fragments": partial(cut, movflags="frag_keyframe+empty_moov"),
    "1_lost": partial(lost, count=1),
    "6_lost": partial(lost, count=6),
    "group_lost": partial(lost, count=0),
}
