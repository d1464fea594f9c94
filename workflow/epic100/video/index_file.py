"""The frame indexes of a participant's videos: one `.npz`, how to read it, and who shares it.

A job reads each file once. Processes that are forked later share what was read, since nobody writes
to it. Those of a training on several GPUs map one copy, which the first of them writes to a folder
of the launcher: the file itself is compressed, and a mapped file on a disk that fails would kill
the process.
"""

import fcntl
import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.checked import Array, opened_arrays
from epic100.base.errors import DiskError, EpicError
from epic100.video.index import FORMAT, VideoIndex
from epic100.video.packet_table import TIMES, unpacked

# This variable names a private folder that the processes of a launcher share.
FOLDER = "EPIC100_SHARED_INDEXES"


def index_path(index_dir: str | os.PathLike, participant_id: str) -> Path:
    """Where the rules scan and proxy store the frame indexes of a participant's videos."""
    return Path(index_dir) / f"{participant_id}.index.npz"


def write_indexes(indexes: Mapping[str, VideoIndex], path: str | os.PathLike) -> None:
    """Write the index of each video, by video_id, atomically."""
    arrays = {"format": np.array(FORMAT)}
    for video_id, index in indexes.items():
        arrays |= index.to_arrays(f"{video_id}/")
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def load_index(path: str | os.PathLike, video_id: str) -> VideoIndex:
    """Read the index of one video from a participant's file.

    Raises:
        EpicError: The file is not a frame index of this version, is incomplete, or has none for
            this video.
    """
    with _opened(path) as arrays:
        if f"{video_id}/stream" in arrays:
            return _fitting(VideoIndex.from_arrays(arrays, f"{video_id}/"))
    raise EpicError(
        f"{path}: no frame index of {video_id}; one that cannot be read has none; of any other, "
        f"make it again with `snakemake -R {path}`"
    )


@functools.cache
def load_indexes(path: Path) -> Mapping[str, VideoIndex]:
    """The indexes of all videos of a participant's file, by video_id; shared and not to be changed.

    The file is read once a process, whatever becomes of it then.

    Raises:
        EpicError: The file is not a frame index of this version, or is incomplete.
        OSError: There is none, or the disk fails; the next call tries again.
    """
    state = path.stat()
    key = f"{state.st_dev}-{state.st_ino}-{state.st_size}-{state.st_mtime_ns}"
    with _opened(path) as arrays:
        prefixes = [name.removesuffix("stream") for name in arrays if name.endswith("/stream")]
        stops = np.cumsum([len(arrays[f"{prefix}sets"]) for prefix in prefixes])
        # The last table is empty, since the last stop is the end of all packets.
        tables = np.split(_shared(arrays, prefixes, key), stops)[:-1]
        return {
            prefix[:-1]: _fitting(VideoIndex.from_arrays(arrays, prefix, table))
            for prefix, table in zip(prefixes, tables, strict=True)
        }


def find_index(folder: str | os.PathLike, path: str | os.PathLike) -> VideoIndex | None:
    """The index of a video `{root}/{participant}/{video_id}.*`, or None if there is none.

    Args:
        folder: Where the rules scan and proxy write indexes.
        path: The video, as lists have it.

    Raises:
        EpicError: As `load_indexes`. So does OSError.
    """
    video = Path(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        return load_indexes(index_path(folder, video.parent.name)).get(video.stem)
    return None


def _shared(arrays: Mapping[str, np.ndarray], prefixes: Sequence[str], name: str) -> np.ndarray:
    """The packets of all videos, from the copy of this node's processes if they have a folder."""
    if FOLDER not in os.environ:
        return unpacked(arrays, prefixes)
    copy = Path(os.environ[FOLDER]) / f"{name}.npy"
    try:
        with open(f"{copy}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.exists():
                with atomic_path(copy) as temporary:
                    np.save(temporary, unpacked(arrays, prefixes), allow_pickle=False)
        return np.load(copy, mmap_mode="r", allow_pickle=False)
    except (OSError, DiskError):  # The folder may have no room.
        return unpacked(arrays, prefixes)


def _opened(path: str | os.PathLike) -> AbstractContextManager[Mapping[str, np.ndarray]]:
    return opened_arrays(path, FORMAT, "a whole frame index", "scan its participant again")


def _fitting(index: VideoIndex) -> VideoIndex:
    """Return an index whose packets can be those of a file. Raises ValueError."""
    packets, most = index.packets, index.file_size
    bounds_of_column = {
        "offset": (0 if index.direct else -1, most),
        "pts": TIMES,
        "dts": TIMES,
        "size": (0, 2**31),
        "sets": (-1, len(index.sets) - 1),
        "shown": (0, 1),
    }
    for name, bounds in bounds_of_column.items():
        Array("i", name, *bounds).check(packets[name], {})
    if index.direct:
        Array("i", "end", most=most).check(packets["offset"] + packets["size"], {})
    frames = packets["frame"][: index.frames]
    Array("i", "frame", 0, len(packets) - 1).check(frames, {})
    if not np.array_equal(np.bincount(frames, minlength=len(packets)), packets["shown"]):
        raise ValueError("a frame that is no picture, or a picture that is two frames")
    Array("i", "in_order", rises=True).check(packets["pts"][frames], {})
    if not index.frames or packets["sets"][0] < 0:
        raise ValueError("no pictures, or nothing that decoding could begin with")
    return index
