"""Damage to finished video files as by disks and downloads; seeded, so that it can be repeated.

Every function changes one file in place, whole or not at all. Blocks and flipped bits affect the
coded pictures (the `mdat` box of ISO 14496-12, section 8.1.1).
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
from epic100.video.containers import top_boxes


def coded_data(path: str | os.PathLike, box: str = "mdat") -> tuple[int, int]:
    """Find the content of an MP4 file's first top-level `box`.

    Returns:
        Byte range [start, stop).

    Raises:
        EpicError: The file has no such box, or the box is empty.
    """
    path = Path(path)
    size = path.stat().st_size
    for name, _, start, stop in top_boxes(path):
        if name == box and start < min(stop, size):
            return start, min(stop, size)
    raise EpicError(f"{path}: no {box} box found in it; expected a whole MP4 file")


def truncate(path: str | os.PathLike, fraction: float) -> None:
    """Keep the first `fraction` of the file's bytes, as an interrupted download does.

    A file with its index at the end cannot be opened any more. One with its index at the start
    (faststart) can still be read up to the cut.
    """
    _check_fraction(path, "fraction", fraction)
    with _edited(path) as file:
        file.truncate(int(os.fstat(file.fileno()).st_size * fraction))


def zero_block(path: str | os.PathLike, start_fraction: float, size: int) -> None:
    """Overwrite a block of the coded pictures with zeros; it is cut at their end.

    Args:
        path: The file.
        start_fraction: Start of the block, as a fraction of the coded pictures.
        size: Length of the block in bytes.
    """
    _check_fraction(path, "start_fraction", start_fraction)
    start, stop = coded_data(path)
    first = start + int((stop - start) * start_fraction)
    with _edited(path) as file:
        file.seek(first)
        file.write(bytes(min(size, stop - first)))


def flip_bits(
    path: str | os.PathLike,
    count: int,
    seed: int,
    between: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Flip different bits at random places in the coded pictures.

    A few bits can be flipped without any decoder noticing.

    Args:
        path: The file.
        count: How many bits.
        seed: Determines the places.
        between: The part of the coded pictures to use, as two fractions.

    Raises:
        EpicError: That part has fewer bits than `count`.
    """
    for fraction in between:
        _check_fraction(path, "between", fraction)
    start, stop = coded_data(path)
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


# Kinds of the mini kitchen, called with (path, seed). Block and bits are just after the middle and
# close together, so that they damage few groups of pictures and leave most segments sound.
KINDS: dict[str, Callable[[Path, int], None]] = {
    "truncated": lambda path, seed: truncate(path, 0.6),
    "zeroed": lambda path, seed: zero_block(path, 0.55, 8192),
    "bitflips": lambda path, seed: flip_bits(path, 60, seed, between=(0.55, 0.57)),
    "empty": lambda path, seed: empty(path),
}


@contextmanager
def _edited(path: str | os.PathLike) -> Iterator[BinaryIO]:
    with atomic_path(path) as temporary:
        shutil.copyfile(path, temporary)
        with temporary.open("r+b") as file:
            yield file


def _check_fraction(path: str | os.PathLike, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise EpicError(f"{path}: {name} is {value}; expected a number from 0 to 1")
