"""Find still scenes, in which an encoder may give two groups of pictures equal bytes."""

import av
import numpy as np

from epic100.video.index import VideoIndex

# One of this many pictures is checked.
LOOK_EVERY = 16
# At most this many luma samples are compared in each direction.
GRID = 48
# Two pictures look the same if no sample differs by more than this; samples go up to 255. An
# encoder keeps refining a still picture by that much.
SAME = 4


class Stills:
    """Finds still scenes: compares every 16th picture with the 16th before it.

    Pictures come in presentation order, as the decoder gives them.
    """

    def __init__(self) -> None:
        """Start before the first picture of a video."""
        self._count = 0
        # The pts and the luma samples of the last checked picture are compared with the next one.
        self._last_checked: tuple[int, np.ndarray] | None = None
        # A stretch of pictures that look the same is noted as (first pts, last pts).
        self._stretches: list[tuple[int, int]] = []

    def see(self, frame: av.VideoFrame, height: int) -> None:
        """Compare a decoded picture with the last checked one.

        Args:
            frame: The picture. Only every 16th is checked, and only if it is 8-bit YUV 4:2:0.
            height: Height in pixels without the rows that the scan adds.
        """
        self._count += 1
        if (
            self._count % LOOK_EVERY
            or frame.pts is None
            or frame.format.name not in ("yuv420p", "yuvj420p")
        ):
            return
        plane = frame.planes[0]
        # The lines of a plane may be longer than those of the picture.
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        sample = luma[: height : height // GRID + 1, : frame.width : frame.width // GRID + 1]
        # A difference of two samples may be negative, which unsigned bytes cannot hold.
        sample = sample.astype(np.int16)
        if self._last_checked is not None:
            last_pts, last_sample = self._last_checked
            if sample.shape == last_sample.shape and np.abs(sample - last_sample).max() <= SAME:
                self._stretches.append((last_pts, frame.pts))
        self._last_checked = frame.pts, sample

    def frames(self, index: VideoIndex) -> np.ndarray:
        """Mark the frames of still scenes.

        Args:
            index: The index of the video, which tells the frame of each pts.

        Returns:
            bool [F]: whether a frame is between two checked pictures that look the same, or is one
            of the two.
        """
        is_still = np.zeros(index.frames, dtype=bool)
        for stretch in self._stretches:
            first, last = np.searchsorted(index.pts, stretch)
            is_still[first : last + 1] = True
        return is_still
