"""Scale and convert only the part of a decoded picture that is kept."""

from dataclasses import dataclass

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter


@dataclass(frozen=True)
class Window:
    """The part of a picture that is kept, in pixels of the file.

    Attributes:
        top: First line.
        left: First column.
        height: Lines.
        width: Columns.
        flipped: Whether left and right are exchanged.
    """

    top: int
    left: int
    height: int
    width: int
    flipped: bool = False


def scaled_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `short_side`, rounded like `mmcv.rescale_size`."""
    factor = short_side / min(size)
    height, width = (int(side * factor + 0.5) for side in size)
    return height, width


class PictureConverter:
    """Converts decoded pictures of one clip to RGB, all of one file and with one window.

    Args:
        window: The part of each picture that is kept; None keeps all.
    """

    def __init__(self, window: Window | None = None):
        self._window = window
        # Kept, because a new one per frame would rebuild its tables and start threads.
        self._reformatter = VideoReformatter()
        self._buffer: av.VideoFrame | None = None
        self._buffer_of: tuple | None = None

    def write(self, frame: av.VideoFrame, into: np.ndarray) -> None:
        """Scale the window of a picture to the size of `into`.

        swscale's bilinear filter averages when it shrinks. At an edge of the window it repeats the
        last pixel, as at the edge of a picture. It sees nothing of what is cut away.

        Args:
            frame: The decoded picture.
            into: uint8 RGB [height, width, 3], which is filled.
        """
        height, width = into.shape[:2]
        window = self._window
        if window is not None and (window.height, window.width) != (frame.height, frame.width):
            frame = self._cut(frame, window)
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
        picture = _lines(rgb.planes[0])[:, : 3 * width].reshape(height, width, 3)
        into[:] = picture[:, ::-1] if window is not None and window.flipped else picture

    def _cut(self, frame: av.VideoFrame, window: Window) -> av.VideoFrame:
        """The window as a frame of its own, until the next call: its part of each plane."""
        if not _has_whole_samples(frame, window):
            frame = frame.reformat(format="gbrp", threads=1)
        kind = frame.format.name, frame.colorspace, frame.color_range
        if self._buffer is None or self._buffer_of != kind:
            # A new frame would say nothing of where its chroma samples are, and PyAV cannot set
            # that. A scaled frame has the description of its source; its pixels are replaced below.
            size = window.width, window.height
            self._buffer = VideoReformatter().reformat(frame, *size, kind[0], threads=1)
            self._buffer_of = kind
        for source, target, part in zip(
            frame.planes, self._buffer.planes, frame.format.components, strict=True
        ):
            depth = (part.bits + 7) // 8
            top = window.top * source.height // frame.height
            left = depth * (window.left * source.width // frame.width)
            length = depth * target.width
            kept = _lines(source)[top : top + target.height, left : left + length]
            _lines(target)[: target.height, :length] = kept
        return self._buffer


def _lines(plane: VideoPlane) -> np.ndarray:
    """A plane's own bytes, [lines, bytes]. Lines are padded at the end."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)


def _has_whole_samples(frame: av.VideoFrame, window: Window) -> bool:
    """Whether the window's planes can be cut out: one a component, no chroma sample is split.

    swscale takes the lines of an interlaced picture apart, so there a chroma line covers four.
    """
    kind = frame.format
    across, down = 16 // kind.chroma_width(16), 16 // kind.chroma_height(16)
    return (
        kind.is_planar
        and not frame.interlaced_frame
        and len(frame.planes) == len(kind.components)
        and not (window.left % across or window.top % down)
    )
