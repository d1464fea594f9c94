"""What the scan does not mark can be read: it reads a sample through the reader itself."""

from pathlib import Path

import numpy as np

from epic100.video.index import VideoIndex
from epic100.video.reader import FrameError, VideoReader

SAMPLE = 6  # frames; each costs the decoding from its key frame on


def refusal(path: Path, index: VideoIndex, sound: np.ndarray) -> str:
    """Why frames that are not marked cannot be had, in words, or "".

    `sound` bool [F]: the frames that are not marked. The first and the last of them are read, and
    some between them, from the last back: what a decoder keeps from one place must not matter.
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
