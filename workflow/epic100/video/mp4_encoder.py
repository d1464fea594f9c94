"""Decode the packets of a film, and encode its frames anew as H.264 with almost no loss."""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from epic100.base.guarded import FileError
from epic100.video.ffmpeg import decoder_errors
from epic100.video.index import COLOURS

# A key frame comes often, so that a clip is read fast. The number of threads is fixed, so that the
# copy and the memory that it takes are alike on all machines.
X264 = {"preset": "veryfast", "crf": "12", "g": "50", "bf": "0", "threads": "4"}


def encode(
    packets: Iterator[av.Packet],
    stream: av.VideoStream,
    out: av.container.OutputContainer,
    times: Sequence[int],
    by_packet: bool,
) -> int:
    """Encode the frames of a film, and write them into an MP4.

    A frame is left out if the decoder reports an error between the last key frame and its packet.
    The others keep their times.

    Args:
        packets: All packets of the film.
        stream: The stream of the packets.
        out: The MP4, which has no stream yet.
        times: When the frame of each packet is shown, in units of the stream's time base.
        by_packet: Whether `times` are in the order of the packets. If not, they are in the order in
            which the decoder gives the frames.

    Returns:
        The number of frames that are left out.

    Raises:
        FileError: No frame decodes.
    """
    coder, latest, left_out = None, -1, 0
    for place, (frame, is_damaged) in enumerate(_decoded(packets, stream)):
        if frame is None or is_damaged:
            left_out += 1
            continue
        time = times[(frame.pts or 0) if by_packet else place]
        # Where an edit list joins two parts, two frames may have the same time.
        if time > latest:
            coder = coder or _add_coder(out, stream, frame)
            frame = frame.reformat(coder.width, coder.height, coder.pix_fmt)
            frame.pts, frame.time_base, latest = time, stream.time_base, time
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
    decoder, is_damaged = stream.codec_context, list[bool]()
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
            was_damaged = is_damaged[-1:] == [True] and not (packet and packet.is_keyframe)
            is_damaged.append(was_damaged or bool(errors) or None in frames)
            for frame in frames:
                yield frame, frame is None or is_damaged[frame.pts or 0]


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
