"""Short films of every type, made with the encoders of PyAV, and every type of damage.

No test is here, and nothing of the library.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from support.packets import CodedFrame, later, rewrite, write_film

# This is the width and height of all films in pixels.
SIZE = (96, 64)
RATES = {"59.94": Fraction(60000, 1001), "50": Fraction(50)}
# One thread and plain C give the same bytes each time, and a fixed quantizer needs no estimates.
X264 = {
    "qp": 24,
    "keyint": 25,
    "bframes": 3,
    "ref": 3,
    "threads": 1,
    **dict.fromkeys(("b-adapt", "scenecut", "asm", "mbtree", "rc-lookahead"), 0),
}


def draw_frames(count: int, seed: int, size: tuple[int, int] = SIZE) -> Iterable[np.ndarray]:
    """Draw frames of grainy blocks that drift, uint8 [height, width, 3], no two alike."""
    rng = np.random.default_rng(seed)
    width, height = size
    blocks = rng.integers(0, 200, (height // 8, width, 3), np.uint8)
    wide = blocks.repeat(8, axis=0).repeat(8, axis=1)
    for number in range(count):
        grain = rng.integers(0, 12, (height, width, 1), np.uint8)
        left = 2 * number % (wide.shape[1] - width)
        yield wide[:, left : left + width] + grain


def film(
    path: Path,
    count: int = 120,
    rate: str = "59.94",
    codec: str = "libx264",
    container: str = "mp4",
    seed: int = 0,
    times: list[int] | None = None,
    muxer: dict[str, str] | None = None,
    coder: dict[str, str] | None = None,
    **x264: int | str,
) -> Path:
    """Encode a film of `count` frames.

    Args:
        path: The file to write.
        count: Number of frames.
        rate: A key of `RATES`.
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the container.
        seed: Determines the frames.
        times: When each frame is shown, in frames of the rate; None means one after the other.
        muxer: Options of the muxer.
        coder: Options of the encoder, for all but libx264.
        **x264: Settings of libx264 beside those of `X264`.
    """
    fps = RATES[rate]
    path.parent.mkdir(parents=True, exist_ok=True)
    if codec == "libx264":
        settings = X264 | {name.replace("_", "-"): value for name, value in x264.items()}
        coder = {"x264-params": ":".join(f"{k}={v}" for k, v in settings.items())}
    options = {"container": container, "muxer": muxer, "coder": coder}
    drawn = draw_frames(count, seed)
    return write_film(path, drawn, SIZE, fps, times or range(count), 1 / fps, codec, **options)


def times_of(path: Path) -> list[int]:
    """List when the frames of a file are shown, in order, in units of its time base."""
    with av.open(str(path)) as container:
        return sorted({p.pts for p in container.demux(video=0) if p.size and not p.is_discard})


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
