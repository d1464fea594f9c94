"""The extracted frames of a video, in place of the video: a tar of JPEGs, or a folder of them.

EPIC-KITCHENS-100 releases `P01/rgb_frames/P01_01.tar` with `frame_0000000001.jpg` and so on, of
456 x 256 pixels, at 60 or 50 frames a second (`sheet.annotation_rate`) whatever the rate of the
video. Numbers begin at 1, so frame n of the index is file n + 1, and is shown at n / rate seconds.
The CSVs count in these frames ("frames extracted as detailed in Download", README of
github.com/epic-kitchens/epic-kitchens-100-annotations).

Readers need no special code for them: the index lists where each JPEG is.
"""

import hashlib
import os
import re
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epic100.base.disk import HashedFile, WatchedFile, retry_disk
from epic100.base.guarded import FileError
from epic100.video.packet_table import PACKET

_NAME = re.compile(r"(?:.*/)?frame_([0-9]{10})\.jpg")
# In a folder, a frame has its number times this as its offset, so that no two are read at once.
_FOLDER_STEP = 1 << 32
# A tar ends with blocks of zeros, of this number of bytes each.
_TAR_BLOCK = 512


@dataclass(frozen=True)
class FrameFiles:
    """Where the frames of a video are.

    Attributes:
        packets: `PACKET` [F], without checksums; a number without a JPEG has the size 0.
        is_cut: Whether the tar breaks off.
    """

    packets: np.ndarray
    is_cut: bool


def list_frames(path: Path) -> FrameFiles:
    """Find where each frame is; other files are ignored, and so is the order.

    Raises:
        FileError: There is no frame, or the file is no plain tar.
        DiskError: The disk fails.
    """
    places, is_cut = _in_folder(path) if path.is_dir() else _in_tar(path)
    if not places:
        raise FileError("no frames in it; expected frame_0000000001.jpg and so on")
    packets = np.zeros(max(places) + 1, PACKET)
    packets["pts"] = packets["frame"] = np.arange(len(packets))
    packets["key"] = packets["shown"] = 1
    for number, (offset, size) in places.items():
        packets[number]["offset"], packets[number]["size"] = offset, size
    return FrameFiles(packets, is_cut)


def _in_tar(path: Path) -> tuple[dict[int, tuple[int, int]], bool]:
    """List the offset and size of each frame by its number, and whether the tar breaks off."""
    places = {}
    with WatchedFile(path) as file:
        try:
            # A compressed tar is rejected, since its frames have no offsets. Where a tar breaks
            # off, the frames before the break are used.
            with tarfile.open(fileobj=file, mode="r:") as tar, suppress(tarfile.ReadError):
                for member in tar:
                    if (name := _NAME.fullmatch(member.name)) and member.isreg():
                        places[int(name[1]) - 1] = (member.offset_data, member.size)
        except tarfile.TarError as error:
            raise FileError(f"no plain tar of frames: {error}") from error
        is_cut = file.read_at(tar.offset, _TAR_BLOCK) != bytes(_TAR_BLOCK)
    # The last frame of a tar that breaks off is not all there.
    return {n: place for n, place in places.items() if n >= 0 and sum(place) <= file.size}, is_cut


def _in_folder(path: Path) -> tuple[dict[int, tuple[int, int]], bool]:
    """List the offset and size of each frame by its number; a folder never breaks off."""
    places = {}
    with retry_disk(path, "listing", lambda: os.scandir(path)) as entries:
        for entry in entries:
            if (name := _NAME.fullmatch(entry.name)) and int(name[1]) > 0:
                number = int(name[1]) - 1
                places[number] = (number * _FOLDER_STEP, entry.stat().st_size)
    return places, False


class FrameFolder:
    """The files of a folder of frames, which are read as parts of one file at their offsets.

    Attributes:
        size: The size of that file, which nobody knows; 0.
    """

    size = 0

    def __init__(self, path: str | os.PathLike):
        """Take the folder; each file is opened when it is read."""
        self._path = Path(path)

    def read_at(self, position: int, count: int) -> bytes:
        """Read at most `count` bytes of the frame at this offset."""
        with WatchedFile(self._path / f"frame_{position // _FOLDER_STEP + 1:010d}.jpg") as file:
            return file.read_at(0, count)


class HashedFolder(FrameFolder):
    """A folder of frames whose MD5 is computed from what a scan reads anyway."""

    def __init__(self, path: str | os.PathLike):
        """Take the folder, and begin the MD5."""
        super().__init__(path)
        self._md5 = hashlib.md5(usedforsecurity=False)

    def read_at(self, position: int, count: int) -> bytes:
        """Read at most `count` bytes of the frame at this offset, and add them to the MD5."""
        data = super().read_at(position, count)
        self._md5.update(data)
        return data

    def md5(self) -> str:
        """Return the MD5 of all frames, if each was read once, in order."""
        return self._md5.hexdigest()

    def close(self) -> None:
        """Do nothing: each file is closed when it is read."""


def open_frames(path: str | os.PathLike) -> HashedFile | HashedFolder:
    """Open a tar or a folder of frames for a scan, which reads them at the offsets of packets."""
    return HashedFolder(path) if os.path.isdir(path) else HashedFile(path)
