"""Read the packets of a video from a key frame on: by their offsets, or through its container.

To read packets by their offsets in the file, no container is opened and no header is read. This
works only for files whose index says `direct`: each packet was read at its offset during the scan
and was equal to the demuxer's. FFmpeg's demuxer works for every file.
"""

import math
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import av

from epic100.base.disk import WatchedFile
from epic100.base.guarded import FileError
from epic100.base.machine import memory_for
from epic100.video.ffmpeg import demuxed, open_media, packet_of
from epic100.video.index import ANOTHER_FILE, FrameError, VideoIndex
from epic100.video.kept import SharedCaches, prepare
from epic100.video.untimed import has_no_times, timed

# To read this many bytes between two packets, such as audio, takes less time than a second read.
MAX_GAP_BYTES = 64 << 10
# One read takes at most this many bytes, unless a single packet is larger.
MAX_READ_BYTES = 4 << 20
# A `Place` has these columns of the table of packets (`packet_table`).
_PLACE = ["offset", "size", "pts", "crc", "sets", "shown"]

Place = tuple[int, int, int, int, int, int]
# Opening a container may take this many bytes of memory. FFmpeg's own index of ten hours of video
# takes 52 MB.
OPENING = 2**29

# A packet comes with its presentation time, or with None if the container states none.
Timed = tuple[av.Packet, int | None]


class DirectPackets:
    """Reads packets by their offsets in the file, from any key frame on, and many at once."""

    def __init__(self, path: Path, index: VideoIndex, caches: SharedCaches):
        """Open a video file, unless it is open already.

        Args:
            path: The video file.
            index: Its frame index. It says `direct`: the packets can be read by their offsets.
            caches: The open files and decoders that readers of this process share.

        Raises:
            FrameError: The file is not the one that was scanned, or cannot be opened.
        """
        self.path = path
        self._index = index
        self._caches = caches
        # The file is opened now, so that a wrong one is refused at once.
        self._open_file()

    def close(self) -> None:
        """Do nothing: other readers share the open file, and `SharedCaches` closes it."""

    @property
    def decoder(self) -> av.VideoCodecContext:
        """The decoder for this stream, with the parameter sets in the header of the file.

        Size and colours are those that the container states.
        """
        return self._caches.decoders(
            self._index.stream, self._index.sets[0], uses_container_facts=True
        )

    def from_key(self, key: int, wanted: Collection[int]) -> Iterator[Timed]:
        """Read packets from a key frame up to the last wanted one.

        Unwanted packets on which no picture depends are left out (`_is_skipped`).

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
        stream = self._index.stream
        length_size = stream.length_size if stream.codec == "h264" else 0
        for places in _split_for_reading(self._places(key, wanted)):
            start, *_ = places[0]
            last_offset, last_size, *_ = places[-1]
            # The index was checked, so `count` is never more than the file had when it was scanned.
            count = last_offset + last_size - start
            data = memoryview(file.read_at(start, count))
            for offset, size, pts, crc, sets, shown in places:
                coded = data[offset - start : offset - start + size]
                is_key = sets >= 0
                # The CRC of a key frame tells whether the file was replaced.
                if len(data) < count or (is_key and zlib.crc32(coded) != crc):
                    raise FrameError(f"{self.path}: {ANOTHER_FILE}")
                if pts not in wanted and _is_skipped(coded, length_size):
                    continue
                packet = packet_of(coded)
                # A hidden picture gets no time, so it is never taken for a wanted one.
                if shown:
                    packet.pts = pts
                packet.is_keyframe = is_key
                yield packet, pts

    def _places(self, key: int, wanted: Collection[int]) -> list[Place]:
        """List the packets from a key frame up to the last wanted one; none if that is missing."""
        missing = set(wanted)
        places: list[Place] = []
        stop = 0  # It counts the places up to the last wanted one so far.
        for number in range(key, len(self._index.keys)):
            for offset, size, pts, crc, sets, shown in self._index.group(number)[_PLACE].tolist():
                places.append((offset, size, pts, crc, sets, shown))
                if pts in missing and shown:
                    missing.remove(pts)
                    stop = len(places)
                    if not missing:
                        return places
        return places[:stop]

    def _open_file(self) -> WatchedFile:
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
    """Whether a packet is a single H.264 slice on which no picture depends.

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


