"""What several readers of videos ask FFmpeg in the same way."""

import av


def picture_stream(container) -> "av.VideoStream | None":
    """The stream with the pictures: where there are several, FFmpeg's choice (the default one)."""
    return container.streams.best("video")


def error_text(error: Exception) -> str:
    """What an error of FFmpeg says, without its number and the path."""
    return getattr(error, "strerror", None) or type(error).__name__
