"""What a decoder, and who looks at its pictures, must know about a stream."""

import contextlib
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import av
from pydantic import Field

from epic100.base.guarded import FileError
from epic100.video.ffmpeg import MAX_PIXELS, demuxed, opened

# Entry n has the signs of the values a, b, c, d of a display matrix that makes n quarter turns
# clockwise.
TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
FIRST_PACKETS = 100  # If any picture decodes, one of these does.
# These are attributes of a codec context.
COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")
Word = Annotated[str, Field(pattern=r"^[\w-]{0,40}$")]
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]
Side = Annotated[int, Field(ge=0, le=2**16)]


@dataclass(frozen=True)
class StreamFacts:
    """What a decoder must know about a stream.

    Attributes:
        codec: Name of FFmpeg's decoder.
        width: Width in pixels.
        height: Height in pixels.
        pix_fmt: FFmpeg's pixel format.
        time_base: Seconds per unit of time.
        length_size: Bytes of the length before each NAL unit; 0 for start codes or no NAL units.
        colours: The values of `COLOURS` that the container states.
        turns: How often pictures are turned clockwise by 90 degrees before they are shown.
    """

    codec: Word
    width: Side
    height: Side
    pix_fmt: Word
    time_base: Annotated[Fraction, Field(gt=0, lt=2**31)]
    length_size: Annotated[int, Field(ge=0, le=4)]
    colours: Annotated[tuple[Side, ...], Field(min_length=4, max_length=4)]
    turns: Annotated[int, Field(ge=0, le=3)] = 0

    @property
    def most_pixels(self) -> int:
        """How many its pictures may have: who scanned or indexed it has accepted its size."""
        return max(MAX_PIXELS, self.width * self.height)


def facts_of(path: str, stream: av.VideoStream, length_size: int) -> StreamFacts:
    """The facts of a stream that FFmpeg has open from a file.

    Raises:
        FileError: Its pictures are to be mirrored, or turned by no quarter turn.
    """
    context = stream.codec_context
    turns = quarter_turns(path, max(MAX_PIXELS, context.width * context.height))
    return StreamFacts(
        context.name,
        context.width,
        context.height,
        context.pix_fmt or "",
        Fraction(stream.time_base or 0),
        length_size,
        tuple(int(getattr(context, name)) for name in COLOURS),
        turns,
    )


def quarter_turns(path: str, max_pixels: int) -> int:
    """How often players turn the pictures of a file clockwise by 90 degrees.

    Each container has this note in a form of its own. FFmpeg gives it with each picture that its
    decoder makes, so the first one is decoded.

    Args:
        path: The video file.
        max_pixels: Larger pictures are refused.

    Raises:
        FileError: The note is another one, such as a mirror.
    """
    with opened(path, max_pixels) as (_, container, stream):
        for _, packet in zip(range(FIRST_PACKETS), demuxed(container, stream), strict=False):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    note: Any = frame.side_data.get("DISPLAYMATRIX")
                    return 0 if note is None else _turns_of(bytes(note))
    return 0


def _turns_of(matrix: bytes) -> int:
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    # A matrix may also scale pictures, which changes the values but not their signs.
    least = max(map(abs, (a, b, c, d))) / 100
    signs = tuple((value > least) - (value < -least) for value in (a, b, c, d))
    if signs not in TURNS:
        raise FileError(
            "its note of how players turn or mirror pictures is no quarter turn; expected one, or "
            "none: encode the video again as it is to be seen"
        )
    return TURNS.index(signs)
