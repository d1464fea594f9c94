"""FFmpeg calls that several video modules share."""

import av
from av.container import InputContainer

MAX_PIXELS = 2**24  # per picture: 5.3K has 15.9 million; a clip of 8192 x 8192 takes 2.7 GiB


def picture_stream(container: InputContainer) -> av.VideoStream | None:
    """The video stream; if there are several, the one that FFmpeg picks (the default one)."""
    stream = container.streams.best("video")
    return stream if isinstance(stream, av.VideoStream) else None


def too_many_pixels(stream: av.VideoStream, most: int) -> str:
    """What is wrong with the picture size that a file states if that is over `most`, or ""."""
    context = stream.codec_context
    size = f"{context.width}x{context.height}"
    if context.width * context.height <= most:
        return ""
    return f"its pictures of {size} are larger than {most} pixels (`scan: max_pixels:`)"


def error_text(error: Exception) -> str:
    """The text of an FFmpeg error, without its number and the path."""
    return getattr(error, "strerror", None) or type(error).__name__
