"""Damages files, and tells which pictures that changes and which of them a scan marks."""

import os
from functools import cache
from pathlib import Path

import av
import numpy as np

from epic100.minikitchen.damage import coded_data
from epic100.video.index import build_index
from support.packets import decoded


def place_of(path: Path, box: str) -> int:
    """Where the content of a box of an MP4's index begins."""
    start, stop = coded_data(path, "moov")
    return path.read_bytes().index(box.encode(), start, stop) + 4


def number_at(path: Path, place: int) -> int:
    return int.from_bytes(path.read_bytes()[place : place + 4], "big")


def overwrite(path: Path, place: int, new: bytes | int, out: Path | None = None) -> Path:
    """Write other bytes, or a number of four, into a file or its copy `out`."""
    data = bytearray(path.read_bytes())
    new = new if isinstance(new, bytes) else new.to_bytes(4, "big")
    data[place : place + len(new)] = new
    (out or path).write_bytes(data)
    return out or path


def flip(path: Path, place: int, bit: int, out: Path | None = None) -> Path:
    """Flip a bit, counted from the byte at `place` on, in a file or its copy `out`."""
    byte = path.read_bytes()[place + bit // 8]
    return overwrite(path, place + bit // 8, bytes([byte ^ 0x80 >> bit % 8]), out)


def random_block(path: Path, fraction: float, size: int, seed: int, box: str = "mdat") -> None:
    """Overwrite a block of a box, from a fraction of it on, with random bytes."""
    start, stop = coded_data(path, box)
    first = start + int((stop - start) * fraction)
    overwrite(path, first, np.random.default_rng(seed).bytes(min(size, stop - first)))


def zero_tail(path: Path, fraction: float) -> None:
    """Replace all bytes after `fraction` by zeros, like a failed download that had set the size."""
    size = path.stat().st_size
    os.truncate(path, int(size * fraction))
    os.truncate(path, size)


def packets_of(path: Path) -> list[av.Packet]:
    """All packets with pictures."""
    with av.open(str(path)) as container:
        return [p for p in container.demux(container.streams.best("video")) if p.size]


def extradata_of(path: Path) -> bytes:
    """The parameter sets that the file's head has."""
    with av.open(str(path)) as container:
        return bytes(container.streams.best("video").codec_context.extradata)


def marked(row) -> set[int]:
    return {frame for start, stop in row.damaged for frame in range(start, stop)}


@cache
def _by_frame(path: Path) -> list[tuple[int, np.ndarray]]:
    """Time since the first one and brightness of each picture of a sound file that stays."""
    pts, pictures = build_index(path).pts.tolist(), decoded(path, "gray")
    return [(time - pts[0], pictures[time].astype(int)) for time in pts]


def harmed(before: Path, after: Path) -> set[int]:
    """Frames of the undamaged file that are gone or visibly changed: a 16x16 block by over 8."""
    new, first, bad = decoded(after, "gray"), int(build_index(after).pts[0]), set()
    for frame, (time, picture) in enumerate(_by_frame(before)):
        if time + first in new:
            gap = np.abs(picture - new[time + first])
            rows, columns = (size // 16 for size in gap.shape)
            blocks = gap[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16).mean((1, 3))
            if blocks.max() <= 8:
                continue
        bad.add(frame)
    return bad
