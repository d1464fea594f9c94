"""Grey pictures in place of a video that is not there yet, for a trial of everything else."""

from collections.abc import Sequence

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from epic100.video.window import Window

SIZE = (256, 456)
FPS = 60000 / 1001


class BlankReader:
    """A `FrameReader` whose frames are all grey.

    Args:
        frames: Number of frames.
    """

    def __init__(self, frames: int):
        self.fps, self.frames, self.size = FPS, frames, SIZE

    def close(self) -> None:
        """Do nothing: there is no file."""

    def get_frames(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        window: Window | None = None,
    ) -> np.ndarray:
        """Return grey frames, uint8 RGB [len(indices), height, width, 3]."""
        whole = (window.height, window.width) if window else self.size
        return np.full((len(indices), *(size or whole), 3), 128, np.uint8)


@TRANSFORMS.register_module()
class BlankSegment(BaseTransform):
    """Takes the place of `OpenSegment` in a pipeline, but opens no file."""

    def transform(self, results: dict) -> dict:
        """Add the reader and its rate to `results`."""
        reader = BlankReader(results["start_index"] + results["total_frames"])
        results["video_reader"], results["avg_fps"] = reader, reader.fps
        return results
