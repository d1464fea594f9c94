"""The ways in which `benchmarks/damage.py` damages a file: name -> (path, random generator)."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import coded_data, truncate
from epic100.scan.worker import scan_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.damage import flip, overwrite, zero_tail
from support.packets import drop_packets, repeat_group, rewrite, swap_packets


def _cut(path: Path, rng, first: bool | None = None, kind: str = "") -> None:
    if first is not None or kind:
        rewrite(path, lambda packets: packets, movflags=kind or ("faststart" if first else "0"))
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
    """Flip one bit of the content of the first box of this name."""
    data = bytearray(path.read_bytes())
    try:
        at = data.index(name.encode(), *coded_data(path, "moov")) + 4
    except ValueError as error:
        raise EpicError(f"{path}: no {name} in it") from error
    size = int.from_bytes(data[at - 8 : at - 4], "big") - 8
    bit = int(rng.integers(8 * size))
    data[at + bit // 8] ^= 0x80 >> (bit % 8)
    path.write_bytes(data)


def _packets(path: Path, rng, change: Callable, **options) -> None:
    change(path, int(rng.integers(2**31)), **options)


def _text(path: Path, rng) -> None:
    path.write_text("<html><body>404: no such video</body></html>\n" * int(rng.integers(1, 2000)))


def _other_container(path: Path, rng) -> None:
    other = path.with_suffix(".mkv")
    rewrite(path, lambda packets: packets, other)
    os.replace(other, path)


def _audio(path: Path, rng) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            rng.uniform(-0.1, 0.1, (1, 16000)).astype(np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _directory(path: Path, rng) -> None:
    path.unlink()
    path.mkdir()


def _forbidden(path: Path, rng) -> None:
    path.chmod(0)


def _dangling(path: Path, rng) -> None:
    path.unlink()
    path.symlink_to("gone.MP4")


def _same(path: Path, rng) -> None:
    pass


def scan_as_nobody(*arguments: Any, progress: Callable[[int], None]) -> dict[str, Any]:
    """Scan a file as a user without rights, since root may read everything."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return scan_file(*arguments, progress=progress)


WAYS: dict[str, Callable] = {
    "undamaged": _same,
    "undamaged, index first": lambda p, rng: rewrite(p, lambda x: x, movflags="faststart"),
    "undamaged, fragmented": lambda p, rng: rewrite(
        p, lambda x: x, movflags="frag_keyframe+empty_moov"
    ),
    "undamaged, Matroska in MP4's name": _other_container,
    "cut, index last": partial(_cut, first=False),
    "cut, index first": partial(_cut, first=True),
    "cut, fragmented": partial(_cut, kind="frag_keyframe+empty_moov"),
    "zeros to the end": lambda p, rng: (
        rewrite(p, lambda x: x, movflags="faststart"),
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
    "audio only": _audio,
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
