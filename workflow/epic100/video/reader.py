"""Read exact frames of an untrimmed video: seek to the key frame before, decode, stop.

The frames are bit for bit as a full sequential decode gives them. Packets are read by their offsets
in the file (`packets`). MMAction2's `DecordInit` reads the complete file into memory for every
clip; docs/evidence/reading.md compares the cost.

Opening a file costs a round trip to the disk, and a new converter computes tables. A training draws
clips from hundreds of files at random, so without caches nearly each clip would need both.
"""

import os
import resource
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import av
import numpy as np

from epic100.base.disk import WatchedFile
from epic100.video.build_index import build_index
from epic100.video.ffmpeg import decoder_limit
from epic100.video.index import ANOTHER_FILE, COLOURS, StreamFacts, VideoIndex
from epic100.video.index import FrameError as FrameError  # Every reader raises it.
from epic100.video.packets import FrameFolder, Timed, open_video, read_packets
from epic100.video.window import FrameConverter, Window

# These decoders can be told packet by packet what to skip. Packets of other codecs may hold several
# frames (packed MPEG-4, superframes of VP9), or the choice is fixed at the start (AV1).
_SKIPPING = ("h264", "hevc", "mpeg1video", "mpeg2video")
# EPIC-KITCHENS-100 has 495 training videos, with few different streams.
MAX_FILES = 512
# A converter takes 140 kB. Training draws one of 47 sizes for each clip.
MAX_CONVERTERS = 64


