"""Exact frames of an untrimmed video: seek once to the key frame before, decode, stop.

The frames are bit for bit those of a full sequential decode. What that costs beside MMAction2's
`DecordInit`, which reads the whole file into memory for every clip: docs/performance.md.
"""

import itertools
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from epic100.base.errors import EpicError
from epic100.video.ffmpeg import MAX_PIXELS, limit_pixels, picture_stream
from epic100.video.index import VideoIndex, build_index
from epic100.video.packet_table import PacketTable
from epic100.video.watched_file import WatchedFile

_ANOTHER = "is not the file that was scanned; scan it again"

_NO_SKIPPING = ("libdav1d", "libaom", "av1")  # what they are to skip is settled when they open


class FrameError(EpicError):
    """A wanted frame did not come out of the decoder."""


class VideoReader:
    """An open video that hands out frames by their number in the file.

    `size` is (height, width) of the pictures as coded: a rotation in the container is not applied.
    `index` is the table that `scan` wrote; without one the file's packets are read once. `watched`:
    a disk that fails is a DiskError, never a frame that cannot be had.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        index: VideoIndex | None = None,
        watched: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        self.path, self._watched = Path(path), watched
        self.index = index or build_index(path)
        self.fps = self.index.fps  # measured over all frames: not to be done anew for each clip
        self._open()
        self._refuse_another(self.index.table)
        # A scan has refused what is too large by the config's own limit.
        if index is None and (fault := limit_pixels(self._stream, max_pixels)):
            raise FrameError(f"{self.path}: {fault}")
        self.size = self._stream.codec_context.height, self._stream.codec_context.width
        # Kept: a new one for each frame would build its tables anew, and start threads.
        self._reformatter = VideoReformatter()
        self._decoders: dict[int, VideoCodecContext] = {}

    def _open(self) -> None:
        try:
            source = WatchedFile(self.path) if self._watched else str(self.path)
            self._container = av.open(source, "r")
        except (av.error.FFmpegError, OSError) as error:
            raise FrameError(f"{self.path}: cannot be opened as video: {error}") from error
        stream = picture_stream(self._container)
        if stream is None:
            raise FrameError(f"{self.path}: no video stream in this file")
        self._stream = stream
        _prepare(self._stream.codec_context)

    @property
    def frames(self) -> int:
        """Number of frames of the file."""
        return self.index.frames

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def get_frames(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> np.ndarray:
        """Frames as uint8 RGB [len(indices), height, width, 3], in the order asked, repeats too.

        `indices` are zero-based frames of the file. `size` (height, width): scale on the way to RGB
        (swscale's bilinear filter, which averages when it shrinks), cheaper than afterwards.
        Raises FrameError (file, frame) where one lies outside the file or does not decode.
        """
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if len(wanted) == 0 or wanted[0] < 0 or wanted[-1] >= self.index.frames:
            raise FrameError(
                f"{self.path}: frames {list(indices)[:3]}... asked of a file of "
                f"{self.index.frames} frames; scan the video again if it was replaced"
            )
        pts = self.index.pts[wanted]
        # The last key frame that is not shown after the picture: pictures that lead an open GOP
        # are decoded from the key frame before.
        keys = np.maximum(np.searchsorted(self.index.key_pts, pts, side="right") - 1, 0)
        pictures = np.empty((len(wanted), *(size or self.size), 3), np.uint8)
        rows = {time: row for row, time in enumerate(pts.tolist())}
        for key in np.unique(keys).tolist():
            group = set(pts[keys == key].tolist())
            # Some files mark pictures as key frames from which decoding only recovers by and by
            # (intra refresh); what did not come out is decoded from further back.
            for earlier in dict.fromkeys((key, key - 1, key - 2, 0)):
                if earlier >= 0 and not group.isdisjoint(rows):
                    self._decode_group(earlier, group & rows.keys(), rows, pictures)
        if rows:
            missing = wanted[min(rows.values())]
            raise FrameError(
                f"{self.path}: frame {missing} does not decode ({len(rows)} of "
                f"{len(wanted)} wanted); scan the video and use the clean list"
            )
        in_order = len(places) == len(wanted) and (np.diff(places) > 0).all()
        return pictures if in_order else pictures[places]

    def _decode_group(
        self, key: int, wanted: set[int], rows: dict[int, int], pictures: np.ndarray
    ) -> None:
        """Decode from key frame number `key` until every wanted pts was fed, then drain."""
        begins = int(self.index.key_pts[key])
        spoilt = False  # one of the pictures that are shown before the key frame

        def kept(frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
            return [f for f in frames if not spoilt or (f.pts is not None and f.pts >= begins)]

        try:
            packets = self._packets_from(key)
            first = next(packets)  # by now the file may be open anew, and its decoder another
            decoder = self._decoder(key)
            decoder.flush_buffers()
            skips = decoder.name not in _NO_SKIPPING
            for packet in itertools.chain([first], packets):
                # The decoder passes over pictures that nobody wants and no other is built on.
                if skips:
                    decoder.skip_frame = "NONREF" if packet.pts not in wanted else "DEFAULT"
                wanted.discard(packet.pts)
                try:
                    frames = decoder.decode(packet)
                except av.error.InvalidDataError:
                    # Nothing behind a key frame is built on what is shown before it.
                    if packet.pts is None or packet.pts >= begins:
                        raise
                    spoilt = True
                    continue
                self._keep(kept(frames), rows, pictures)
                if not wanted:
                    break
            last = decoder.decode(None)
            self._keep(kept(last), rows, pictures)
        except av.error.FFmpegError as error:
            raise FrameError(f"{self.path}: decoding failed: {error}; scan the video") from error

    def _decoder(self, key: int) -> VideoCodecContext:
        """A decoder with the parameter sets that are in force at key frame number `key`.

        One that was used elsewhere in the file keeps those of that place, and gives other pictures.
        """
        table = self.index.table
        if table is None or (table.key_sets == table.key_sets[0]).all():
            return self._stream.codec_context
        number = int(table.key_sets[key])
        if number not in self._decoders:
            decoder = cast(VideoCodecContext, av.CodecContext.create(table.stream.codec, "r"))
            decoder.extradata = table.sets[number]
            _prepare(decoder)
            self._decoders[number] = decoder
        return self._decoders[number]

    def _refuse_another(self, table: PacketTable | None) -> None:
        if table is not None and self.path.stat().st_size != table.file_size:
            raise FrameError(f"{self.path}: {_ANOTHER}")

    def _packets_from(self, key: int) -> Iterator[av.Packet]:
        """Packets from key frame number `key` on, and none before: those may be damaged.

        Demuxers seek by presentation time (mov) or decode time (ts) and may land on a neighbour,
        so the landing is checked: too early is skipped over, too late is tried again further back.
        """
        pts, dts = int(self.index.key_pts[key]), int(self.index.key_dts[key])
        for earlier in range(key, -1, -1):
            try:
                self._container.seek(int(self.index.key_pts[earlier]), stream=self._stream)
            except av.error.FFmpegError:
                break  # the container has no key frame so early
            packets = (p for p in self._container.demux(self._stream) if p.size)
            for packet in packets:
                if packet.pts == pts:
                    table = self.index.table
                    if table is not None and zlib.crc32(packet) != table.key_crc[key]:
                        raise FrameError(f"{self.path}: {_ANOTHER}")
                    yield packet
                    yield from packets
                    return
                if packet.dts is not None and packet.dts > dts:
                    break
        yield from self._packets_from_the_start(key)

    def _packets_from_the_start(self, key: int) -> Iterator[av.Packet]:
        """The same where no seek gets there: in a file without an index, or with a spoilt one."""
        self._container.close()
        self._open()
        pts = int(self.index.key_pts[key])
        packets = (p for p in self._container.demux(self._stream) if p.size)
        for packet in packets:
            if packet.pts == pts:
                yield packet
                yield from packets
                return
        raise FrameError(f"{self.path}: its key frame {key} is not there; scan it again")

    def _keep(
        self, frames: Iterable[av.VideoFrame], rows: dict[int, int], pictures: np.ndarray
    ) -> None:
        """Convert wanted frames into their rows of `pictures`, and take them off `rows`."""
        height, width = pictures.shape[1:3]
        for frame in frames:
            if frame.pts not in rows or frame.is_corrupt:
                continue
            if (frame.height, frame.width) != self.size:
                raise FrameError(
                    f"{self.path}: the picture changes its size at frame "
                    f"{np.searchsorted(self.index.pts, frame.pts)}; scan the video"
                )
            rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
            plane = memoryview(rgb.planes[0])
            lines = np.frombuffer(plane, np.uint8).reshape(height, -1)  # padded at the end
            pictures[rows.pop(frame.pts)] = lines[:, : 3 * width].reshape(height, width, 3)


def _prepare(decoder: VideoCodecContext) -> None:
    # One clip wants one core: workers run side by side, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags |= Flags.unaligned  # or a crop from the left is rounded


def scaled_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter one at `short_side`, rounded as `mmcv.rescale_size` does."""
    factor = short_side / min(size)
    height, width = (int(side * factor + 0.5) for side in size)
    return height, width


class FrameReader(Protocol):
    """What `ReaderCache` holds: a `VideoReader`, or another library's reader with its methods."""

    @property
    def fps(self) -> float:
        """Frames a second."""

    @property
    def frames(self) -> int:
        """Number of frames of the file."""

    def get_frames(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> np.ndarray:
        """As `VideoReader.get_frames`."""

    def close(self) -> None:
        """Close the file."""


class ReaderCache:
    """The last few readers of a process, kept open: opening costs 10-15 ms, a clip about 70."""

    def __init__(self, size: int = 8, open_reader: Callable[[str], FrameReader] = VideoReader):
        self.size = size
        self._open = open_reader
        self._readers: OrderedDict[str, FrameReader] = OrderedDict()

    def get(self, path: str) -> FrameReader:
        """The reader of `path`, opened if need be; the one used longest ago is closed."""
        if path in self._readers:
            self._readers.move_to_end(path)
        else:
            while len(self._readers) >= self.size:
                self._readers.popitem(last=False)[1].close()
            self._readers[path] = self._open(path)
        return self._readers[path]
