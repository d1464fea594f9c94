"""What a decoder, and who looks at its pictures, must know about a stream."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import av
from pydantic import Field

from epic100.base.disk import WatchedFile
from epic100.base.guarded import FileError
from epic100.video.containers import quarter_turns
from epic100.video.ffmpeg import MAX_PIXELS

COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")  # of a codec context
Word = Annotated[str, Field(pattern=r"^[\w-]{0,40}$")]
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


def facts_of(file: WatchedFile, stream: av.VideoStream, length_size: int) -> StreamFacts:
    """The facts of a stream that FFmpeg has open from a file.

    Raises:
        FileError: Its pictures are to be mirrored, or turned by no quarter turn.
    """
    context = stream.codec_context
    try:
        turns = quarter_turns(file.size, file.read_at, stream.id)
    except ValueError as error:
        raise FileError(
            "its note of how players turn or mirror pictures is no quarter turn; expected one, or "
            "none: encode the video again as it is to be seen"
        ) from error
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
