"""The packets of a video through its container, by FFmpeg's demuxer: works for every file."""

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
from epic100.video.ffmpeg import demuxed, open_media
from epic100.video.index import ANOTHER_FILE, FrameError, VideoIndex
from epic100.video.kept import prepare
from epic100.video.untimed import has_no_times, timed

# It counts bytes. FFmpeg's own index of ten hours of video takes 52 MB.
OPENING = 2**29

# It is a packet and its time of presentation, which some packets lack.
Timed = tuple[av.Packet, int | None]


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
