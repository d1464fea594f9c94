"""Make the undamaged files of `benchmarks/damage.py`, and damage a file in many ways.

A file's name begins with its coding, such as "CABAC 3". A way is a function of a path and a random
generator.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from epic100.minikitchen import write_video
from epic100.minikitchen.damage import coded_data, truncate
from epic100.scan.worker import scan_file
from epic100.video.build_index import build_index
from epic100.video.sheet import Video

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.damage import flip, number_at, overwrite, place_of, zero_tail
from support.packets import drop_packets, repeat_group, rewrite, swap_packets
from support.tricky_videos import audio_only, encode

# An encoded file has 180 pictures, and a given file is cut to its first 30 seconds.
COUNT = 180
GIVEN_SECONDS = 30.0
# The scan reads the slices and the numbers of these codings.
FULL = ("CABAC", "CABAC, interlaced")
FRAGMENTS = "frag_keyframe+empty_moov"
_KITCHEN = ((60000 / 1001, (160, 90)), (50.0, (320, 180)), (30000 / 1001, (160, 90)))
_ENCODED = {
    "CABAC 3": {"open-gop": 1, "b-pyramid": "normal", "ref": 4},
    "CABAC 4": {"pix_fmt": "yuv420p10le"},
    "CABAC, interlaced 0": {"tff": 1},
    "CABAC, interlaced 1": {"bff": 1, "bframes": 0},
    "CAVLC 0": {"cabac": 0},
    "CAVLC 1": {"cabac": 0, "bframes": 0, "slices": 3},
    "HEVC 0": {"codec": "libx265", "x265": {"keyint": 30}},
    "VP9 0": {"codec": "libvpx-vp9"},
    "AV1 0": {"codec": "libsvtav1"},
    "MPEG-4 0": {"codec": "mpeg4"},
    "MJPEG 0": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


def coding_of(name: str) -> str:
    """Read the coding of a file from its name, for example "CABAC" of "CABAC 3.MP4"."""
    return name.rpartition(" ")[0]


def originals(folder: Path, given: list[Path], only: str = "") -> list[Path]:
    """Write the undamaged files, and the first half minute of given ones.

    Args:
        folder: Where they are written.
        given: Videos to take too; they count as CABAC.
        only: Only codings whose name holds this.
    """
    paths = []
    for number, (fps, size) in enumerate(_KITCHEN):
        path = folder / f"CABAC {number}.MP4"
        if only in coding_of(path.name):
            write_video(Video("P01_01", "P01", "train", fps, 480 / fps), path, number, size=size)
            paths.append(path)
    for number, (name, settings) in enumerate(_ENCODED.items()):
        if only in coding_of(f"{name}.MP4"):
            paths.append(
                encode(folder / f"{name}.MP4", COUNT, size=(160, 96), seed=number, **settings)
            )
    for number, path in enumerate(given):
        copy = folder / f"CABAC {path.stem}{number}.MP4"
        rewrite(path, partial(_first, path=path), copy)
        paths.append(copy)
    return paths


def _first(packets, path: Path):
    index = build_index(path)
    end = index.pts[0] + GIVEN_SECONDS / float(index.time_base)
    keys = [i for i, p in enumerate(packets) if p.is_key and p.pts <= end]
    stop = len(packets) if index.times[-1] <= GIVEN_SECONDS else keys[-1] or len(packets)
    return packets[:stop]


def _cut(path: Path, rng, movflags: str) -> None:
    rewrite(path, movflags=movflags)
    truncate(path, rng.uniform(0.05, 0.98))


def _block(path: Path, rng, size: int, noise: bool, box: str = "mdat") -> None:
    start, stop = coded_data(path, box)
    at = int(rng.integers(start, stop))
    size = min(size, stop - at)
    overwrite(path, at, rng.bytes(size) if noise else bytes(size))


def _flip(path: Path, rng, count: int, box: str = "mdat") -> None:
    start, stop = coded_data(path, box)
    for bit in rng.choice(8 * (stop - start), count, replace=False).tolist():
        flip(path, start, bit)


def _flip_in(path: Path, rng, name: str) -> None:
    """Flip one bit of the content of the first box of this name; ValueError: there is none."""
    place = place_of(path, name)
    size = number_at(path, place - 8) - 8
    flip(path, place, int(rng.integers(8 * size)))


def _packets(path: Path, rng, change: Callable, **options) -> None:
    change(path, int(rng.integers(2**31)), **options)


def _text(path: Path, rng) -> None:
    path.write_text("<html><body>404: no such video</body></html>\n" * int(rng.integers(1, 2000)))


def _other_container(path: Path, rng) -> None:
    other = path.with_suffix(".mkv")
    rewrite(path, out=other)
    os.replace(other, path)


def _directory(path: Path, rng) -> None:
    path.unlink()
    path.mkdir()


def _forbidden(path: Path, rng) -> None:
    path.chmod(0)


def _dangling(path: Path, rng) -> None:
    path.unlink()
    path.symlink_to("gone.MP4")


def scan_as_nobody(*arguments: Any, progress: Callable[[int], None]) -> dict[str, Any]:
    """Scan a file as a user without rights, since root may read everything."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return scan_file(*arguments, progress=progress)


