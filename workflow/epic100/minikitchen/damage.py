"""Damage to finished video files, as discs and downloads do it; seeded, so that it can be repeated.

Every function changes one file in place, whole or not at all. Blocks and flipped bits hit the coded
pictures (the `mdat` box of ISO 14496-12, section 8.1.1), or the index (`moov`) if asked to.
Damage to the order of packets: `epic100.minikitchen.packet_damage`.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.video.mp4_boxes import top_boxes


def coded_data(path: str | os.PathLike, box: str = "mdat") -> tuple[int, int]:
    """Byte range [start, stop) of the content of an MP4 file's first `box` at the top level.

    Raises EpicError if the file's top-level boxes hold no such content.
    """
    path = Path(path)
    size = path.stat().st_size
    for name, first, last in top_boxes(path):
        with path.open("rb") as file:
            file.seek(first)
            start = first + (16 if file.read(4) == b"\0\0\0\1" else 8)
        if name == box and start < min(last, size):
            return start, min(last, size)
    raise EpicError(f"{path}: no {box} box found in it; expected a whole MP4 file")


def truncate(path: str | os.PathLike, fraction: float) -> None:
    """Keep the first `fraction` of the file's bytes, as a broken download does.

    A file with its index at the end opens no more; one with its index first (faststart) still
    plays up to the cut.
    """
    _check_fraction(path, "fraction", fraction)
    with _edited(path) as file:
        file.truncate(int(os.fstat(file.fileno()).st_size * fraction))


def zero_block(
    path: str | os.PathLike, start_fraction: float, size: int, box: str = "mdat"
) -> None:
    """Overwrite `size` bytes with zeros, from `start_fraction` of the coded pictures on.

    A block that would pass the end of the coded pictures stops there.
    """
    _overwrite(path, start_fraction, size, box, bytes)


def random_block(
    path: str | os.PathLike, start_fraction: float, size: int, seed: int, box: str = "mdat"
) -> None:
    """Overwrite as `zero_block` does, with bytes that `seed` draws."""
    _overwrite(path, start_fraction, size, box, np.random.default_rng(seed).bytes)


def zero_tail(path: str | os.PathLike, fraction: float) -> None:
    """Zeros from `fraction` of the file on: a download that set the size first and then broke."""
    _check_fraction(path, "fraction", fraction)
    with _edited(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.truncate(int(size * fraction))
        file.truncate(size)


def flip_bits(
    path: str | os.PathLike,
    count: int,
    seed: int,
    between: tuple[float, float] = (0.0, 1.0),
    box: str = "mdat",
) -> None:
    """Flip `count` different bits at places that `seed` draws evenly from the coded pictures.

    `between` narrows the places to this part of the coded pictures, as two fractions. A few bits
    can be flipped without any decoder noticing. Raises EpicError if there are fewer bits.
    """
    for fraction in between:
        _check_fraction(path, "between", fraction)
    start, stop = coded_data(path, box)
    first, last = (start + int((stop - start) * fraction) for fraction in between)
    bits = 8 * (last - first)
    if count > bits:
        raise EpicError(f"{path}: {count} bits to flip, but only {bits} between {between}")
    with _edited(path) as file:
        for bit in np.random.default_rng(seed).choice(bits, count, replace=False).tolist():
            position = first + bit // 8
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ (1 << bit % 8)]))


def empty(path: str | os.PathLike) -> None:
    """Leave a file of zero bytes."""
    with _edited(path) as file:
        file.truncate(0)


# Kinds of the mini kitchen, as (path, seed). Block and bits stand just behind the middle, close
# together, so that they spoil few groups of pictures and leave most segments good.
KINDS: dict[str, Callable[[Path, int], None]] = {
    "truncated": lambda path, seed: truncate(path, 0.6),
    "zeroed": lambda path, seed: zero_block(path, 0.55, 8192),
    "bitflips": lambda path, seed: flip_bits(path, 60, seed, between=(0.55, 0.57)),
    "empty": lambda path, seed: empty(path),
}


def _overwrite(
    path: str | os.PathLike,
    start_fraction: float,
    size: int,
    box: str,
    content: Callable[[int], bytes],
) -> None:
    _check_fraction(path, "start_fraction", start_fraction)
    start, stop = coded_data(path, box)
    first = start + int((stop - start) * start_fraction)
    with _edited(path) as file:
        file.seek(first)
        file.write(content(min(size, stop - first)))


@contextmanager
def _edited(path: str | os.PathLike) -> Iterator[BinaryIO]:
    with atomic_path(path) as temporary:
        shutil.copyfile(path, temporary)
        with temporary.open("r+b") as file:
            yield file


def _check_fraction(path: str | os.PathLike, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise EpicError(f"{path}: {name} is {value}; expected a number from 0 to 1")
