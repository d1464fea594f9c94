"""Make an MP4 copy of a film that cannot be read in place: another container, or an unusual MP4.

The packets of the video are copied as they are, if the container says when each is shown. Else the
film is decoded and encoded anew, with almost no loss. The frames keep their times, and players turn
them as they turn the frames of the film.

AVI and MPEG-PS do not say when a frame is shown. A decoder gives frames in the order in which they
are shown, so the n-th of them is shown at the n-th decoding time.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from epic100.base.atomic import writing
from epic100.base.errors import shown
from epic100.base.guarded import FileError, call
from epic100.base.log import Progress
from epic100.settings.data import ScanLimits
from epic100.video.build_index import index_packets, reject
from epic100.video.ffmpeg import COPIED, begins_entry, decoder_errors, demuxed, opened
from epic100.video.index import COLOURS, FrameError, VideoIndex

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
# A key frame comes often, so that a clip is read fast. The number of threads is fixed, so that the
# copy and the memory that it takes are alike on all machines.
X264 = {"preset": "veryfast", "crf": "12", "g": "50", "bf": "0", "threads": "4"}


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
    """Write the copy of a film.

    Args:
        source: The film.
        target: The MP4 to write.
        progress: Called with the number of bytes that were read.

    Returns:
        None if all packets are copied. If the frames are encoded anew, the number of frames that
        are left out, since the decoder reports errors.

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
            return _encode(packets, stream, out, plan)
        # With `opaque`, the bytes of the packets need no encoder of their codec.
        copy = out.add_stream_from_template(stream, opaque=True)
        # Decoding times must ascend, and no packet may be decoded after its frame is shown. So they
        # are the sorted times of the frames, all moved back by what the latest packet needs.
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
    # Presentation times, as far as they are known, and decoding times of all packets.
    shown_at, decoded_at = list[int](), list[int | None]()
    has_several_entries = False
    for packet in _packets(container, stream, progress):
        decoded_at.append(packet.dts)
        if packet.pts is not None:
            shown_at.append(packet.pts)
        has_several_entries = has_several_entries or begins_entry(packet)
    if not decoded_at:
        raise FileError("no frames in this file")
    # Whether the container says when each frame is shown.
    container_name, codec = container.format.name, stream.codec_context.codec.canonical_name
    is_mp4 = "mp4" in container_name
    by_packet = len(shown_at) == len(decoded_at)
    if by_packet and not is_mp4:
        by_packet = container_name in TIMED and _are_clear(shown_at)
    # The times on the clock of a player. The clock of a broadcast begins where the stream does, and
    # the clock of other films at 0.
    unit_seconds = float(stream.time_base or 1)
    usual_step = round(1 / 25 / unit_seconds)
    times = np.array(shown_at if by_packet else _clock(decoded_at, usual_step))
    if not is_mp4:
        start_seconds = (container.start_time or 0) / av.time_base
        begin = round(start_seconds / unit_seconds) if "mpeg" in container_name else 0
        times -= min(begin, times.min())
    is_encoded = is_mp4 or not by_packet or codec not in CODECS or has_several_entries
    return Plan(is_encoded, by_packet, times.tolist())


def _are_clear(times: Sequence[int]) -> bool:
    """Whether no two packets have the same time, and none is far from packets of similar times.

    In films that were joined, the times of the second one may begin anew.
    """
    # By how many places a packet moves if packets are sorted by time.
    moves = np.argsort(times) - np.arange(len(times))
    return len(set(times)) == len(times) and bool(np.abs(moves).max() <= MAX_REORDERED)


def _clock(decoded_at: Sequence[int | None], usual_step: int) -> list[int]:
    """Give each packet a time later than that of the packet before.

    Args:
        decoded_at: The decoding time of each packet. Some may be missing or go back.
        usual_step: Time from one packet to the next, if fewer than two times are known.

    Returns:
        The decoding times; in place of one that is missing or goes back, the last time plus the
        median step.
    """
    known = [number for number, time in enumerate(decoded_at) if time is not None]
    steps = np.diff([decoded_at[number] for number in known]) / np.diff(known)
    step = max(1, round(np.median(steps)) if len(steps) else usual_step)
    times = list[int]()
    last = (decoded_at[0] or 0) - step
    for time in decoded_at:
        last = last + step if time is None or time <= last else time
        times.append(last)
    return times


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


