"""Write and read the frame indexes of a participant's videos, which are in one `.npz` file.

A process reads each file once. Processes that it forks later share the memory, since nobody writes
to it.
"""

import functools
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.checked import opened_arrays
from epic100.base.errors import EpicError
from epic100.video.index import FORMAT, VideoIndex


def index_path(index_dir: str | os.PathLike, participant_id: str) -> Path:
    """Return the file of a participant's frame indexes in a folder: `P01.index.npz`."""
    return Path(index_dir) / f"{participant_id}.index.npz"


def write_indexes(indexes: Mapping[str, VideoIndex], path: str | os.PathLike) -> None:
    """Write the frame indexes of several videos to one file, atomically.

    Args:
        indexes: The index of each video, by video_id.
        path: The `.npz` to write.
    """
    arrays = {"format": np.array(FORMAT)}
    for video_id, index in indexes.items():
        arrays |= index.to_arrays(f"{video_id}/")
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def load_index(path: str | os.PathLike, video_id: str) -> VideoIndex:
    """Read the frame index of one video from a participant's file.

    Raises:
        EpicError: The file is not a frame index of this version, is incomplete, or has none for
            this video.
    """
    indexes = load_indexes(Path(path))
    if video_id not in indexes:
        raise EpicError(
            f"{path}: no frame index of {video_id}; one that cannot be read has none; of any "
            f"other, make it again with `snakemake -R {path}`"
        )
    return indexes[video_id]


@functools.cache
def load_indexes(path: Path) -> Mapping[str, VideoIndex]:
    """Read the frame indexes of all videos from a participant's file.

    A process reads the file once. Later calls return the same indexes, even if the file has
    changed.

    Returns:
        The index of each video, by video_id. Nobody may change them, since all callers share them.

    Raises:
        EpicError: The file is not a frame index of this version, or is incomplete.
        OSError: There is no file, or the disk fails; the next call tries again.
    """
    path.stat()  # A file that is missing is no spoilt one.
    with opened_arrays(
        path, FORMAT, "a complete frame index", "scan its participant again"
    ) as arrays:
        prefixes = [name.removesuffix("stream") for name in arrays if name.endswith("/stream")]
        return {
            prefix.removesuffix("/"): VideoIndex.from_arrays(arrays, prefix) for prefix in prefixes
        }


def find_index(folder: str | os.PathLike, path: str | os.PathLike) -> VideoIndex | None:
    """Read the frame index of a video `{root}/{participant}/{video_id}.*`; None if there is none.

    Args:
        folder: The folder in which the rules scan and proxy write indexes.
        path: The path of the video in a list of segments.

    Raises:
        EpicError: The file is not a frame index of this version, or is incomplete.
        OSError: The disk fails.
    """
    video = Path(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        return load_indexes(index_path(folder, video.parent.name)).get(video.stem)
    return None
