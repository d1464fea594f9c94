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
from typing import Any, NamedTuple

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

# The name of a frame, below any folders of a tar: `P01_01/frame_0000000001.jpg` has number 1.
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
    table, breaks_off = list_frames(path)
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = decoder_limit(max_pixels)
    opened_file = _HashedFolder(path) if path.is_dir() else HashedFile(path)
    with contextlib.closing(opened_file) as file:
        packets = _decode_frames(file, table, decoder, progress)
        md5 = file.md5()
    if not any(packet.decoded for packet in packets):
        raise FileError("no frame decodes")
    rate = _extraction_rate(video, len(table), breaks_off)
    stream = StreamFacts.of(decoder, time_base=1 / Fraction(rate).limit_denominator(1001))
    # The sheet tells how many frames the part of a tar that is missing has.
    lost = max(0, round(video.duration * rate) - len(table)) if breaks_off else 0
    return Scanned(
        packets,
        VideoIndex(table, stream, extradata=b"", file_size=file.size, fps=rate, md5=md5),
        judged=FRAMES,
        coded=len(table),
        lost=lost,
        broke_off=f"{TRUNCATED}the tar breaks off" if breaks_off and not lost else "",
    )


def _decode_frames(
    file: "_HashedFolder | HashedFile",
    table: np.ndarray,
    decoder: Any,
    progress: Callable[[int], None],
) -> list[Packet]:
    """Decode each JPEG, and record which frames come out and which have a defect.

    Args:
        file: The tar or the folder, which is open.
        table: `PACKET` [F] of `list_frames`. The checksums are filled in.
        decoder: PyAV's decoder of JPEG.
        progress: Called with the number of frames read so far.
    """
    packets = []
    with decoder_errors() as decoder_log:
        for number, place in enumerate(table):
            packet = Packet(pts=number, is_key=True, shown=True)
            packets.append(packet)
            data = file.read_at(int(place["offset"]), int(place["size"]))
            place["crc"] = zlib.crc32(data)
            if data:
                decoder_log.clear()
                # After an error, no frame comes out.
                with contextlib.suppress(av.error.FFmpegError):
                    for frame in decoder.decode(packet_of(data)):
                        packet.size, packet.decoded = (frame.width, frame.height), True
                if decoder_log:
                    packet.mark(UNDECODED)
            else:
                packet.mark(NO_FILE)
            if number % _REPORT_EVERY == 0:
                progress(number)
    return packets


def _extraction_rate(video: Video, frames: int, breaks_off: bool) -> float:
    """Find at how many frames per second the frames of a video were extracted.

    The official frames are on the clock of the CSVs. A lab may have extracted its own at the rate
    of the sheet. Their number tells, unless the tar breaks off.
    """
    csv_rate = annotation_rate(video.video_id)
    csv_error_seconds = abs(frames / csv_rate - video.duration)
    sheet_error_seconds = abs(frames / video.fps - video.duration)
    has_sheet_rate = csv_error_seconds > FAR_SECONDS and sheet_error_seconds <= FAR_SECONDS
    return video.fps if has_sheet_rate and not breaks_off else csv_rate


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


class FrameList(NamedTuple):
    """Where the frames of a video are.

    Attributes:
        table: `PACKET` [F], without checksums; a number without a JPEG has the size 0.
        breaks_off: Whether it is a tar that ends too early, so that frames may be missing.
    """

    table: np.ndarray
    breaks_off: bool


def list_frames(path: Path) -> FrameList:
    """Find where each frame is; other files are ignored, and so is the order.

    Raises:
        FileError: There is no frame, or the file is no plain tar.
        DiskError: The disk fails.
    """
    if path.is_dir():
        places, breaks_off = _frames_in_folder(path), False
    else:
        places, breaks_off = _frames_in_tar(path)
    if not places:
        raise FileError("no frames in it; expected frame_0000000001.jpg and so on")
    table = np.zeros(max(places) + 1, PACKET)
    table["pts"] = table["frame"] = np.arange(len(table))
    table["key"] = table["shown"] = 1
    for number, (offset, size) in places.items():
        table[number]["offset"], table[number]["size"] = offset, size
    return FrameList(table, breaks_off)


def _frame_number(name: str) -> int:
    """Return the number of a frame in the index, by its file name; -1 if it is no frame.

    Names count from 1, so `frame_0000000001.jpg` is frame 0.
    """
    match = _NAME.fullmatch(name)
    return int(match[1]) - 1 if match else -1


def _frames_in_folder(path: Path) -> dict[int, tuple[int, int]]:
    """List the (offset, size) of each frame in bytes, by its number in the index."""
    places = {}
    with retry_disk(path, "listing", lambda: os.scandir(path)) as entries:
        for entry in entries:
            number = _frame_number(entry.name)
            if number >= 0:
                places[number] = (number * FOLDER_STEP, entry.stat().st_size)
    return places


def _frames_in_tar(path: Path) -> tuple[dict[int, tuple[int, int]], bool]:
    """Find the frames in a tar.

    Returns:
        The (offset, size) of each frame in bytes, by its number in the index; and whether the tar
        breaks off.
    """
    places = {}
    with WatchedFile(path) as file:
        # A compressed tar is rejected, since its frames have no offsets.
        try:
            tar = tarfile.TarFile(fileobj=file)
        except tarfile.TarError as error:
            raise FileError(f"no plain tar of frames: {error}") from error
        # Where a tar breaks off, `tarfile` raises an error. The frames before it are used.
        with tar, contextlib.suppress(tarfile.ReadError):
            for member in tar:
                number = _frame_number(member.name)
                # The last frame of a tar that breaks off is not all there.
                is_complete = member.offset_data + member.size <= file.size
                if number >= 0 and member.isreg() and is_complete:
                    places[number] = (member.offset_data, member.size)
        # A complete tar ends with a block of zeros, which is where reading has stopped.
        breaks_off = file.read_at(tar.offset, _TAR_BLOCK) != bytes(_TAR_BLOCK)
    return places, breaks_off
