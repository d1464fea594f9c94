"""Write, read and share the frame indexes of a participant's videos, which are in one `.npz` file.

A process reads each file once. Processes that it forks later share the memory, since nobody writes
to it. The processes of a training on several GPUs map one copy, which the first of them writes to a
folder of the launcher. The file itself cannot be mapped: it is compressed, and if its disk failed,
the process would be killed.
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
    with _opened(path) as arrays:
        if f"{video_id}/stream" in arrays:
            return _checked(VideoIndex.from_arrays(arrays, f"{video_id}/"))
    raise EpicError(
        f"{path}: no frame index of {video_id}; one that cannot be read has none; of any other, "
        f"make it again with `snakemake -R {path}`"
    )


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
    state = path.stat()
    # If the file is replaced, the shared copy of the new one has another name.
    copy_name = f"{state.st_dev}-{state.st_ino}-{state.st_size}-{state.st_mtime_ns}"
    with _opened(path) as arrays:
        prefixes = [name.removesuffix("stream") for name in arrays if name.endswith("/stream")]
        # Each column has one entry for each packet, so the length of one column is enough.
        stops = np.cumsum([len(arrays[f"{prefix}sets"]) for prefix in prefixes])
        # `split` returns one more table, which is empty, for the packets after the last stop.
        *tables, _ = np.split(_shared_packets(arrays, prefixes, copy_name), stops)
        return {
            prefix.removesuffix("/"): _checked(VideoIndex.from_arrays(arrays, prefix, table))
            for prefix, table in zip(prefixes, tables, strict=True)
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


def _shared_packets(
    arrays: Mapping[str, np.ndarray], prefixes: Sequence[str], copy_name: str
) -> np.ndarray:
    """Read the packets of all videos, from a copy that processes share if `FOLDER` is set.

    Args:
        arrays: The arrays of the file.
        prefixes: Start of the names of the arrays for each video, such as `P01_01/`.
        copy_name: Name of the shared copy, without its suffix.
    """
    if FOLDER not in os.environ:
        return unpacked(arrays, prefixes)
    copy = Path(os.environ[FOLDER]) / f"{copy_name}.npy"
    try:
        # The first process with the lock writes the copy, and all others wait for it.
        with open(f"{copy}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.exists():
                with atomic_path(copy) as temporary:
                    np.save(temporary, unpacked(arrays, prefixes), allow_pickle=False)
        return np.load(copy, mmap_mode="r", allow_pickle=False)
    except (OSError, DiskError):
        # The folder may be full. Then each process has packets of its own.
        return unpacked(arrays, prefixes)


def _opened(path: str | os.PathLike) -> AbstractContextManager[Mapping[str, np.ndarray]]:
    """Open a file of frame indexes; an incomplete one or another version raises EpicError."""
    return opened_arrays(path, FORMAT, "a whole frame index", "scan its participant again")


def _checked(index: VideoIndex) -> VideoIndex:
    """Check that the packets of an index can be those of one file, and return the index.

    Raises:
        ValueError: Some value is impossible, such as an offset beyond the end of the file.
    """
    packets = index.packets
    bounds_of_column = {
        "offset": (0 if index.direct else -1, index.file_size),
        "pts": TIMES,
        "dts": TIMES,
        "size": (0, 2**31),
        "sets": (-1, len(index.sets) - 1),
        "shown": (0, 1),
    }
    for name, bounds in bounds_of_column.items():
        Array("i", name, *bounds).check(packets[name], {})
    if index.direct:
        Array("i", "end", most=index.file_size).check(packets["offset"] + packets["size"], {})
    frames = packets["frame"][: index.frames]
    Array("i", "frame", 0, len(packets) - 1).check(frames, {})
    # Each shown packet must belong to one frame, and each hidden one to none.
    if not np.array_equal(np.bincount(frames, minlength=len(packets)), packets["shown"]):
        raise ValueError("a frame that is no picture, or a picture that is two frames")
    Array("i", "in_order", rises=True).check(packets["pts"][frames], {})
    if not index.frames or packets["sets"][0] < 0:
        raise ValueError("no pictures, or nothing that decoding could begin with")
    return index