WAYS: dict[str, Callable] = {
    "undamaged": lambda p, rng: None,
    "undamaged, index first": lambda p, rng: rewrite(p, movflags="faststart"),
    "undamaged, fragmented": lambda p, rng: rewrite(p, movflags=FRAGMENTS),
    "undamaged, Matroska in MP4's name": _other_container,
    "cut, index last": partial(_cut, movflags="0"),
    "cut, index first": partial(_cut, movflags="faststart"),
    "cut, fragmented": partial(_cut, movflags=FRAGMENTS),
    "zeros to the end": lambda p, rng: (
        rewrite(p, movflags="faststart"),
        zero_tail(p, rng.uniform(0.1, 0.98)),
    ),
    "512 bytes zeroed": partial(_block, size=512, noise=False),
    "8 KiB zeroed": partial(_block, size=8192, noise=False),
    "64 KiB zeroed": partial(_block, size=65536, noise=False),
    "16 bytes random": partial(_block, size=16, noise=True),
    "512 bytes random": partial(_block, size=512, noise=True),
    "64 KiB random": partial(_block, size=65536, noise=True),
    "64 bytes of index zeroed": partial(_block, size=64, noise=False, box="moov"),
    "64 bytes of index random": partial(_block, size=64, noise=True, box="moov"),
    "1 KiB of index random": partial(_block, size=1024, noise=True, box="moov"),
    "neighbours swapped": partial(_packets, change=swap_packets),
    "1 packet dropped": partial(_packets, change=drop_packets, count=1),
    "20 packets dropped": partial(_packets, change=drop_packets, count=20),
    "group dropped": partial(_packets, change=drop_packets, count=1, groups=True),
    "20 packets dropped, closed up": partial(_packets, change=drop_packets, count=20, close=True),
    "group repeated": partial(_packets, change=repeat_group),
    "zero bytes": lambda p, rng: truncate(p, 0),
    "text": _text,
    "audio only": lambda p, rng: audio_only(p),
    "a directory": _directory,
    "no permission": _forbidden,
    "broken symbolic link": _dangling,
}
FLIPS: dict[str, Callable] = {
    "1 bit flipped": partial(_flip, count=1),
    "5 bits flipped": partial(_flip, count=5),
    "50 bits flipped": partial(_flip, count=50),
    "200 bits flipped": partial(_flip, count=200),
    "1 bit of index flipped": partial(_flip, count=1, box="moov"),
    **{
        f"1 bit of index flipped, {box}": partial(_flip_in, name=box)
        for box in ("stts", "mdhd", "elst", "tkhd", "ctts", "stss", "avcC")
    },
}
ONCE = {"zero bytes", "text", "audio only", "a directory", "no permission", "broken symbolic link"}
CLOSED_UP = {"20 packets dropped, closed up"}
SHIFTING = CLOSED_UP | {way for way in WAYS | FLIPS if " of index" in way}
