"""The packets of a video from any key frame on: by their places in the file, or by its container.

By their places no container is opened and no header is read. That is only for files whose index
says `direct`: each packet was read at its place during the scan and was equal to the demuxer's.
FFmpeg's demuxer works for every file.
"""

import math
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from epic100.base.disk import WatchedFile
from epic100.base.guarded import FileError
from epic100.base.machine import memory_for
from epic100.video.ffmpeg import demuxed, open_media, packet_of
from epic100.video.index import ANOTHER_FILE, FrameError, VideoIndex
from epic100.video.kept import Kept, prepare
from epic100.video.untimed import has_no_times, timed

# To read so many bytes between two packets, such as sound, takes less time than a second read.
MOST_BETWEEN = 64 << 10
# One read takes at most so many bytes, unless a single packet is larger.
MOST_AT_ONCE = 4 << 20
# A `Place` has these columns of the index.
_PLACE = ["offset", "size", "pts", "shown", "sets"]

Place = tuple[int, int, int, int, int]
# It counts bytes. FFmpeg's own index of ten hours of video takes 52 MB.
OPENING = 2**29

# It is a packet and its time of presentation, which some packets lack.
Timed = tuple[av.Packet, int | None]


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


class ContainerPackets:
    """An open container that gives packets from any key frame on."""

    def __init__(self, path: Path, index: VideoIndex):
        self.path, self._index = path, index
        self._open()

    def _open(self) -> None:
        try:
            file = WatchedFile(self.path)
            if file.size != self._index.file_size:
                raise FrameError(f"{self.path}: {ANOTHER_FILE}")
            # The file may have been replaced by one whose header asks for far more memory.
            with memory_for(OPENING):
                self._container, self._stream = open_media(file, self._index.stream.most_pixels)
        except (FileError, av.error.FFmpegError, OSError) as error:
            raise FrameError(f"{self.path}: {error}") from error
        prepare(self._stream.codec_context)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __del__(self) -> None:
        with suppress(AttributeError):  # It has no container if opening failed.
            self.close()

    @property
    def decoder(self) -> VideoCodecContext:
        """The container's own decoder, with the file's own parameter sets."""
        return self._stream.codec_context

    def from_key(self, key: int, wanted: Collection[int]) -> Iterator[Timed]:
        """Packets from key frame number `key` on, and none before, since those may be damaged.

        Demuxers seek by presentation time (mov) or decode time (ts) and may land on a neighbour. So
        the result is checked: packets before the key frame are skipped. If the seek landed too
        late, an earlier seek is tried.

        Args:
            key: Number of the key frame.
            wanted: Not used: the caller stops when it has what it wants.
        """
        pts, why = int(self._index.key_pts[key]), f"its key frame {key} is not there; scan it again"
        for packets, latest in self._attempts(key):
            for packet, time in packets:
                if time == pts:
                    if zlib.crc32(packet) == self._index.group(key)["crc"][0]:
                        yield packet, time
                        yield from packets
                        return
                    # It may also be the same file, where the seek landed inside the picture.
                    why = ANOTHER_FILE
                if packet.dts is not None and packet.dts > latest:
                    break
        raise FrameError(f"{self.path}: {why}")

    def _attempts(self, key: int) -> Iterator[tuple[Iterator[Timed], float]]:
        """Packets from ever earlier places on, and the latest time of decoding of the key frame.

        The last are those from the start, without a seek, for files whose own index is missing or
        corrupted, and for those whose packets get their times by their number.
        """
        is_untimed = has_no_times(self._container, self._stream)
        # A seek fails if the container has no key frame so early.
        with suppress(av.error.FFmpegError):
            for back in () if is_untimed else (0, *(1 << n for n in range(key.bit_length()))):
                time = int(self._index.key_pts[key - back])
                self._container.seek(time, stream=self._stream)
                yield self._timed(None), int(self._index.group(key)["dts"][0])
        self._container.close()
        self._open()
        times = iter(self._index.packets["pts"].tolist()) if is_untimed else None
        yield self._timed(times), math.inf

    def _timed(self, times: Iterator[int] | None) -> Iterator[Timed]:
        packets = timed(demuxed(self._container, self._stream, self._refuse), times)
        return ((p, p.pts) for p in packets if p.size)

    def _refuse(self, why: str) -> None:
        raise FrameError(f"{self.path}: reading failed: {why}; scan the video")
