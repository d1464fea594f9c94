"""What an MP4 file states about the timing of its video track, in several places that must agree.

Names of boxes and fields follow ISO/IEC 14496-12 (2022): `mvhd` 8.2.2, `tkhd` 8.3.2, `elst`
8.6.6, `mdhd` 8.4.2, `stts` 8.6.1.2, `ctts` 8.6.1.3, `stsz` 8.7.3.2.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

ReadAt = Callable[[int, int], bytes]
_MOST = 64 << 20  # bytes read of one box; no video has a larger table of times
_NO_MEDIA = 2**64 - 1  # start of an edit that shows nothing


@dataclass(frozen=True)
class Mp4Clock:
    """The timing of one track.

    Attributes:
        ticks: Length of all samples in ticks, by `stts`.
        stated_ticks: Length of the track in ticks, by `mdhd`.
        tick: Length of a tick in seconds.
        first: Tick at which the first sample is shown, by `ctts`.
        counted: Number of samples by `stts`.
        delayed: Number of samples by `ctts`; None without it.
        samples: Number of samples by `stsz`.
        track_seconds: Length of the track in seconds, by `tkhd`.
        edits: In order: (seconds shown, tick of the media where they begin; None: nothing shown).
    """

    ticks: int
    stated_ticks: int
    tick: float
    first: int
    counted: int
    delayed: int | None
    samples: int
    track_seconds: float
    edits: list[tuple[float, int | None]]


def read_clock(size: int, read_at: ReadAt, track_id: int) -> Mp4Clock | None:
    """Read the timing of a track of an MP4 file.

    Args:
        size: Size of the file in bytes.
        read_at: Reads from the file; takes position and count in bytes.
        track_id: The track.

    Returns:
        The timing, or None if it is missing or incomplete. A fragmented file stores its times
        elsewhere and gives None.
    """
    try:
        moov = next(_named(read_at, 0, size, "moov"), None)
        if moov is None or next(_named(read_at, *moov, "mvex"), None):
            return None
        movie = _box(read_at, moov, "mvhd")
        scale, _ = _scale_and_duration(movie)
        for trak in _named(read_at, *moov, "trak"):
            head = _box(read_at, trak, "tkhd")
            wide = head[0] == 1
            if _number(head, 20 if wide else 12, 4) == track_id:
                lasts = _number(head, 28 if wide else 20, 8 if wide else 4)
                return _track(read_at, trak, scale, lasts)
    except (IndexError, ValueError, ZeroDivisionError):
        pass
    return None


def _track(read_at: ReadAt, trak: tuple[int, int], scale: int, lasts: int) -> Mp4Clock:
    mdia = _only(read_at, trak, "mdia")
    timescale, stated = _scale_and_duration(_box(read_at, mdia, "mdhd"))
    table = _only(read_at, _only(read_at, mdia, "minf"), "stbl")
    times = _box(read_at, table, "stts")
    count = _number(times, 4, 4)
    ticks = counted = 0
    for number in range(min(count, (len(times) - 8) // 8)):
        samples, delta = _number(times, 8 + 8 * number, 4), _number(times, 12 + 8 * number, 4)
        ticks, counted = ticks + samples * delta, counted + samples
    sizes = _box(read_at, table, "stsz", most=12)
    edts = next(_named(read_at, *trak, "edts"), None)
    edits = [] if edts is None else _edits(_box(read_at, edts, "elst"), scale)
    first, delayed = 0, None
    if next(_named(read_at, *table, "ctts"), None):
        delays = _box(read_at, table, "ctts")
        first = int.from_bytes(delays[12:16], "big", signed=True)
        counts = np.frombuffer(delays[8 : 8 + (len(delays) - 8) // 8 * 8], ">u4")[::2]
        delayed = int(counts[: _number(delays, 4, 4)].sum(dtype=np.int64))
    samples = _number(sizes, 8, 4)
    return Mp4Clock(
        ticks, stated, 1 / timescale, first, counted, delayed, samples, lasts / scale, edits
    )


def _edits(data: bytes, scale: int) -> list[tuple[float, int | None]]:
    width = 8 if data[0] == 1 else 4
    found: list[tuple[float, int | None]] = []
    for number in range(min(_number(data, 4, 4), (len(data) - 8) // (2 * width + 4))):
        at = 8 + number * (2 * width + 4)
        start = _number(data, at + width, width)
        none = start in (_NO_MEDIA, 2**32 - 1 if width == 4 else None)
        found.append((_number(data, at, width) / scale, None if none else start))
    return found


def _scale_and_duration(data: bytes) -> tuple[int, int]:
    """Units per second and duration in these units, of mvhd or mdhd."""
    wide = data[0] == 1
    scale = _number(data, 20 if wide else 12, 4)
    if not scale:
        raise ValueError("no units")
    return scale, _number(data, 24 if wide else 16, 8 if wide else 4)


def _number(data: bytes, at: int, width: int) -> int:
    if at + width > len(data):
        raise ValueError("the box is too short")
    return int.from_bytes(data[at : at + width], "big")


def _box(read_at: ReadAt, inside: tuple[int, int], name: str, most: int = _MOST) -> bytes:
    start, stop = _only(read_at, inside, name)
    return read_at(start, min(stop - start, most))


def _only(read_at: ReadAt, inside: tuple[int, int], name: str) -> tuple[int, int]:
    found = list(islice(_named(read_at, *inside, name), 2))
    if len(found) != 1:
        raise ValueError(f"not one {name}")
    return found[0]


def _named(read_at: ReadAt, start: int, stop: int, name: str) -> Iterator[tuple[int, int]]:
    """(start, stop) of the content of boxes of this name between two bytes of the file."""
    position = start
    while position + 8 <= stop:
        header = read_at(position, 16)
        length, head = int.from_bytes(header[:4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(header[8:16], "big"), 16
        elif length == 0:
            length = stop - position
        if length < head or position + length > stop:
            return
        if header[4:8].decode("latin-1") == name:
            yield position + head, position + length
        position += length
