"""Scan the extracted frames of a video, in place of the video: a tar of JPEGs, or a folder of them.

EPIC-KITCHENS-100 releases `P01/rgb_frames/P01_01.tar` with `frame_0000000001.jpg` and so on, of
456 x 256 pixels, at 60 or 50 frames a second (`sheet.annotation_rate`) whatever the rate of the
video. Numbers begin at 1, so frame n of the index is file n + 1, and is shown at n / rate seconds.
The CSVs count in these frames ("frames extracted as detailed in Download", README of
github.com/epic-kitchens/epic-kitchens-100-annotations).

These are damaged: a number without a file, an empty or cut file, and what the decoder reports.
Readers need no special code for frames: the index lists where each JPEG is.
"""

import contextlib
import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from epic100.base.disk import HashedFile, WatchedFile, retry_disk
from epic100.base.guarded import FileError
from epic100.scan.damage import FAR_SECONDS, NO_FILE, TRUNCATED, UNDECODED, Packet, Scanned
from epic100.video.ffmpeg import decoder_errors, decoder_limit, packet_of
from epic100.video.index import PACKET, StreamFacts, VideoIndex
from epic100.video.packets import FOLDER_STEP, FrameFolder
from epic100.video.scan_table import FRAMES
from epic100.video.sheet import Video, annotation_rate

_NAME = re.compile(r"(?:.*/)?frame_([0-9]{10})\.jpg")
# A tar ends with blocks of zeros, of this number of bytes each.
_TAR_BLOCK = 512
# Progress is reported once in this number of frames.
_REPORT_EVERY = 100


def scan_frames(
    path: Path, video: Video, max_pixels: int, progress: Callable[[int], None]
) -> Scanned:
    """Decode all frames of a video.

    Args:
        path: The tar or the folder.
        video: The row of the sheet.
        max_pixels: Larger frames are not decoded.
        progress: Called with the number of frames read so far.

    Raises:
        FileError: No frame decodes, or the file is no tar of frames.
        DiskError: The disk fails.
    """
    table, is_cut = list_frames(path)
    packets = [Packet(pts=number, is_key=True, shown=True) for number in range(len(table))]
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = decoder_limit(max_pixels)
    opened_file = _HashedFolder(path) if path.is_dir() else HashedFile(path)
    with contextlib.closing(opened_file) as file, decoder_errors() as decoder_log:
        for place, packet in zip(table, packets, strict=True):
            # Decode a JPEG. After an error, no frame comes out.
            data = file.read_at(int(place["offset"]), int(place["size"]))
            place["crc"] = zlib.crc32(data)
            decoder_log.clear()
            with contextlib.suppress(av.error.FFmpegError):
                for frame in decoder.decode(packet_of(data)) if data else ():
                    packet.size, packet.decoded = (frame.width, frame.height), True
            # Say what is wrong with it.
            if not data:
                packet.mark(NO_FILE)
            elif decoder_log:
                packet.mark(UNDECODED)
            if packet.pts % _REPORT_EVERY == 0:
                progress(packet.pts)
        md5 = file.md5()
    if not any(packet.decoded for packet in packets):
        raise FileError("no frame decodes")
    # The official frames are on the clock of the CSVs. A lab may have extracted its own at the rate
    # of the sheet; their number tells.
    rate = annotation_rate(video.video_id)
    is_far = abs(len(table) / rate - video.duration) > FAR_SECONDS
    if is_far and not is_cut and abs(len(table) / video.fps - video.duration) <= FAR_SECONDS:
        rate = video.fps
    stream = StreamFacts.of(decoder, time_base=1 / Fraction(rate).limit_denominator(1001))
    index = VideoIndex(table, stream, b"", file.size, rate, md5=md5)
    # The sheet tells how many frames the part of a tar that is missing has.
    lost = max(0, round(video.duration * rate) - len(table)) if is_cut else 0
    broke_off = f"{TRUNCATED}the tar breaks off" if is_cut and not lost else ""
    return Scanned(packets, index, FRAMES, len(table), lost, broke_off)


class _HashedFolder(FrameFolder):
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


def list_frames(path: Path) -> tuple[np.ndarray, bool]:
    """Find where each frame is; other files are ignored, and so is the order.

    Returns:
        `PACKET` [F], without checksums; a number without a JPEG has the size 0. And whether the tar
        breaks off.

    Raises:
        FileError: There is no frame, or the file is no plain tar.
        DiskError: The disk fails.
    """
    is_cut = False
    if path.is_dir():
        sizes = _frames_in_folder(path)
        places = {number: (number * FOLDER_STEP, size) for number, size in sizes.items()}
    else:
        places, is_cut = _frames_in_tar(path)
    if not places:
        raise FileError("no frames in it; expected frame_0000000001.jpg and so on")
    table = np.zeros(max(places) + 1, PACKET)
    table["pts"] = table["frame"] = np.arange(len(table))
    table["key"] = table["shown"] = 1
    for number, (offset, size) in places.items():
        table[number]["offset"], table[number]["size"] = offset, size
    return table, is_cut


def _frames_in_folder(path: Path) -> dict[int, int]:
    """List the size of each frame by its number."""
    with retry_disk(path, "listing", lambda: os.scandir(path)) as entries:
        return {
            int(name[1]) - 1: entry.stat().st_size
            for entry in entries
            if (name := _NAME.fullmatch(entry.name)) and int(name[1]) > 0
        }


def _frames_in_tar(path: Path) -> tuple[dict[int, tuple[int, int]], bool]:
    """List the offset and size of each frame by its number, and whether the tar breaks off."""
    places = {}
    with WatchedFile(path) as file:
        try:
            # A compressed tar is rejected, since its frames have no offsets. Where a tar breaks
            # off, the frames before the break are used.
            with (
                tarfile.open(fileobj=file, mode="r:") as tar,
                contextlib.suppress(tarfile.ReadError),
            ):
                for member in tar:
                    name = _NAME.fullmatch(member.name)
                    # The last frame of a tar that breaks off is not all there.
                    is_complete = member.offset_data + member.size <= file.size
                    if name and int(name[1]) > 0 and member.isreg() and is_complete:
                        places[int(name[1]) - 1] = (member.offset_data, member.size)
        except tarfile.TarError as error:
            raise FileError(f"no plain tar of frames: {error}") from error
        is_cut = file.read_at(tar.offset, _TAR_BLOCK) != bytes(_TAR_BLOCK)
    return places, is_cut
