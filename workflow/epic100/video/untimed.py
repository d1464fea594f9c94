"""Times of pictures where a container states none, or not those of presentation.

AVI numbers its pictures as they are decoded. FFmpeg finds the order of presentation of MPEG-1, 2
and 4 part 2 there, but not that of codecs that reorder pictures freely. MPEG-PS states a time for
some packets only, and FFmpeg's guess of the others may be off. A decoder gives pictures in order,
so one is asked.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from epic100.base.guarded import FileError
from epic100.video.ffmpeg import demuxed, opened

_IN_AVI = ("h264", "hevc")  # FFmpeg cannot order the pictures of these codecs in AVI.
_REPORT_EVERY = 100  # It counts packets.


def has_no_times(container: InputContainer, stream: av.VideoStream) -> bool:
    """Whether the times of a stream's packets have to be found by decoding."""
    name = container.format.name
    return name == "mpeg" or (name == "avi" and stream.codec_context.name in _IN_AVI)


def own_times(
    path: Path,
    container: InputContainer,
    stream: av.VideoStream,
    max_pixels: int,
    progress: Callable[[int], None],
) -> Iterator[int] | None:
    """Decode a video for the times of its pictures, if its container states none.

    Args:
        path: The video file.
        container: The same file, open.
        stream: Its video stream.
        max_pixels: Larger pictures are refused.
        progress: Called with the number of packets so far.

    Returns:
        Time of presentation of each packet in the file's order, in units of the stream. The n-th
        picture that comes out is shown at the n-th time of decoding. One that does not come out
        follows the one before it in the file. None: the container states them.

    Raises:
        FileError: It has no times at all.
    """
    if not has_no_times(container, stream):
        return None
    decoding_times, shown_order = list[int | None](), list[int]()
    with opened(path, max_pixels) as (_, container, stream):
        decoder = stream.codec_context
        # "Strict" lets the decoder wait for the most pictures that may come in between.
        decoder.options = {**decoder.options, "strict": "strict", "skip_loop_filter": "all"}
        decoder.thread_count = 1
        for packet in demuxed(container, stream):
            packet.pts = len(decoding_times) if packet.size else None
            if packet.size:
                decoding_times.append(packet.dts)
            with contextlib.suppress(av.error.InvalidDataError):
                shown_order += [
                    frame.pts for frame in decoder.decode(packet) if frame.pts is not None
                ]
            if len(decoding_times) % _REPORT_EVERY == 0:
                progress(len(decoding_times))
    time_of_packet, latest = dict[int, int](), -math.inf
    for number, time in enumerate(decoding_times):
        if time is not None and time > latest:  # FFmpeg may give two packets one time.
            time_of_packet[number] = latest = time
    if not time_of_packet:
        raise FileError("no picture has a time")
    numbers = np.arange(len(decoding_times))
    positions = np.full(len(decoding_times), -1)
    positions[shown_order] = np.arange(len(shown_order))
    positions = positions[np.maximum.accumulate(np.where(positions < 0, 0, numbers))]
    times = np.empty(len(decoding_times), np.int64)
    clock = np.interp(numbers, list(time_of_packet), list(time_of_packet.values()))
    first, last = min(time_of_packet), max(time_of_packet)
    usual_step = (time_of_packet[last] - time_of_packet[first]) / max(last - first, 1)
    clock += usual_step * (np.maximum(numbers - last, 0) + np.minimum(numbers - first, 0))
    times[np.lexsort((numbers, positions))] = clock.round()
    return iter(times.tolist())


def timed(packets: Iterable[av.Packet], times: Iterator[int] | None) -> Iterator[av.Packet]:
    """Packets with these times of presentation, one for each that has bytes; None: their own."""
    for packet in packets:
        if times is not None and packet.size:
            packet.pts = next(times, None)
        yield packet
