"""Read the packets of a video from a key frame on, by their offsets in the file.

No container is opened and no header is read. The scan has read each packet at its offset, and it
was equal to the demuxer's.
"""

import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import av

from epic100.base.disk import WatchedFile
from epic100.video.ffmpeg import packet_of
from epic100.video.frames import FrameFolder
from epic100.video.index import ANOTHER_FILE, FrameError, VideoIndex
from epic100.video.kept import SharedCaches
from epic100.video.nal import length_size_of

# To read this number of bytes between two packets, e.g. audio, is faster than a second read.
MAX_GAP_BYTES = 64 << 10
# The maximum number of bytes of one read, unless a single packet is larger.
MAX_READ_BYTES = 4 << 20
# A `Place` has these columns of the table of packets (`packet_table`).
_PLACE = ["offset", "size", "pts", "crc", "key", "shown"]

Place = tuple[int, int, int, int, int, int]
# A packet comes with its presentation time.
Timed = tuple[av.Packet, int]


class DirectPackets:
    """Reads packets by their offsets in the file, from any key frame on, and many at once."""

    def __init__(self, path: Path, index: VideoIndex, caches: SharedCaches):
        """Open a video file, unless it is open already.

        Args:
            path: The video file.
            index: Its frame index.
            caches: The open files that readers of this process share.

        Raises:
            FrameError: The file is not the one that was scanned, or cannot be opened.
        """
        self.path = path
        self._index = index
        self._caches = caches
        # The file is opened now, so that a wrong one is rejected at once.
        self._open_file()

    def from_key(self, key: int, wanted: Collection[int]) -> Iterator[Timed]:
        """Read packets from a key frame up to the last wanted one.

        Unwanted packets on which no frame depends are left out (`_is_skipped`).

        Args:
            key: Number of the key frame.
            wanted: Presentation times of the wanted packets.

        Yields:
            Each packet, and its presentation time.

        Raises:
            FrameError: The file is not the one that was scanned, or cannot be read.
            DiskError: The disk fails.
        """
        file = self._open_file()
        codec, extradata = self._index.stream.codec, self._index.extradata
        length_size = length_size_of(codec, extradata) if codec == "h264" else 0
        for places in _split_for_reading(self._places(key, wanted)):
            start, *_ = places[0]
            last_offset, last_size, *_ = places[-1]
            count = last_offset + last_size - start
            data = memoryview(file.read_at(start, count))
            for offset, size, pts, crc, is_key, shown in places:
                coded = data[offset - start : offset - start + size]
                # The CRC of a key frame tells whether the file was replaced.
                if len(data) < count or (is_key and zlib.crc32(coded) != crc):
                    raise FrameError(f"{self.path}: {ANOTHER_FILE}")
                # A frame without a file has no bytes.
                if not size or (pts not in wanted and _is_skipped(coded, length_size)):
                    continue
                packet = packet_of(coded)
                # A hidden frame gets no time, so it is never taken for a wanted one.
                if shown:
                    packet.pts = pts
                packet.is_keyframe = bool(is_key)
                yield packet, pts

    def _places(self, key: int, wanted: Collection[int]) -> list[Place]:
        """List the packets from a key frame up to the last wanted one; none if that is missing."""
        missing = set(wanted)
        places: list[Place] = []
        stop = 0  # It counts the places up to the last wanted one so far.
        for number in range(key, len(self._index.keys)):
            for place in self._index.group(number)[_PLACE].tolist():
                _, _, pts, _, _, shown = place
                places.append(place)
                if pts in missing and shown:
                    missing.remove(pts)
                    stop = len(places)
                    if not missing:
                        return places
        return places[:stop]

    def _open_file(self) -> WatchedFile | FrameFolder:
        """Open the file if it is not open yet, and check that its size is that of the scan."""
        try:
            file = self._caches.files(str(self.path))
        except OSError as error:
            raise FrameError(f"{self.path}: opening failed: {error}") from error
        # The cache would return the wrong file again, even when the right one is back.
        if file.size != self._index.file_size:
            self._caches.files.cache_clear()
            raise FrameError(f"{self.path}: {ANOTHER_FILE}")
        return file


def _is_skipped(coded: memoryview, length_size: int) -> bool:
    """Whether a packet is a single H.264 slice on which no frame depends.

    The decoder skips such packets as well (`VideoReader`). But to find that out takes the decoder
    as long as to copy the packet twice.

    Args:
        coded: The bytes of the packet.
        length_size: Bytes of the length before each NAL unit; 0 if the codec is not H.264.
    """
    return (
        0 < length_size < len(coded)
        # A header byte of 1 has nal_ref_idc 0 and type 1, a slice that is not IDR.
        and coded[length_size] == 1
        and length_size + int.from_bytes(coded[:length_size], "big") == len(coded)
    )


def _split_for_reading(places: list[Place]) -> list[list[Place]]:
    """Split packets into stretches of the file, each of which is read at once."""
    stretches: list[list[Place]] = []
    start = stop = 0
    for place in places:
        offset, size, *_ = place
        is_near = stop <= offset <= stop + MAX_GAP_BYTES
        if stretches and is_near and offset + size - start <= MAX_READ_BYTES:
            stretches[-1].append(place)
        else:
            stretches.append([place])
            start = offset
        stop = offset + size
    return stretches
