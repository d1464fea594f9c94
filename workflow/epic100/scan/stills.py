"""Pictures that look like the one before: an encoder may code a group of them twice alike."""

import av
import numpy as np

from epic100.video.index import VideoIndex

LOOK_EVERY = 16
# At most this many luma samples are compared in each direction.
GRID = 48
# An encoder keeps refining a still picture by up to this many of 255 levels.
SAME = 4


class Stills:
    """Compares every 16th picture with the previous one it checked, in presentation order."""

    def __init__(self) -> None:
        self._count = 0
        # It has the pts and the samples of the picture that was checked last.
        self._before: tuple[int, np.ndarray] | None = None
        # Each goes from pts to pts of two checked pictures that look the same.
        self._stretches: list[tuple[int, int]] = []

    def see(self, frame: av.VideoFrame, height: int) -> None:
        """Take in a decoded picture.

        Args:
            frame: The picture. Only every 16th is checked, and only 8-bit planar ones.
            height: True height in pixels; the coded picture may be taller.
        """
        self._count += 1
        if (
            self._count % LOOK_EVERY
            or frame.pts is None
            or frame.format.name not in ("yuv420p", "yuvj420p")
        ):
            return
        plane = frame.planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rows, columns = height // GRID + 1, frame.width // GRID + 1
        sample = luma[:height:rows, : frame.width : columns].astype(np.int16)
        if self._before is not None:
            start, before = self._before
            if sample.shape == before.shape and np.abs(sample - before).max() <= SAME:
                self._stretches.append((start, frame.pts))
        self._before = frame.pts, sample

    def frames(self, index: VideoIndex) -> np.ndarray:
        """bool [F]: frames between two checked pictures that are the same."""
        frames = np.zeros(index.frames, dtype=bool)
        for stretch in self._stretches:
            first, last = np.searchsorted(index.pts, stretch)
            frames[first : last + 1] = True
        return frames
