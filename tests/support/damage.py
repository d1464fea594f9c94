"""Damage files, and find the frames that are then wrong and those that a scan marks."""

import os
from functools import cache
from pathlib import Path

import av
import numpy as np

from epic100.minikitchen.damage import coded_data
from support.packets import decoded
from support.scanned import index_of


def place_of(path: Path, box: str) -> int:
    """Find the byte at which the contents of a box in an MP4's index begin."""
    start, stop = coded_data(path, "moov")
    # The contents follow the four bytes of the name.
    return path.read_bytes().index(box.encode(), start, stop) + 4


def number_at(path: Path, place: int) -> int:
    """Read a number of four bytes, the highest one first, as MP4 has them."""
    return int.from_bytes(path.read_bytes()[place : place + 4], "big")


def overwrite(path: Path, place: int, new: bytes | int, out: Path | None = None) -> Path:
    """Write other bytes, or a number as four bytes, into a file or its copy `out`."""
    data = bytearray(path.read_bytes())
    new = new if isinstance(new, bytes) else new.to_bytes(4, "big")
    data[place : place + len(new)] = new
    (out or path).write_bytes(data)
    return out or path


def flip(path: Path, place: int, bit: int, out: Path | None = None) -> Path:
    """Flip a bit, counted from the byte at `place` on, in a file or its copy `out`."""
    whole_bytes, bit_in_byte = divmod(bit, 8)
    place += whole_bytes
    byte = path.read_bytes()[place]
    # Bits count from the highest one on.
    return overwrite(path, place, bytes([byte ^ 0x80 >> bit_in_byte]), out)


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
    """Read all packets of a file that hold frames."""
    with av.open(str(path)) as container:
        return [p for p in container.demux(container.streams.best("video")) if p.size]


def marked(row) -> set[int]:
    """The frames that a row of a scan table marks as damaged."""
    return {frame for start, stop in row.damaged for frame in range(start, stop)}


@cache
def _by_frame(path: Path) -> list[tuple[int, np.ndarray]]:
    """Decode an undamaged file: the time since its first frame, and the grey levels, of each.

    The result is kept, so the file must not change.
    """
    pts = index_of(path).pts.tolist()
    frames = decoded(path, "gray")
    return [(time - pts[0], frames[time].astype(int)) for time in pts]


def harmed(before: Path, after: Path) -> set[int]:
    """Find the frames of the undamaged file that are gone or visibly changed.

    A frame is visibly changed if the mean difference over a block of 16 x 16 pixels is over 8.
    """
    new = decoded(after, "gray")
    first = int(index_of(after).pts[0])
    bad = set()
    for number, (time, frame) in enumerate(_by_frame(before)):
        if time + first in new:
            gap = np.abs(frame - new[time + first])
            rows, columns = (size // 16 for size in gap.shape)
            blocks = gap[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16).mean((1, 3))
            if blocks.max() <= 8:
                continue
        bad.add(number)
    return bad
