"""Damage video files as disks and downloads do, in the same way for the same seed.

Every function changes one file in place. Blocks and flipped bits are in the coded frames (the
`mdat` box of ISO 14496-12, section 8.1.1).
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from epic100.base.errors import EpicError
from epic100.video.ffmpeg import boxes_of


def coded_data(path: Path, box: str = "mdat") -> tuple[int, int]:
    """Find the content of the first top-level box of this name in an MP4 file.

    Returns:
        The range of its bytes, [start, stop).

    Raises:
        EpicError: The file has no such box, or the box is empty.
    """
    data = path.read_bytes()
    for name, _, start, stop in boxes_of(lambda at, n: data[at : at + n], 0, len(data)):
        # The box of a truncated file may end after the file.
        stop = min(stop, len(data))
        if name == box and start < stop:
            return start, stop
    raise EpicError(f"{path}: no {box} box found in it; expected a complete MP4 file")


def truncate(path: Path, fraction: float) -> None:
    """Keep the first `fraction` of the file's bytes, as an interrupted download does.

    A file with its index at the end cannot be opened any more. A file with its index at the start
    (faststart) can still be read up to the cut.
    """
    os.truncate(path, int(path.stat().st_size * fraction))


def zero_block(path: Path, start_fraction: float, size: int) -> None:
    """Overwrite a block of the coded frames with zeros, but nothing after the coded frames.

    Args:
        path: The file.
        start_fraction: Start of the block, as a fraction of the coded frames.
        size: Length of the block in bytes.
    """
    start, stop = coded_data(path)
    block_start = start + int((stop - start) * start_fraction)
    block_stop = min(block_start + size, stop)
    data = path.read_bytes()
    path.write_bytes(data[:block_start] + bytes(block_stop - block_start) + data[block_stop:])


def flip_bits(path: Path, count: int, seed: int, between: tuple[float, float] = (0.0, 1.0)) -> None:
    """Flip bits at random places in the coded frames, each bit once.

    No decoder need notice a few flipped bits.

    Args:
        path: The file.
        count: Number of bits to flip.
        seed: Determines the places.
        between: Start and end of the part where bits are flipped, as fractions of the coded
            frames.
    """
    start, stop = coded_data(path)
    first, last = (start + int((stop - start) * fraction) for fraction in between)
    data = np.fromfile(path, np.uint8)
    bits = np.random.default_rng(seed).choice(8 * (last - first), count, replace=False)
    # Several of the bits may be in one byte, which `at` then changes for each of them.
    np.bitwise_xor.at(data, first + bits // 8, (1 << bits % 8).astype(np.uint8))
    data.tofile(path)


# The types of damage of the mini kitchen, each a function called with (path, seed). Block and bits
# are just after the middle and close together, so that they damage few groups of frames and few
# segments.
DAMAGES: dict[str, Callable[[Path, int], None]] = {
    "truncated": lambda path, seed: truncate(path, 0.6),
    "zeroed": lambda path, seed: zero_block(path, 0.55, 8192),
    "bitflips": lambda path, seed: flip_bits(path, 60, seed, between=(0.55, 0.57)),
    "empty": lambda path, seed: truncate(path, 0),
}
