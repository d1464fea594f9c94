"""The packets of a video by their places in the file: no container is opened, no header is read.

Only for files whose index says `direct`: each packet was read at its place during the scan and was
equal to the demuxer's.
"""

import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from epic100.base.disk import WatchedFile
from epic100.video.ffmpeg import packet_of
from epic100.video.index import ANOTHER_FILE, FrameError, VideoIndex
from epic100.video.kept import Kept

# To read so many bytes between two packets, such as sound, takes less time than a second read.
MOST_BETWEEN = 64 << 10
# One read takes at most so many bytes, unless a single packet is larger.
MOST_AT_ONCE = 4 << 20
# A `Place` has these columns of the index.
_PLACE = ["offset", "size", "pts", "shown", "sets"]

Place = tuple[int, int, int, int, int]


class DirectPackets:
    """Gives packets from any key frame on, with one read of the file for each decode group."""

    def __init__(self, path: Path, index: VideoIndex, kept: Kept):
        stream = index.stream
        self.path, self._index, self._kept = path, index, kept
        self._length_size = stream.length_size if stream.codec == "h264" else 0
        self._file()

    def close(self) -> None:
        """Do nothing: the owner of the kept files closes the file."""

    @property
    def decoder(self) -> VideoCodecContext:
        """A decoder with the file's own parameter sets."""
        return self._kept.decoders(self._index.stream, self._index.sets[0], True)

    def from_key(self, key: int, wanted: Collection[int]) -> Iterator[tuple[av.Packet, int | None]]:
        """Packets from key frame number `key` to the last one that is wanted, with their times.

        Without unwanted ones that the decoder would skip: handing them over costs as well.

        Args:
            key: Number of the key frame.
            wanted: Presentation times of the wanted packets.

        Raises:
            FrameError: The file is not the one that was scanned, or cannot be read.
            DiskError: The disk fails.
        """
        file, first = self._file(), True
        for run in _runs(self._places(key, wanted)):
            start = run[0][0]
            count = run[-1][0] + run[-1][1] - start
            # The index was checked, so `count` is never more than the file had when it was scanned.
            data = memoryview(file.read_at(start, count))
            if len(data) < count:
                raise FrameError(f"{self.path}: {ANOTHER_FILE}")
            for offset, size, pts, shown, sets in run:
                coded = data[offset - start : offset - start + size]
                if first:
                    if zlib.crc32(coded) != self._index.group(key)["crc"][0]:
                        raise FrameError(f"{self.path}: {ANOTHER_FILE}")
                    first = False
                elif pts not in wanted and _is_skipped(coded, self._length_size):
                    continue
                packet = packet_of(coded)
                # A hidden picture gets no time, so it is never taken for a wanted one.
                if shown:
                    packet.pts = pts
                packet.is_keyframe = sets >= 0
                yield packet, pts

    def _places(self, key: int, wanted: Collection[int]) -> list[Place]:
        """Where the packets are, up to the last wanted one; [] if no wanted one follows."""
        missing = set(wanted)
        places: list[Place] = []
        stop = 0
        for number in range(key, len(self._index.keys)):
            for place in self._index.group(number)[_PLACE].tolist():
                places.append(place)
                if place[2] in missing and place[3]:
                    missing.remove(place[2])
                    stop = len(places)
                    if not missing:
                        return places
        return places[:stop]

    def _file(self) -> WatchedFile:
        """The open file, which has the size that it had when it was scanned."""
        try:
            file = self._kept.files(str(self.path))
        except OSError as error:
            raise FrameError(f"{self.path}: opening failed: {error}") from error
        if file.size != self._index.file_size:
            self._kept.files.cache_clear()
            raise FrameError(f"{self.path}: {ANOTHER_FILE}")
        return file


def _is_skipped(coded: memoryview, length_size: int) -> bool:
    """Whether this is one H.264 slice on which no picture depends (nal_ref_idc 0, type 1).

    The decoder does nothing with it if such pictures are to be skipped, but to find that out takes
    it as long as to copy the packet twice.
    """
    return (
        0 < length_size < len(coded)
        and coded[length_size] == 1
        and length_size + int.from_bytes(coded[:length_size], "big") == len(coded)
    )


def _runs(places: list[Place]) -> Iterator[list[Place]]:
    """Split packets into stretches of the file that are read at once."""
    run: list[Place] = []
    stop = 0
    for place in places:
        offset, size = place[:2]
        is_near = stop <= offset <= stop + MOST_BETWEEN
        if run and not (is_near and offset + size - run[0][0] <= MOST_AT_ONCE):
            yield run
            run = []
        run.append(place)
        stop = offset + size
    if run:
        yield run