def _encode(
    packets: Iterator[av.Packet],
    stream: av.VideoStream,
    out: av.container.OutputContainer,
    plan: Plan,
) -> int:
    """Encode the frames of a film anew as H.264 with almost no loss, and write them into an MP4.

    A frame is left out if the decoder reports an error between the last key frame and its packet.
    The others keep their times.

    Args:
        packets: All packets of the film.
        stream: The stream of the packets.
        out: The MP4, which has no stream yet.
        plan: When the frames are shown.

    Returns:
        The number of frames that are left out.

    Raises:
        FileError: No frame decodes.
    """
    coder, last_time, left_out = None, -1, 0
    for place, (frame, is_damaged) in enumerate(_decoded(packets, stream)):
        if frame is None or is_damaged:
            left_out += 1
            continue
        # `_decoded` has put the number of its packet into the `pts` of a frame.
        time = plan.times[(frame.pts or 0) if plan.by_packet else place]
        # Where an edit list joins two parts, two frames may have the same time.
        if time > last_time:
            last_time = time
            coder = coder or _add_coder(out, stream, frame)
            frame = frame.reformat(coder.width, coder.height, coder.pix_fmt)
            frame.pts, frame.time_base = time, stream.time_base
            frame.pict_type = 0  # Else the key frames of the film would be key frames here too.
            out.mux(coder.encode(frame))
    if coder is None:
        raise FileError("no frame of it decodes")
    out.mux(coder.encode(None))
    return left_out


def _decoded(
    packets: Iterator[av.Packet], stream: av.VideoStream
) -> Iterator[tuple[av.VideoFrame | None, bool]]:
    """Decode packets one by one.

    Yields:
        A frame, whose `pts` is the number of its packet, or None for a packet that does not decode;
        and whether the decoder reports an error between the last key frame and this packet.

    Raises:
        MemoryError: The decoder asks for too much memory.
    """
    decoder = stream.codec_context
    # Whether the decoder reports an error since the last key frame; and this after each packet.
    is_damaged, is_damaged_at = False, list[bool]()
    # On one thread, an error is about the packet that was decoded last.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    # "Strict" lets the decoder wait for all frames that may be shown before one, whatever the
    # stream says of their number.
    decoder.options = {**decoder.options, "strict": "strict"}
    with decoder_errors() as errors:
        # At the end, None makes the decoder give the frames that it holds back.
        for number, packet in enumerate(itertools.chain(packets, [None])):
            errors.clear()
            frames: list[av.VideoFrame | None] = [None]
            if packet is not None:
                packet.pts = number  # A decoder gives a frame the time of its packet.
            try:
                frames = [*decoder.decode(packet)]
            except av.error.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
            if packet is not None and packet.is_keyframe:
                is_damaged = False
            is_damaged = is_damaged or bool(errors) or None in frames
            is_damaged_at.append(is_damaged)
            for frame in frames:
                yield frame, frame is None or is_damaged_at[frame.pts or 0]


def _add_coder(
    out: av.container.OutputContainer, stream: av.VideoStream, first: av.VideoFrame
) -> av.VideoStream:
    """Add a stream of H.264 to an MP4, for frames like the first one of a film."""
    coder = out.add_stream("libx264", options=X264)
    coder.width, coder.height = first.width, first.height
    # In the usual format, both sides of a frame have to be even.
    coder.pix_fmt = "yuv444p" if first.width % 2 or first.height % 2 else "yuv420p"
    coder.codec_context.time_base = Fraction(first.time_base or 1)
    for name in COLOURS:
        setattr(coder.codec_context, name, getattr(first, name))
    matrix: Any = first.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        # Players turn the frames as it says.
        coder.set_display_matrix(np.frombuffer(bytes(matrix), np.int32).tolist())
    return coder
