"""Find the presentation times of pictures in files whose container does not state them all.

AVI numbers its pictures as they are decoded. FFmpeg finds the order of presentation of MPEG-1, 2
and 4 part 2 there, but not that of codecs that reorder pictures freely. MPEG-PS states a time for
some packets only, and FFmpeg's guess of the others may be off. A decoder gives pictures in the
order in which they are shown, so the video is decoded once to find that order.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import numpy as np

from epic100.base.guarded import FileError
from epic100.video.ffmpeg import demuxed, opened

_IN_AVI = ("h264", "hevc")  # FFmpeg cannot order the pictures of these codecs in AVI.
_REPORT_EVERY = 100  # Progress is reported once in so many packets.


def has_no_times(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether the times of a stream's packets have to be found by decoding."""
    name = container.format.name
    return name == "mpeg" or (name == "avi" and stream.codec_context.name in _IN_AVI)


def own_times(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    max_pixels: int,
    progress: Callable[[int], None],
) -> Iterator[int] | None:
    """Find when the picture of each packet is shown by decoding, if the container does not say.

    The n-th picture that the decoder gives is shown at the n-th decoding time. Packets that are
    decoded at 10, 20 and 30, and come out as the first, third and second, are shown at 10, 30, 20.

    Args:
        path: The video file.
        container: The open container of this file.
        stream: Its video stream.
        max_pixels: Larger pictures are refused.
        progress: Called with the number of packets decoded so far.

    Returns:
        The presentation time of each packet in the order of the file, in units of the stream's time
        base; None if the container states the times.

    Raises:
        FileError: No packet has a decoding time.
    """
    if not has_no_times(container, stream):
        return None
    decoding_times: list[int | None] = []
    shown_packets: list[int] = []
    # The file is opened once more, since decoding changes the position and the decoder, which the
    # caller still needs as they are.
    with opened(path, max_pixels) as (_, own_container, own_stream):
        decoder = own_stream.codec_context
        # "Strict" lets the decoder hold back as many pictures as the codec allows to be reordered.
        decoder.options = {**decoder.options, "strict": "strict", "skip_loop_filter": "all"}
        decoder.thread_count = 1
        for packet in demuxed(own_container, own_stream):
            # A decoder copies the pts of a packet to its picture. So the number of the packet is
            # put there in place of a time, and each picture tells which packet it comes from.
            packet.pts = len(decoding_times) if packet.size else None
            if packet.size:
                decoding_times.append(packet.dts)
            # The picture of a damaged packet does not come out.
            with contextlib.suppress(av.error.InvalidDataError):
                shown_packets += [
                    frame.pts for frame in decoder.decode(packet) if frame.pts is not None
                ]
            if len(decoding_times) % _REPORT_EVERY == 0:
                progress(len(decoding_times))
    # The n-th packet in the order of presentation gets the n-th decoding time.
    packets_by_time = _presentation_order(shown_packets, len(decoding_times))
    times = np.empty(len(decoding_times), np.int64)
    times[packets_by_time] = _complete_clock(decoding_times)
    return iter(times.tolist())


def _complete_clock(decoding_times: list[int | None]) -> np.ndarray:
    """Fill gaps in the decoding times: `None, 10, None, 30, None` becomes `0, 10, 20, 30, 40`.

    A missing time between two known ones is interpolated. Before the first known time and after the
    last one, the times go on in steps of the mean length.

    Raises:
        FileError: No time is known.
    """
    time_of_packet: dict[int, int] = {}
    latest = -math.inf
    for number, time in enumerate(decoding_times):
        # FFmpeg may give two packets one time. That of the second one counts as missing.
        if time is not None and time > latest:
            time_of_packet[number] = latest = time
    if not time_of_packet:
        raise FileError("no picture has a time")
    numbers = np.arange(len(decoding_times))
    clock = np.interp(numbers, list(time_of_packet), list(time_of_packet.values()))
    first, last = min(time_of_packet), max(time_of_packet)
    mean_step = (time_of_packet[last] - time_of_packet[first]) / max(last - first, 1)
    # At both ends, `interp` repeats the nearest known time. These steps extend the clock there.
    clock += mean_step * (np.maximum(numbers - last, 0) + np.minimum(numbers - first, 0))
    return clock.round()


def _presentation_order(shown_packets: list[int], packet_count: int) -> np.ndarray:
    """Sort the numbers of all packets by the order in which their pictures are shown.

    A packet whose picture did not come out of the decoder goes right after the packet before it in
    the file. If the pictures of packets 0, 3 and 2 of 4 come out, the result is `0, 1, 3, 2`.

    Args:
        shown_packets: The packets whose pictures came out, in this order.
        packet_count: Number of packets in the file.
    """
    # Position -1 means that no picture came out.
    numbers, positions = np.arange(packet_count), np.full(packet_count, -1)
    positions[shown_packets] = np.arange(len(shown_packets))
    latest_with_picture = np.maximum.accumulate(np.where(positions < 0, 0, numbers))
    # Packets with the same position stay in the order of the file.
    return np.lexsort((numbers, positions[latest_with_picture]))


def timed(packets: Iterable[av.Packet], times: Iterator[int] | None) -> Iterator[av.Packet]:
    """Set the presentation times of the packets of a stream.

    Args:
        packets: The packets, which are changed.
        times: A time for each packet that has bytes; None: packets keep their own times.

    Yields:
        The same packets.
    """
    for packet in packets:
        if times is not None and packet.size:
            packet.pts = next(times, None)
        yield packet
