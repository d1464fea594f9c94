"""The frame indexes of a job, read once and shared by its processes.

Forked processes share what was read. Those of a training on several GPUs map the same file, which
the first of them writes (`epic100.video.shared_arrays`).
"""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from weakref import WeakValueDictionary

from epic100.base.errors import EpicError
from epic100.video.index import FrameIndex
from epic100.video.index_file import index_path, load_packed


class _Indexes(dict[str, FrameIndex]):
    """The indexes of a participant, by video_id."""


# What is in use in this process, by the state of its file: training and validation share it.
_in_use: WeakValueDictionary[tuple, _Indexes] = WeakValueDictionary()


class LoadedIndexes:
    """Finds the index of a video below `{root}/{participant}/{video_id}.*`.

    A file of indexes is read when one of its videos is first asked for, and never again. Processes
    that are forked later share what was read, since nobody writes to it.
    """

    def __init__(self, folder: str | PathLike):
        """Read from the indexes in `folder`, as the rules scan and proxy write them."""
        self._folder = Path(folder)
        self._loaded: dict[str, _Indexes] = {}  # by participant

    def find(self, path: str | PathLike) -> FrameIndex | None:
        """The index of a video, or None if there is none.

        Raises:
            EpicError: Its file of indexes cannot be read; the next call tries again.
        """
        video = Path(path)
        participant = video.parent.name
        if participant not in self._loaded:
            file = index_path(self._folder, participant)
            if not file.is_file():
                return None
            self._loaded[participant] = _load(file)
        return self._loaded[participant].get(video.stem)

    def load(self, paths: Iterable[str | PathLike]) -> None:
        """Read the indexes of videos now, so that processes that are forked later share them.

        Raises:
            EpicError: A file of indexes cannot be read; all others were.
            OSError: The disk fails under one; all others were read.
        """
        first = None
        for video in {Path(path).parent.name: path for path in paths}.values():
            try:
                self.find(video)
            except (EpicError, OSError) as error:
                first = first or error
        if first is not None:
            raise first


def _load(file: Path) -> _Indexes:
    state = file.stat()
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    found = _in_use.get(key)
    if found is None:
        found = _Indexes(load_packed(file, "-".join(map(str, key))))
        _in_use[key] = found
    return found
