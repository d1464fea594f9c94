"""The pictures of an original in order of frame number, however its decoder orders them."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from epic100.base.disk import WatchedFile
from epic100.base.errors import EpicError
from epic100.video.ffmpeg import picture_stream
from epic100.video.index import VideoIndex

REORDER = 16  # pictures that may be decoded before one with a smaller frame number, at most


def clock(index: VideoIndex) -> tuple[np.ndarray, Fraction]:
    """Compute the times of a copy's frames, counted from the first one.

    They equal the original's times exactly. Frames that share one time (a kind of damage) cannot do
    so in a copy. There the unit is a fraction of the original's, and such frames follow each other.

    Returns:
        Ticks, int64 [F], strictly ascending; and their unit in seconds.
    """
    ticks = index.pts - index.pts[0]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ticks)) + 1])
    lengths = np.diff(np.append(starts, len(ticks)))
    parts = int(lengths.max())
    within = np.arange(len(ticks)) - np.repeat(starts, lengths)
    return ticks * parts + within, index.time_base / parts


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Open a video whose packets were read before."""
    with WatchedFile(path) as file, av.open(file, "r") as container:
        stream = picture_stream(container)
        assert stream is not None, "it has an index"
        yield container, stream


def numbered(
    container: InputContainer, stream: av.VideoStream, index: VideoIndex, stop: int | None = None
) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Yield (frame number, picture) for all frames of `index` in order, decoded on one thread.

    A picture is None if it does not decode or is flagged corrupt; `VideoReader` refuses those too.
    Frames from `stop` on are not decoded, but their packets are read and compared with the index.

    Raises:
        EpicError: The file's packets are not those of `index`.
        av.error.FFmpegError: The file cannot be read to its end.
    """
    numbers: dict[int | None, deque[int]] = {}
    for number, pts in enumerate(index.pts.tolist()):
        numbers.setdefault(pts, deque()).append(number)
    waiting: dict[int, av.VideoFrame] = {}
    number, stop = 0, index.frames if stop is None else stop
    for frame in _decoded(container, stream, index, lambda: number < stop):  # noqa: B023 (as it is then)
        own = numbers.get(frame.pts)
        if not own or frame.is_corrupt:
            continue
        waiting[own.popleft()] = frame
        while number < stop and (number in waiting or len(waiting) > REORDER):
            yield number, waiting.pop(number, None)
            number += 1
    for last in range(number, stop):
        yield last, waiting.pop(last, None)


def _decoded(
    container: InputContainer,
    stream: av.VideoStream,
    index: VideoIndex,
    more: Callable[[], bool],
) -> Iterator[av.VideoFrame]:
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    seen = []
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None and not packet.is_discard:
            seen.append(packet.pts)
        if not more():
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise  # not a fault of the file
    if sorted(seen) != index.pts.tolist():
        raise EpicError("its packets are not those that were scanned; scan it again")