class ContainerPackets:
    """Reads packets through FFmpeg's demuxer, from any key frame on."""

    def __init__(self, path: Path, index: VideoIndex):
        """Open a video file.

        Args:
            path: The video file.
            index: Its frame index.

        Raises:
            FrameError: The file is not the one that was scanned, or cannot be opened.
        """
        self.path = path
        self._index = index
        self._open()

    def _open(self) -> None:
        """Open the container, and set up its decoder; the constructor says what it raises."""
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
        """Close the file when nobody uses the reader any more."""
        with suppress(AttributeError):  # There is no container if opening failed.
            self.close()

    @property
    def decoder(self) -> av.VideoCodecContext:
        """The decoder that FFmpeg made for the container, with the parameter sets in its header."""
        return self._stream.codec_context

    def from_key(self, key: int, wanted: Collection[int]) -> Iterator[Timed]:
        """Read packets from a key frame on.

        Demuxers seek by presentation time (mov) or decoding time (ts), and may land elsewhere. So
        packets before the key frame are skipped, and if the seek landed after it, a seek to an
        earlier key frame is tried.

        Args:
            key: Number of the key frame.
            wanted: Not used: the caller stops when it has all packets that it wants.

        Yields:
            Each packet, and its presentation time.

        Raises:
            FrameError: No seek finds the key frame, or reading fails.
        """
        key_pts = int(self._index.key_pts[key])
        why = f"its key frame {key} is not there; scan it again"
        for packets, latest_dts in self._attempts(key):
            for packet, time in packets:
                if time == key_pts:
                    if zlib.crc32(packet) == self._index.group(key)["crc"][0]:
                        yield packet, time
                        yield from packets
                        return
                    # In the same file, the seek may have landed inside the picture. Then the bytes
                    # differ as well, and an earlier seek gives the whole picture.
                    why = ANOTHER_FILE
                # Packets come in decoding order, so the seek has landed after the key frame.
                if packet.dts is not None and packet.dts > latest_dts:
                    break
        raise FrameError(f"{self.path}: {why}")

    def _attempts(self, key: int) -> Iterator[tuple[Iterator[Timed], float]]:
        """Seek to a key frame, then to ever earlier ones, and at last go to the start of the file.

        The last attempt needs no seek. It is for files whose seek table is missing or corrupted,
        and for those whose packets get their times by their number.

        Yields:
            The packets from the position on, and a decoding time. If a packet has a later one, the
            seek has landed after the key frame.
        """
        is_untimed = has_no_times(self._container, self._stream)
        # The steps back from the key frame double: 0, 1, 2, 4, ... key frames.
        steps_back = () if is_untimed else (0, *(1 << n for n in range(key.bit_length())))
        # A seek fails if the container has no key frame so early.
        with suppress(av.error.FFmpegError):
            for back in steps_back:
                time = int(self._index.key_pts[key - back])
                self._container.seek(time, stream=self._stream)
                yield self._timed_packets(None), int(self._index.group(key)["dts"][0])
        self._container.close()
        self._open()
        times = iter(self._index.packets["pts"].tolist()) if is_untimed else None
        yield self._timed_packets(times), math.inf

    def _timed_packets(self, times: Iterator[int] | None) -> Iterator[Timed]:
        """Read packets from the current position on, each with its presentation time.

        Args:
            times: The presentation time of each packet; None: the container states them.
        """
        packets = timed(demuxed(self._container, self._stream, self._raise_frame_error), times)
        # `timed` has put the time of each packet into its pts. The empty packet that the demuxer
        # gives at the end, to flush a decoder, is left out.
        return ((packet, packet.pts) for packet in packets if packet.size)

    def _raise_frame_error(self, why: str) -> None:
        """Raise FrameError; `demuxed` calls this at the first error of the container."""
        raise FrameError(f"{self.path}: reading failed: {why}; scan the video")
