"""The frame indexes of a participant's videos: one `.npz`, where it is and how it is read."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.video.index import VideoIndex


def index_path(index_dir: str | os.PathLike, participant_id: str) -> Path:
    """Where the rules scan and proxy keep the frame indexes of a participant's videos."""
    return Path(index_dir) / f"{participant_id}.index.npz"


def write_indexes(indexes: Mapping[str, VideoIndex], path: str | os.PathLike) -> None:
    """Write the index of each video, by video_id, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    for video_id, index in indexes.items():
        arrays |= index.to_arrays(f"{video_id}/")
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def load_index(path: str | os.PathLike, video_id: str) -> VideoIndex | None:
    """The index of one video from a participant's file, or None where it has none."""
    with np.load(path) as arrays:
        if f"{video_id}/steps" not in arrays:
            return None
        return VideoIndex.from_arrays(arrays, f"{video_id}/")
