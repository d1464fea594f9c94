"""Verify that unmarked frames can be read: reads a sample through the real reader."""

import contextlib
from pathlib import Path

import numpy as np

from epic100.video.index import VideoIndex
from epic100.video.reader import FrameError, VideoReader

SAMPLE = 6  # frames; each must be decoded from its key frame
NEAR = 4  # frames from the key frame to a sampled one, since a group may be long;
NEAR_SHARE = 1 / 400  # more in a long file: so much of its frames


def prove(path: Path, index: VideoIndex, sound: np.ndarray) -> tuple[str, VideoIndex]:
    """Read a sample of the frames that the scan did not mark, as training will read them.

    The sample has the first such frame, one of the last group and some between them, not far from
    their key frames. It is read backwards, to check that a decoder's state from elsewhere in the
    file does no harm. Packets are read by their places only if both ways give the same pictures;
    every second frame is read both ways.

    Args:
        path: The video file.
        index: Its index.
        sound: bool [F]: the frames that are not marked.

    Returns:
        Why a frame cannot be read, as text, or ""; and the index, which says how to read the file.
    """
    frames, other = _sample(index, sound), index.through_container()
    if not frames or (index.direct and _gives_the_same(path, index, other, frames)):
        return "", index
    try:
        with contextlib.closing(VideoReader(path, other)) as reader:
            for frame in frames:
                reader.get_frames([frame])
    except FrameError as error:
        why = str(error).removeprefix(f"{path}: ")
        return f"a frame that looks sound cannot be read: {why}", other
    return "", other


def _gives_the_same(path: Path, index: VideoIndex, other: VideoIndex, frames: list[int]) -> bool:
    try:
        with (
            contextlib.closing(VideoReader(path, index)) as reader,
            contextlib.closing(VideoReader(path, other)) as slow,
        ):
            for number, frame in enumerate(frames):
                picture = reader.get_frames([frame])
                if not number % 2 and not np.array_equal(picture, slow.get_frames([frame])):
                    return False
    except FrameError:
        return False
    return True


def _sample(index: VideoIndex, sound: np.ndarray) -> list[int]:
    """The sample, backwards, near the key frames."""
    frames = np.flatnonzero(sound)
    if not len(frames):
        return []
    places = np.unique(np.linspace(0, len(frames) - 1, SAMPLE).round().astype(int))
    keys = np.unique(np.searchsorted(index.pts, index.key_pts))
    most = max(NEAR, round(NEAR_SHARE * index.frames))
    found = []
    for frame in frames[places][::-1].tolist():
        near = int(keys[max(int(np.searchsorted(keys, frame, "right")) - 1, 0)]) + most
        found.append(near if near < frame and sound[near] else frame)
    return list(dict.fromkeys(found))
