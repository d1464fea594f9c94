"""The frame indexes of a participant's videos: one `.npz`, its path and how to read it."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.disk_file import reading
from epic100.base.errors import DiskError, EpicError
from epic100.video.index import PackedIndex, VideoIndex
from epic100.video.shared_arrays import share_arrays

FORMAT = "epic100 frame indexes 1"
LARGEST = 2**30  # bytes; an hour of video takes about 10 MiB


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
            return VideoIndex.from_arrays(arrays, f"{video_id}/")
    raise EpicError(
        f"{path}: no frame index of {video_id}; one that cannot be read has none; of any other, "
        f"make it again with `snakemake -R {path}`"
    )


def load_packed(path: str | os.PathLike, shared_as: str) -> dict[str, PackedIndex]:
    """Read all indexes of a participant's file, in the form that takes least memory.

    Args:
        path: The file.
        shared_as: A name for what it holds now, under which processes of a node share it.

    Raises:
        EpicError: The file is not a frame index of this version, or is incomplete.
    """
    with _opened(path) as packed:
        names = [name.rpartition("/")[0] for name in packed if name.endswith("/stream")]
        arrays = share_arrays(packed, shared_as)
        return {name: PackedIndex.from_arrays(arrays, f"{name}/") for name in names}


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Mapping[str, np.ndarray]]:
    try:
        with reading(path) as file:
            file.peek()  # a disk that fails says so here, where zipfile might not ask it
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > LARGEST:
                raise ValueError(f"{unpacked / 2**20:.0f} MiB unpacked, at most {LARGEST >> 20}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                if str(arrays["format"]) != FORMAT:
                    raise ValueError(f"of another version than {FORMAT!r}")
                yield arrays
    except DiskError:
        raise
    except Exception as error:  # zipfile, numpy and from_arrays raise many kinds for a wrong file
        words = " ".join(str(error).split())[:200]  # a bad zip repeats names of any length
        raise EpicError(
            f"{path}: not a whole frame index ({type(error).__name__}: {words}); scan its "
            "participant again"
        ) from error
