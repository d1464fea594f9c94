"""Make an MP4 copy of a film that cannot be read in place: another container, or an unusual MP4.

The packets of the video are copied as they are, if the container says when each is shown. Else the
film is decoded and encoded anew, with almost no loss. The frames keep their times, and players turn
them as they turn the frames of the film.

AVI and MPEG-PS do not say when a frame is shown. A decoder gives frames in the order in which they
are shown, so the n-th of them is shown at the n-th decoding time.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from epic100.base.atomic import writing
from epic100.base.errors import shown
from epic100.base.guarded import FileError, call
from epic100.base.log import Progress
from epic100.settings.data import ScanLimits
from epic100.video.build_index import index_packets, reject
from epic100.video.ffmpeg import COPIED, begins_entry, demuxed, opened
from epic100.video.index import FrameError, VideoIndex
from epic100.video.mp4_encoder import encode

# These containers say when each frame is shown, and an MP4 can hold the packets of these codecs.
TIMED = ("matroska,webm", "mpegts", "flv", "ivf")
CODECS = ("h264", "hevc", "vp9", "av1")
# The maximum number of frames that are decoded before one that is shown earlier. H.264 and HEVC
# allow 16.
MAX_REORDERED = 32
# Progress is reported once in this number of packets.
PROGRESS_EVERY = 10
# A copy may take a day of computing. How long it may do nothing is in `ScanLimits`.
LIMIT_SECONDS = 24 * 3600


class Plan(NamedTuple):
    """How a film is copied.

    Attributes:
        is_encoded: Whether its frames are encoded anew.
        by_packet: Whether `times` has the time of each packet. If not, the n-th frame that the
            decoder gives is shown at the n-th time.
        times: Times on the clock of a player, in units of the stream's time base.
    """

    is_encoded: bool
    by_packet: bool
    times: list[int]


def make_copy(source: Path, target: Path) -> tuple[VideoIndex, int | None]:
    """Make an MP4 copy of a film, in a process with limits on memory and time.

    Args:
        source: The film, in a container of `COPIED`.
        target: The MP4 to write. After an error, a part of it may be there.

    Returns:
        The index of the copy; and None if all packets are copied. If the frames are encoded anew,
        the number of frames that are left out, since the decoder reports errors.

    Raises:
        FrameError: The film has no video that can be decoded.
        ProcessError: The disk is full, or the machine fails.
    """
    # All packets are read twice.
    bar = Progress(f"copy {shown(source.name)}", 2 * source.stat().st_size / 1e6, "MB")
    try:
        left_out = call(
            write_copy,
            source,
            target,
            limits=ScanLimits(),
            seconds=LIMIT_SECONDS,
            progress=lambda done: bar.update(done / 1e6 - bar.done),
        )
        arrays = call(index_packets, target, limits=ScanLimits(), seconds=LIMIT_SECONDS)
    except FileError as error:
        raise FrameError(
            f"{shown(source)}: {error}; if it was cut or only half copied, copy it again"
        ) from error
    finally:
        bar.close()
    return VideoIndex.from_arrays(arrays), left_out


def write_copy(source: Path, target: Path, progress: Callable[[int], None]) -> int | None:
    """Write the copy of a film; the result is the second one of `make_copy`.

    Args:
        source: The film.
        target: The MP4 to write.
        progress: Called with the number of bytes that were read.

    Raises:
        FileError: The film has no video that can be decoded.
        DiskError: The disk is full.
    """
    with opened(source, containers=COPIED) as (file, container, stream):
        plan = _plan(container, stream, progress)
        progress(file.size)
    with (
        writing(target),
        opened(source, containers=COPIED) as (_, container, stream),
        av.open(str(target), "w", format="mp4") as out,
    ):
        packets = _packets(container, stream, lambda done: progress(file.size + done))
        if plan.is_encoded:
            return encode(packets, stream, out, plan.times, plan.by_packet)
        copy = out.add_stream_from_template(stream, opaque=True)
        # A packet must be decoded before its frame is shown.
        decoded_at = np.sort(plan.times)
        decoded_at -= (decoded_at - plan.times).max()
        for packet, pts, dts in zip(packets, plan.times, decoded_at.tolist(), strict=True):
            packet.pts, packet.dts, packet.stream = pts, dts, copy
            out.mux(packet)
    return None


def _plan(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    progress: Callable[[int], None],
) -> Plan:
    """Read all packets of a film, and find out how it can be copied.

    Raises:
        FileError: The film has no frames, or cannot be read to its end.
    """
    rows = [
        (packet.pts, packet.dts, begins_entry(packet))
        for packet in _packets(container, stream, progress)
    ]
    if not rows:
        raise FileError("no frames in this file")
    shown_at, decoded_at, is_new_entry = zip(*rows, strict=True)
    name, codec = container.format.name, stream.codec_context.codec.canonical_name
    is_mp4, unit = "mp4" in name, float(stream.time_base or 1)
    by_packet = None not in shown_at and (is_mp4 or (name in TIMED and _are_clear(shown_at)))
    times = np.array(shown_at if by_packet else _clock(decoded_at, round(1 / 25 / unit)))
    if not is_mp4:
        # The clock of a broadcast begins where the stream does, and the clock of other films at 0.
        begin = round((container.start_time or 0) / av.time_base / unit) if "mpeg" in name else 0
        times -= min(begin, times.min())
    is_encoded = is_mp4 or not by_packet or codec not in CODECS or any(is_new_entry)
    return Plan(is_encoded, by_packet, times.tolist())


def _are_clear(times: Sequence[int]) -> bool:
    """Whether no two packets have the same time, and none is far from packets of similar times.

    In films that were joined, the times of the second one may begin anew.
    """
    moved = np.argsort(times) - np.arange(len(times))
    return len({*times}) == len(times) and bool(np.abs(moved).max() <= MAX_REORDERED)


def _clock(decoded_at: Sequence[int | None], usual_step: int) -> list[int]:
    """Make ascending times of decoding times, of which some may be missing or go back.

    Args:
        decoded_at: The decoding time of each packet.
        usual_step: Time from one packet to the next, if fewer than two times are known.
    """
    known = [number for number, time in enumerate(decoded_at) if time is not None]
    steps = np.diff([decoded_at[number] for number in known]) / np.diff(known)
    step = max(1, round(np.median(steps)) if len(steps) else usual_step)
    times = itertools.accumulate(
        decoded_at,
        lambda last, time: time if time is not None and time > last else last + step,
        initial=(decoded_at[0] or 0) - step,
    )
    _, *clock = times
    return clock


def _packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    progress: Callable[[int], None],
) -> Iterator[av.Packet]:
    """Read the packets of a stream that have bytes.

    Raises:
        FileError: The container has an error, so that the copy would lack frames.
    """
    done = 0
    for number, packet in enumerate(demuxed(container, stream, reject)):
        if packet.size:
            yield packet
        done += packet.size
        if number % PROGRESS_EVERY == 0:
            progress(done)
