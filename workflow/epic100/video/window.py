"""Scale and convert only the part of a decoded picture that is kept."""

from dataclasses import dataclass

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
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


class PictureConverter:
    """Converts decoded pictures of one stream to RGB, with windows of one size.

    Its tables depend on these sizes, so a converter is kept from clip to clip.
    """

    def __init__(self) -> None:
        # A new one for each frame would rebuild its tables and start threads.
        self._reformatter = VideoReformatter()
        self._crop: FilterContext | None = None
        self._made_for = ""  # It says what the graph of this filter takes and gives.

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
        lines = np.frombuffer(memoryview(rgb.planes[0]), np.uint8).reshape(height, -1)
        # FFmpeg pads each line at its end.
        picture = lines[:, : 3 * width].reshape(height, width, 3)
        if window is not None and window.flipped:
            # It takes 300 MiB of address space, which a scan does not need.
            import cv2

            # This is thirty times as fast as a slice with a negative step.
            cv2.flip(picture, 1, into)
        else:
            into[:] = picture

    def _cut(self, frame: av.VideoFrame, window: Window) -> av.VideoFrame:
        """The window as a frame that shares the picture's memory."""
        pixel_format = frame.format
        across, down = (
            16 // pixel_format.chroma_width(16),
            16 // pixel_format.chroma_height(16),
        )
        # A chroma sample must not be split. swscale takes the lines of an interlaced picture apart,
        # so there a chroma line covers four.
        if frame.interlaced_frame or window.left % across or window.top % down:
            frame = frame.reformat(format="gbrp", threads=1)
        buffer_text, crop_text = (
            f"width={frame.width}:height={frame.height}:pix_fmt={frame.format.name}:time_base=1"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
            f"w={window.width}:h={window.height}",
        )
        if self._crop is None or self._made_for != buffer_text + crop_text:
            self._graph, self._made_for = Graph(), buffer_text + crop_text
            self._graph.threads = 1
            self._crop = self._graph.add("crop", crop_text)
            ends = self._graph.add("buffer", buffer_text), self._graph.add("buffersink")
            self._graph.link_nodes(ends[0], self._crop, ends[1]).configure()
        self._crop.process_command("x", str(window.left))
        self._crop.process_command("y", str(window.top))
        self._graph.vpush(frame)
        return self._graph.vpull()
