"""The parameters of a video stream that a decoder needs, and how players turn its frames."""

import contextlib
import itertools
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from epic100.base.guarded import FileError
from epic100.video.ffmpeg import MAX_PIXELS, demuxed, opened

# Entry n has the signs of the values a, b, c, d of the display matrix of n quarter turns clockwise.
TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
# The display matrix is searched in the frames of this number of packets.
FIRST_PACKETS = 100
# These attributes of PyAV's codec context describe the colours.
COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")


@dataclass(frozen=True)
class StreamFacts:
    """The parameters of a video stream that a decoder needs, and how its frames are shown.

    Attributes:
        codec: Name of FFmpeg's decoder, e.g. `h264`.
        width: Width in pixels.
        height: Height in pixels.
        pix_fmt: FFmpeg's pixel format, e.g. `yuv420p`; "" if it is unknown.
        time_base: Seconds per unit of time.
        colours: The values of `COLOURS` that the container states.
        turns: Number of quarter turns clockwise before a frame is shown.
    """

    codec: str
    width: int
    height: int
    pix_fmt: str
    time_base: Fraction
    colours: tuple[int, ...]
    turns: int = 0

    @property
    def max_pixels(self) -> int:
        """The limit on pixels of a frame, which allows the size that the scan has accepted."""
        return max(MAX_PIXELS, self.width * self.height)


def facts_of(path: str, stream: av.VideoStream) -> StreamFacts:
    """Collect the parameters of a video stream.

    Args:
        path: The video file.
        stream: Its video stream, which is open.

    Raises:
        FileError: Players mirror the frames, or turn them by another angle than quarter turns.
    """
    context = stream.codec_context
    return StreamFacts(
        codec=context.name,
        width=context.width,
        height=context.height,
        pix_fmt=context.pix_fmt or "",
        time_base=Fraction(stream.time_base or 0),
        colours=tuple(int(getattr(context, name)) for name in COLOURS),
        turns=quarter_turns(path, max(MAX_PIXELS, context.width * context.height)),
    )


def quarter_turns(path: str, max_pixels: int) -> int:
    """Find by how many quarter turns clockwise players turn the frames of a file.

    Each container states this in its own form. FFmpeg gives it as the display matrix of each
    decoded frame, so the first frame is decoded.

    Args:
        path: The video file.
        max_pixels: Larger frames are rejected.

    Raises:
        FileError: Players do something else with the frames, e.g. mirror them.
    """
    # A second decoder is used, so that the stream of the caller stays at its first packet.
    with opened(path, max_pixels) as (_, container, stream):
        for packet in itertools.islice(demuxed(container, stream), FIRST_PACKETS):
            # A packet may be damaged. Then the next one is tried.
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
                    return 0 if matrix is None else _turns_of(bytes(matrix))
    return 0


def _turns_of(matrix: bytes) -> int:
    """Find the number of quarter turns clockwise that a display matrix makes.

    Args:
        matrix: The matrix as FFmpeg has it: nine integers of 4 bytes.

    Raises:
        FileError: The matrix does something else, such as mirror.
    """
    # The first two rows of the matrix are a, b, u and c, d, v.
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    # A matrix may also scale frames, which changes the values but not their signs. A value of
    # less than a hundredth of the largest one counts as 0, since it comes from rounding.
    almost_zero = max(map(abs, (a, b, c, d))) / 100
    # The difference of these two comparisons is 1, 0 or -1.
    signs = tuple((value > almost_zero) - (value < -almost_zero) for value in (a, b, c, d))
    if signs not in TURNS:
        raise FileError(
            "its note of how players turn or mirror frames is no quarter turn; expected one, or "
            "none: encode the video again as it is to be seen"
        )
    return TURNS.index(signs)
