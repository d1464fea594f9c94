"""Verify that unmarked frames can be read: reads a sample through the real reader."""

from pathlib import Path

import numpy as np

from epic100.video.index import VideoIndex
from epic100.video.reader import FrameError, VideoReader

SAMPLE = 6  # frames; each must be decoded from its key frame


def refusal(path: Path, index: VideoIndex, sound: np.ndarray) -> str:
    """Read a sample of the frames that the scan did not mark.

    The sample has the first and the last such frame and some between them. It is read backwards, to
    check that a decoder's state from elsewhere in the file does no harm.

    Args:
        path: The video file.
        index: Its index.
        sound: bool [F]: the frames that are not marked.

    Returns:
        Why a frame cannot be read, as text, or "".
    """
    frames = np.flatnonzero(sound)
    if not len(frames):
        return ""
    places = np.unique(np.linspace(0, len(frames) - 1, SAMPLE).round().astype(int))
    try:
        reader = VideoReader(path, index, watched=True)
        for frame in frames[places][::-1].tolist():
            reader.get_frames([frame])
        reader.close()
    except FrameError as error:
        return f"a frame that looks sound cannot be read: {str(error).removeprefix(f'{path}: ')}"
    return ""
