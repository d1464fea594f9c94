"""Read the packets of a video from a key frame on, by their offsets in the file.

No container is opened and no header is read. The scan has read each packet at its offset, and it
was equal to the demuxer's. Extracted frames are read in the same way (`epic100.scan.frames`).
"""

import os
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import av

from epic100.base.disk import WatchedFile
from epic100.base.machine import expect_random_reads
from epic100.video.ffmpeg import packet_of
from epic100.video.index import ANOTHER_FILE, FrameError, VideoIndex

# To read this number of bytes between two packets, e.g. audio, is faster than a second read.
MAX_GAP_BYTES = 64 << 10
# The maximum number of bytes of one read, unless a single packet is larger.
MAX_READ_BYTES = 4 << 20
# In a folder, a frame has its number times this as its offset, so that no two are read at once.
FOLDER_STEP = 1 << 32


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
        # A number without a file has no bytes.
        if not count:
            return b""
        with WatchedFile(self._path / f"frame_{position // FOLDER_STEP + 1:010d}.jpg") as file:
            return file.read_at(0, count)


def open_video(path: str) -> WatchedFile | FrameFolder:
    """Open a video file, and tell the system not to read ahead: clips are at random places."""
    if os.path.isdir(path):
        return FrameFolder(path)
    file = WatchedFile(path)
    expect_random_reads(file.descriptor)
    return file


class Place(NamedTuple):
    """Where a packet is, and what it is: these columns of the table of packets (`index.PACKET`)."""

    offset: int
    size: int
    pts: int
    crc: int
    key: int
    shown: int


# A packet comes with its presentation time.
Timed = tuple[av.Packet, int]


def read_packets(
    path: Path,
    file: WatchedFile | FrameFolder,
    index: VideoIndex,
    start: int,
    stop: int,
    wanted: Collection[int],
) -> Iterator[Timed]:
    """Read packets of a video; unwanted ones on which no frame depends are left out.

    Args:
        path: The video file, for errors.
        file: The same file, which is open.
        index: Its frame index.
        start: Number of the first packet, a key frame.
        stop: Number of the packet after the last one.
        wanted: Presentation times of the wanted packets.

    Yields:
        Each packet, and its presentation time.

    Raises:
        FrameError: The file is not the one that was scanned.
        DiskError: The disk fails.
    """
    columns = index.packets[list(Place._fields)]
    places = [Place(*row) for row in columns[start:stop].tolist()]
    for stretch in _split_for_reading(places):
        begin, last = stretch[0].offset, stretch[-1]
        byte_count = last.offset + last.size - begin
        data = memoryview(file.read_at(begin, byte_count))
        for place in stretch:
            at = place.offset - begin
            coded = data[at : at + place.size]
            # The CRC of a key frame tells whether the file was replaced.
            if len(data) < byte_count or (place.key and zlib.crc32(coded) != place.crc):
                raise FrameError(f"{path}: {ANOTHER_FILE}")
            is_skipped = place.pts not in wanted and _is_skipped(coded, index)
            # A frame without a file has no bytes.
            if place.size and not is_skipped:
                packet = packet_of(coded)
                # A hidden frame gets no time, so it is never taken for a wanted one.
                if place.shown:
                    packet.pts = place.pts
                packet.is_keyframe = bool(place.key)
                yield packet, place.pts


def _is_skipped(coded: memoryview, index: VideoIndex) -> bool:
    """Whether a packet is a single H.264 slice on which no frame depends.

    The decoder skips such packets as well (`VideoReader`). But to find that out takes the decoder
    as long as to copy the packet twice.
    """
    # In an avcC record, the low bits of byte 4 are the bytes of a length, minus one.
    header = index.extradata
    if index.stream.codec != "h264" or len(header) < 5 or header[0] != 1:
        return False
    length_size = (header[4] & 3) + 1
    # A header byte of 1 has nal_ref_idc 0 and type 1, a slice that is not IDR.
    return (
        length_size < len(coded)
        and coded[length_size] == 1
        and length_size + int.from_bytes(coded[:length_size], "big") == len(coded)
    )


def _split_for_reading(places: list[Place]) -> list[list[Place]]:
    """Split packets into stretches of the file, each of which is read at once."""
    stretches: list[list[Place]] = []
    # The last stretch is [start, stop) in bytes of the file.
    start = stop = 0
    for place in places:
        is_near = stop <= place.offset <= stop + MAX_GAP_BYTES
        stop = place.offset + place.size
        if stretches and is_near and stop - start <= MAX_READ_BYTES:
            stretches[-1].append(place)
        else:
            stretches.append([place])
            start = place.offset
    return stretches
