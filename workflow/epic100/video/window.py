"""Cut a window out of a decoded frame, scale it, and convert it to RGB."""

from dataclasses import dataclass

import av.filter.context
import numpy as np


@dataclass(frozen=True)
class Window:
    """A part of a frame, in pixels of the file.

    Attributes:
        top: First line.
        left: First column.
        height: Number of lines.
        width: Number of columns.
        flipped: Whether left and right are exchanged.
    """

    top: int
    left: int
    height: int
    width: int
    flipped: bool = False


def turned_back(window: Window, size: tuple[int, int], turns: int) -> Window:
    """Find the window of a frame that shows the same part before the frame is turned.

    Args:
        window: The part of the turned frame. The result is not flipped: the caller has to flip
            the frame after turning.
        size: (height, width) of the turned frame.
        turns: Number of quarter turns clockwise.
    """
    top, left, height, width = window.top, window.left, window.height, window.width
    frame_height, frame_width = size
    for _ in range(turns):
        # A quarter turn back makes the distance to the right edge the distance to the top one.
        top, left, height, width = frame_width - left - width, top, width, height
        frame_height, frame_width = frame_width, frame_height
    return Window(top, left, height, width)


class FrameConverter:
    """Converts decoded frames of one stream to RGB, and cuts windows of one size out of them.

    Its tables depend on these sizes, so a converter serves many clips.
    """

    def __init__(self) -> None:
        """Make a converter; the first frame sets its sizes."""
        # A new reformatter for each frame would rebuild its tables and start threads.
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._crop: av.filter.context.FilterContext | None = None
        # A graph of the crop filter is made anew only if it needs other arguments than these.
        self._graph_arguments = ""

    def write(
        self,
        frame: av.VideoFrame,
        into: np.ndarray,
        window: Window | None = None,
        turns: int = 0,
    ) -> None:
        """Write the window of a frame into an array, scaled to the size of the array.

        swscale's bilinear filter averages when it shrinks. At an edge of the window it repeats the
        last pixel, as at the edge of a frame. It sees nothing of what is cut away.

        Args:
            frame: The decoded frame.
            into: uint8 RGB [height, width, 3], which is filled.
            window: The part of the turned frame; None: the complete frame.
            turns: Number of quarter turns clockwise of the frame.
        """
        if turns:
            self._write_turned(frame, into, window, turns)
            return
        height, width = into.shape[:2]
        if window is not None and (window.height, window.width) != (frame.height, frame.width):
            frame = self._cut(frame, window)
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
        # FFmpeg pads each line at its end, so the padding is cut off.
        lines = np.frombuffer(memoryview(rgb.planes[0]), np.uint8).reshape(height, -1)
        pixels = lines[:, : 3 * width].reshape(height, width, 3)
        if window is not None and window.flipped:
            # OpenCV takes 300 MiB of address space, so it is imported only to flip frames.
            import cv2

            # This is thirty times as fast as a slice with a negative step.
            cv2.flip(pixels, 1, into)
        else:
            into[:] = pixels

    def _write_turned(
        self, frame: av.VideoFrame, into: np.ndarray, window: Window | None, turns: int
    ) -> None:
        """Convert a frame as it lies in the file, and turn the result; arguments as for `write`."""
        lying = np.empty_like(np.rot90(into, turns), order="C")
        size = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
        # The window that is passed on is not flipped: the flip follows, on the upright frame.
        self.write(frame, lying, window and turned_back(window, size, turns))
        upright = np.rot90(lying, -turns)
        into[:] = upright[:, ::-1] if window and window.flipped else upright

    def _cut(self, frame: av.VideoFrame, window: Window) -> av.VideoFrame:
        """Cut the window out of a frame; the result shares its memory."""
        pixel_format = frame.format
        # The columns and rows of pixels that one chroma sample covers: 2 and 2 if 16 x 16 pixels
        # have 8 x 8 samples.
        chroma_columns = 16 // pixel_format.chroma_width(16)
        chroma_rows = 16 // pixel_format.chroma_height(16)
        # A chroma sample must not be split. swscale takes the lines of an interlaced frame apart,
        # so there a chroma line covers four. RGB has no such samples, so it can be cut anywhere.
        if frame.interlaced_frame or window.left % chroma_columns or window.top % chroma_rows:
            frame = frame.reformat(format="gbrp", threads=1)
        buffer_text = (
            f"width={frame.width}:height={frame.height}:pix_fmt={frame.format.name}:time_base=1"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
        )
        crop_text = f"w={window.width}:h={window.height}"
        # A graph is made once for frames of one format. Only the position of the crop changes.
        if self._crop is None or self._graph_arguments != buffer_text + crop_text:
            self._graph, self._graph_arguments = av.filter.Graph(), buffer_text + crop_text
            self._graph.threads = 1
            self._crop = self._graph.add("crop", crop_text)
            source, sink = self._graph.add("buffer", buffer_text), self._graph.add("buffersink")
            self._graph.link_nodes(source, self._crop, sink).configure()
        self._crop.process_command("x", str(window.left))
        self._crop.process_command("y", str(window.top))
        self._graph.vpush(frame)
        return self._graph.vpull()
