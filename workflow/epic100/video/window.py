"""Scale and convert only the part of a decoded picture that is kept."""

import functools
from dataclasses import dataclass

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter


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


def turned_back(window: Window, size: tuple[int, int], turns: int) -> Window:
    """The part of a picture that shows as `window` after so many quarter turns clockwise.

    Args:
        window: The part of the turned picture. What `flipped` says stays to be done after turning.
        size: (height, width) of the turned picture.
        turns: How often it was turned.
    """
    top, left, height, width = window.top, window.left, window.height, window.width
    for number in range(turns):
        side = size[1 - number % 2]
        top, left, height, width = side - left - width, top, width, height
    return Window(top, left, height, width)


def scaled_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `short_side`, rounded like `mmcv.rescale_size`."""
    factor = short_side / min(size)
    height, width = (int(side * factor + 0.5) for side in size)
    return height, width


class PictureConverter:
    """Converts decoded pictures of one stream to RGB, with windows of one size.

    Its tables depend on these sizes, so a converter is kept from clip to clip.
    """

    def __init__(self) -> None:
        # Kept, because a new one per frame would rebuild its tables and start threads.
        self._reformatter = VideoReformatter()
        self._cut_out: _CutOut | None = None

    def write(
        self,
        frame: av.VideoFrame,
        into: np.ndarray,
        window: Window | None = None,
        turns: int = 0,
    ) -> None:
        """Scale the window of a picture to the size of `into`.

        swscale's bilinear filter averages when it shrinks. At an edge of the window it repeats the
        last pixel, as at the edge of a picture. It sees nothing of what is cut away.

        Args:
            frame: The decoded picture.
            into: uint8 RGB [height, width, 3], which is filled.
            window: The part of the picture, after turning, that is kept; None keeps all.
            turns: How often it is turned clockwise by 90 degrees.
        """
        if turns:
            lying = np.empty_like(np.rot90(into, turns), order="C")
            size = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
            self.write(frame, lying, window and turned_back(window, size, turns))
            upright = np.rot90(lying, -turns)
            into[:] = upright[:, ::-1] if window and window.flipped else upright
            return
        height, width = into.shape[:2]
        if window is not None and (window.height, window.width) != (frame.height, frame.width):
            frame = self._cut(frame, window)
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
        picture = _lines(rgb.planes[0])[:, : 3 * width].reshape(height, width, 3)
        if window is not None and window.flipped:
            import cv2  # 300 MiB of address space, which a scan does not need

            cv2.flip(picture, 1, into)  # thirty times as fast as a slice with a negative step
        else:
            into[:] = picture

    def _cut(self, frame: av.VideoFrame, window: Window) -> av.VideoFrame:
        """The window as a frame of its own, until the next call."""
        if not _has_whole_samples(frame, window):
            frame = frame.reformat(format="gbrp", threads=1)
        if self._cut_out is None or not self._cut_out.fits(frame, window):
            self._cut_out = _CutOut(frame, window)
        return self._cut_out.fill(frame, window)


class _CutOut:
    """A frame of its own for the windows of a stream's pictures, all of one size."""

    def __init__(self, frame: av.VideoFrame, window: Window):
        self._kind = _kind(frame, window)
        # A new frame would say nothing of where its chroma samples are, and PyAV cannot set that.
        # A scaled frame has the description of its source; its pixels are replaced.
        kind, size = frame.format.name, (window.width, window.height)
        self._frame = VideoReformatter().reformat(
            frame, *size, kind, interpolation=Interpolation.POINT, threads=1
        )
        depths = [(part.bits + 7) // 8 for part in frame.format.components]
        self._parts = [
            (_lines(plane)[:, : depth * plane.width], depth)
            for plane, depth in zip(self._frame.planes, depths, strict=True)
        ]

    def fits(self, frame: av.VideoFrame, window: Window) -> bool:
        """Whether a window of this size of such a picture can be filled in."""
        return self._kind == _kind(frame, window)

    def fill(self, frame: av.VideoFrame, window: Window) -> av.VideoFrame:
        """Copy the window's part of each plane."""
        for source, (target, depth) in zip(frame.planes, self._parts, strict=True):
            lines, length = target.shape
            top = window.top * source.height // frame.height
            left = depth * (window.left * source.width // frame.width)
            target[:] = _lines(source)[top : top + lines, left : left + length]
        return self._frame


def _kind(frame: av.VideoFrame, window: Window) -> tuple:
    size = frame.height, frame.width, window.height, window.width
    return frame.format.name, frame.colorspace, frame.color_range, size


def _lines(plane: VideoPlane) -> np.ndarray:
    """A plane's own bytes, [lines, bytes]. Lines are padded at the end."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)


def _has_whole_samples(frame: av.VideoFrame, window: Window) -> bool:
    """Whether the window's planes can be cut out: one a component, no chroma sample is split.

    swscale takes the lines of an interlaced picture apart, so there a chroma line covers four.
    """
    sample = _sample_size(frame.format.name)
    return (
        sample is not None
        and not frame.interlaced_frame
        and not (window.left % sample[0] or window.top % sample[1])
    )


@functools.cache
def _sample_size(name: str) -> tuple[int, int] | None:
    """Pixels across and down that a chroma sample covers; None if components share a plane."""
    kind = av.VideoFormat(name, 16, 16)
    planes = {component.plane for component in kind.components}
    if not kind.is_planar or len(planes) != len(kind.components):
        return None
    return 16 // kind.chroma_width(16), 16 // kind.chroma_height(16)