class SharedCaches:
    """Caches of open files and converters for the video readers of one process.

    Each attribute is a function with a cache (`functools.lru_cache`).

    Attributes:
        files: Opens a file by its path. Forked processes may share the descriptors, since a read at
            an offset moves no position. A file that leaves the cache is closed.
        converters: Makes a converter of frames by the stream, the size of the windows and the
            size that they are scaled to. Streams with equal keys describe their colours alike.
    """

    def __init__(self) -> None:
        """Make empty caches."""
        # Half of the files that the system lets a process open stay for others.
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_unlimited = soft_limit == resource.RLIM_INFINITY
        max_files = MAX_FILES if is_unlimited else max(1, min(MAX_FILES, soft_limit // 2))
        self.files = lru_cache(max_files)(open_video)
        # All converters are made alike, and only the cache needs the key.
        self.converters = lru_cache(MAX_CONVERTERS)(lambda *key: FrameConverter())


class VideoReader:
    """Reads frames of one video by their number in the file.

    Attributes:
        path: The video file.
        index: The frame index of the file.
        fps: Frames per second; 0 if unknown.
        size: (height, width) as players show the frames, after quarter turns.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        index: VideoIndex | None = None,
        caches: SharedCaches | None = None,
    ):
        """Open a video file.

        Args:
            path: The video file.
            index: The index that `scan` wrote. Without one, all packets of the file are read once.
            caches: The caches that readers of this process share. Without them, the reader has its
                own caches.

        Raises:
            FrameError: The file cannot be read, or is not the one that was scanned.
        """
        self.path = Path(path)
        self.index: VideoIndex = index or build_index(path)
        self.fps = self.index.fps
        self._caches = caches or SharedCaches()
        self._owns_caches = caches is None
        height, width = self.index.stream.height, self.index.stream.width
        # An odd number of quarter turns exchanges height and width.
        self.size = (width, height) if self.index.stream.turns % 2 else (height, width)
        # The file is opened now, so that a wrong one is rejected at once.
        self._open()

    @property
    def frames(self) -> int:
        """Number of frames of the file."""
        return self.index.frames

    def close(self) -> None:
        """Close what is this reader's own; open files that other readers share stay open."""
        if self._owns_caches:
            self._caches.files.cache_clear()

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
                which averages when it shrinks). This is faster than to scale afterwards. None: the
                frames are not scaled.
            window: The part of each frame that is read and scaled; None: the complete frame.

        Raises:
            FrameError: A frame is outside the file or does not decode; the message names file and
                frame.
        """
        frames, row_of_index = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if len(frames) == 0 or frames[0] < 0 or frames[-1] >= self.index.frames:
            raise FrameError(
                f"{self.path}: frames {list(indices)[:3]}... asked of a file of "
                f"{self.index.frames} frames; scan the video again if it was replaced"
            )
        # The frames that are not decoded yet, by their times. Each has its part of `rgb`.
        window_size = self.size if window is None else (window.height, window.width)
        rgb = np.empty((len(frames), *(size or window_size), 3), np.uint8)
        pts = self.index.pts_of(frames)
        missing = dict(zip(pts.tolist(), rgb, strict=True))
        if len(missing) < len(frames):
            # A scan marks such frames as damaged.
            first = frames[:-1][np.diff(pts) == 0][0]
            raise FrameError(
                f"{self.path}: frames {first} and {first + 1} have the same time; scan the video "
                "and use the clean list"
            )
        # Streams with the same value describe their frames alike, so they share converters.
        frame_format = (self.index.stream, self.index.extradata)
        converter = self._caches.converters(frame_format, window_size, size)
        try:
            self._fill(missing, frames, converter, window)
        # An OSError comes from the file: a disk that fails raises DiskError.
        except (av.error.FFmpegError, OSError) as error:
            raise FrameError(f"{self.path}: decoding failed: {error}; scan the video") from error
        if missing:
            first = frames[np.isin(pts, list(missing))][0]
            raise FrameError(
                f"{self.path}: frame {first} does not decode ({len(missing)} of {len(frames)} "
                "wanted); scan the video and use the clean list"
            )
        # Most calls ask for ascending frames, which need no copy.
        is_ascending = len(row_of_index) == len(frames) and (np.diff(row_of_index) > 0).all()
        return rgb if is_ascending else rgb[row_of_index]

    def _fill(
        self,
        missing: dict[int, np.ndarray],
        frames: np.ndarray,
        converter: FrameConverter,
        window: Window | None,
    ) -> None:
        """Decode frames, and write those that come out.

        Args:
            missing: For the time of each frame, the RGB [height, width, 3] that is written. Frames
                that come out are removed.
            frames: int64 [N], ascending: the numbers of the frames.
            converter: Converts frames to RGB.
            window: The part of each frame.

        Raises:
            FrameError: The file is not the one that was scanned, or a frame has another size.
        """
        index, file = self.index, self._open()
        # Decoding begins at the last key frame before the packet. The leading frames of an open
        # GOP are shown before that key frame, so they are decoded from the key frame before it.
        pts, packet_numbers = index.pts_of(frames), index.packets["frame"][frames]
        keys = np.searchsorted(index.keys, packet_numbers, "right") - 1
        keys = np.maximum(keys - (pts < index.key_pts[keys]), 0)
        decoder = _new_decoder(index.stream, index.extradata)
        for key in np.unique(keys).tolist():
            is_of_key = keys == key
            stop = int(packet_numbers[is_of_key].max()) + 1
            # Some files mark frames as key frames from which decoding recovers only gradually
            # (intra refresh). Frames that do not come out are decoded from an earlier key frame:
            # one or two before, and then the first one of the file.
            for first_key in dict.fromkeys((key, key - 1, key - 2, 0)):
                wanted = missing.keys() & set(pts[is_of_key].tolist())
                if first_key < 0 or not wanted:
                    continue
                start, key_pts = int(index.keys[first_key]), int(index.key_pts[first_key])
                packets = read_packets(self.path, file, index, start, stop, wanted)
                for frame in _decoded(decoder, packets, key_pts, wanted):
                    if frame.pts in missing and not frame.is_corrupt:
                        self._check_size(frame)
                        converter.write(frame, missing.pop(frame.pts), window, index.stream.turns)

    def _check_size(self, frame: av.VideoFrame) -> None:
        """Raise FrameError if a frame has another size than the stream."""
        if (frame.height, frame.width) != (self.index.stream.height, self.index.stream.width):
            # The number of a frame is the count of frames that are shown before it.
            number = np.count_nonzero(self.index.pts < frame.pts)
            raise FrameError(
                f"{self.path}: the frame changes its size at frame {number}; scan the video"
            )

    def _open(self) -> WatchedFile | FrameFolder:
        """Open the file if it is not open yet, and check that it has the size that was scanned."""
        try:
            file = self._caches.files(str(self.path))
        except OSError as error:
            raise FrameError(f"{self.path}: opening failed: {error}") from error
        # The cache would return the wrong file again, even when the right one is back.
        if file.size != self.index.file_size:
            self._caches.files.cache_clear()
            raise FrameError(f"{self.path}: {ANOTHER_FILE}")
        return file


def _decoded(
    decoder: av.VideoCodecContext, packets: Iterable[Timed], key_pts: int, wanted: set[int]
) -> Iterator[av.VideoFrame]:
    """Decode packets from a key frame on, until the decoder has got all wanted ones.

    Args:
        decoder: The decoder.
        packets: The packets, and the presentation time of each.
        key_pts: Presentation time of the key frame.
        wanted: Presentation times of the wanted frames. A time is removed when the decoder gets its
            packet.

    Yields:
        All frames that come out, wanted or not.
    """
    decoder.flush_buffers()
    # The packet of a hidden frame has no `pts`, so its time comes with it.
    for packet, pts in packets:
        # The decoder skips unwanted frames that are not reference frames.
        if decoder.name in _SKIPPING:
            decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        wanted.discard(packet.pts)
        try:
            yield from decoder.decode(packet)
        except av.error.InvalidDataError:
            if pts >= key_pts:
                raise
            # This leading frame, shown before the key frame, is corrupted. Frames shown after the
            # key frame do not refer to it.
        if not wanted:
            break
    # The decoder has got all wanted packets, but holds back some frames.
    yield from decoder.decode(None)


def _new_decoder(stream: StreamFacts, extradata: bytes) -> av.VideoCodecContext:
    """Make a decoder for the frames of one call: one thread, exact crops, and no huge frames.

    Even when it is flushed, a decoder keeps the parameter sets of what it has decoded last. So no
    decoder is kept for another place or file.

    Args:
        stream: The parameters of the stream. A scan or `build_index` has accepted its size.
        extradata: Its parameter sets.
    """
    decoder = cast(av.VideoCodecContext, av.CodecContext.create(stream.codec, "r"))
    if extradata:
        decoder.extradata = extradata
    decoder.width, decoder.height = stream.width, stream.height
    if stream.pix_fmt:
        decoder.pix_fmt = stream.pix_fmt
    for name, value in zip(COLOURS, stream.colours, strict=True):
        setattr(decoder, name, value)
    # Each clip gets one core: workers run in parallel, and threads would only add latency.
    decoder.thread_type, decoder.thread_count = "NONE", 1
    # Without this flag, a crop from the left is rounded.
    decoder.flags |= av.codec.context.Flags.unaligned
    # Frames are lost if a stream of H.264 does not state how far they are out of order. "Strict"
    # assumes the maximum that the level of the stream allows, which does not change the frames.
    decoder.options = decoder_limit(stream.width * stream.height)
    if stream.codec == "h264":
        decoder.options |= {"strict": "strict"}
    return decoder
