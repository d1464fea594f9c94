"""What several readers of videos ask FFmpeg in the same way."""

import av
from av.container import InputContainer


def picture_stream(container: InputContainer) -> av.VideoStream | None:
    """The stream with the pictures: where there are several, FFmpeg's choice (the default one)."""
    stream = container.streams.best("video")
    return stream if isinstance(stream, av.VideoStream) else None


def error_text(error: Exception) -> str:
    """What an error of FFmpeg says, without its number and the path."""
    return getattr(error, "strerror", None) or type(error).__name__
