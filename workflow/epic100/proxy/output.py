"""Write pictures into an H.264 file in an MP4, as copies and clips are."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from epic100.base.errors import DiskError
from epic100.proxy.pictures import clock
from epic100.video.ffmpeg import error_text
from epic100.video.index import VideoIndex

GRID = 16  # samples of luma per row and per column of a picture


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Report what FFmpeg or the system refuses to write as a DiskError."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise DiskError(f"cannot write the copy: {error_text(error)}") from error


@contextlib.contextmanager
def open_output(
    path: Path,
    original: av.VideoCodecContext,
    size: tuple[int, int],
    index: VideoIndex,
    x264: Mapping[str, str],
    mp4: Mapping[str, str] | None = None,
    comment: str = "",
) -> Iterator[Callable[[av.VideoFrame], None]]:
    """Open a file for the pictures of `index`, at their times after the first one.

    The file is finalised unless an error occurs.

    Args:
        path: The file.
        original: The decoder of the pictures; the file gets its colour description.
        size: (width, height).
        index: The frames to write.
        x264: Options of libx264.
        mp4: Options of FFmpeg's MP4 muxer.
        comment: Text that the file carries as metadata.

    Yields:
        A function that takes the next picture, in yuv420p.
    """
    ticks, time_base = clock(index)
    times = iter(ticks.tolist())
    rate = Fraction(index.fps).limit_denominator(1001) if index.fps else Fraction(30)
    with writing():
        out = av.open(str(path), "w", format="mp4", options=dict(mp4 or {}))
    try:
        out.metadata.update({"comment": comment} if comment else {})
        stream = out.add_stream("libx264", rate=rate, options=dict(x264))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, getattr(original, name))

        def add(picture: av.VideoFrame | None) -> None:
            if picture is not None:
                picture.pts, picture.time_base = next(times), time_base
                picture.pict_type = 0  # otherwise the original's key frames are key frames here too
            packets = stream.encode(picture)
            with writing():
                out.mux(packets)

        yield add
        add(None)
    except BaseException:
        with contextlib.suppress(av.error.FFmpegError, OSError):
            out.close()
        raise
    with writing():
        out.close()


def sample(frame: av.VideoFrame) -> np.ndarray:
    """Return luma on a grid, uint8 [S]."""
    plane = frame.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    rows, columns = -(-frame.height // GRID), -(-frame.width // GRID)
    return luma[: frame.height : rows, : frame.width : columns].flatten()
