"""Exact frames of an untrimmed video: seek to the key frame before, decode, stop.

The frames are bit for bit those of a full sequential decode. MMAction2's `DecordInit` reads the
whole file into memory for every clip; docs/performance.md compares the cost.
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

from epic100.base.errors import EpicError
from epic100.video.ffmpeg import MAX_PIXELS, limit_pixels, picture_stream
from epic100.video.index import VideoIndex, build_index
from epic100.video.packet_table import PacketTable
from epic100.video.watched_file import WatchedFile
from epic100.video.window import PictureConverter, Window

_ANOTHER = "is not the file that was scanned; scan it again"

_NO_SKIPPING = ("libdav1d", "libaom", "av1")  # these fix what they skip when they open


class FrameError(EpicError):
    """A requested frame cannot be read."""


class VideoReader:
    """An open video; returns frames by their number in the file.

    Args:
        path: The video file.
        index: The index that `scan` wrote. Without one, all packets of the file are read once.
        watched: Report a failing disk as DiskError, never as a missing frame.
        max_pixels: Refuse larger pictures, if there is no index.

    Attributes:
        size: (height, width) as coded; a rotation in the container is not applied.
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
        self.fps = self.index.fps  # measured over all frames, so computed once
        self._open()
        self._refuse_another(self.index.table)
        # A scan has already applied the config's own limit.
        if index is None and (fault := limit_pixels(self._stream, max_pixels)):
            raise FrameError(f"{self.path}: {fault}")
        self.size = self._stream.codec_context.height, self._stream.codec_context.width
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

    def get_frames(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        window: Window | None = None,
    ) -> np.ndarray:
        """Read frames as uint8 RGB [len(indices), height, width, 3], in the order of `indices`.

        Args:
            indices: Zero-based frames of the file; repeats are allowed.
            size: (height, width) to scale to during the RGB conversion (swscale's bilinear filter,
                which averages when it shrinks). Cheaper than scaling afterwards. None: not scaled.
            window: The part of each picture that is kept and scaled; None keeps all.

        Raises:
            FrameError: A frame is outside the file or does not decode. Names file and frame.
        """
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if len(wanted) == 0 or wanted[0] < 0 or wanted[-1] >= self.index.frames:
            raise FrameError(
                f"{self.path}: frames {list(indices)[:3]}... asked of a file of "
                f"{self.index.frames} frames; scan the video again if it was replaced"
            )
        pts = self.index.pts[wanted]
        # The last key frame that is not shown after the picture. The leading pictures of an open
        # GOP are decoded from the key frame before.
        keys = np.maximum(np.searchsorted(self.index.key_pts, pts, side="right") - 1, 0)
        kept = self.size if window is None else (window.height, window.width)
        pictures = np.empty((len(wanted), *(size or kept), 3), np.uint8)
        self._converter = PictureConverter(window)
        rows = {time: row for row, time in enumerate(pts.tolist())}
        for key in np.unique(keys).tolist():
            group = set(pts[keys == key].tolist())
            # Some files mark pictures as key frames from which decoding recovers only gradually
            # (intra refresh). Frames that did not come out are decoded from further back.
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
        spoilt = False  # whether a picture shown before the key frame is corrupted

        def kept(frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
            return [f for f in frames if not spoilt or (f.pts is not None and f.pts >= begins)]

        try:
            packets = self._packets_from(key)
            first = next(packets)  # may reopen the file, which replaces its decoder
            decoder = self._decoder(key)
            decoder.flush_buffers()
            skips = decoder.name not in _NO_SKIPPING
            for packet in itertools.chain([first], packets):
                # The decoder skips unwanted pictures that are not reference pictures.
                if skips:
                    decoder.skip_frame = "NONREF" if packet.pts not in wanted else "DEFAULT"
                wanted.discard(packet.pts)
                try:
                    frames = decoder.decode(packet)
                except av.error.InvalidDataError:
                    # No picture shown after the key frame refers to one shown before it.
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

        A decoder used elsewhere in the file keeps the sets of that place and gives wrong pictures.
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
        """Packets from key frame number `key` on, and none before, since those may be damaged.

        Demuxers seek by presentation time (mov) or decode time (ts) and may land on a neighbour. So
        the result is checked: packets before the key frame are skipped. If the seek landed too
        late, an earlier seek is tried.
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
        """The same without a seek, for files whose own index is missing or corrupted."""
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
        """Convert wanted frames into their rows of `pictures` and remove them from `rows`."""
        for frame in frames:
            if frame.pts not in rows or frame.is_corrupt:
                continue
            if (frame.height, frame.width) != self.size:
                raise FrameError(
                    f"{self.path}: the picture changes its size at frame "
                    f"{np.searchsorted(self.index.pts, frame.pts)}; scan the video"
                )
            self._converter.write(frame, pictures[rows.pop(frame.pts)])


def _prepare(decoder: VideoCodecContext) -> None:
    # One core per clip: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    decoder.flags |= Flags.unaligned  # without it, a crop from the left is rounded


class FrameReader(Protocol):
    """What `ReaderCache` holds: a `VideoReader`, or a wrapper of another library's reader."""

    @property
    def fps(self) -> float:
        """Frames per second."""

    @property
    def frames(self) -> int:
        """Number of frames of the file."""

    def get_frames(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        window: Window | None = None,
    ) -> np.ndarray:
        """See `VideoReader.get_frames`."""

    def close(self) -> None:
        """Close the file."""


class ReaderCache:
    """Keeps the last readers of a process open: opening takes 10-15 ms, a clip about 70 ms."""

    def __init__(self, size: int = 8, open_reader: Callable[[str], FrameReader] = VideoReader):
        self.size = size
        self._open = open_reader
        self._readers: OrderedDict[str, FrameReader] = OrderedDict()

    def get(self, path: str) -> FrameReader:
        """The reader of `path`, opened if needed. The least recently used reader is closed."""
        if path in self._readers:
            self._readers.move_to_end(path)
        else:
            while len(self._readers) >= self.size:
                self._readers.popitem(last=False)[1].close()
            self._readers[path] = self._open(path)
        return self._readers[path]
