"""Exact frames of an untrimmed video: seek once to the key frame before, decode, stop.

The frames are bit for bit those of a full sequential decode. Compared in DESIGN terms with
MMAction2's `DecordInit`, which reads the whole file into memory for every clip.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np

from epic100.errors import EpicError
from epic100.video_index import VideoIndex, build_index, picture_stream


class FrameError(EpicError):
    """A wanted frame did not come out of the decoder."""


class VideoReader:
    """An open video that hands out frames by their number in the file.

    `index` is the table that `scan` wrote; without one the file's packets are read once.
    """

    def __init__(self, path: str | os.PathLike, index: VideoIndex | None = None):
        self.path = Path(path)
        self.index = index or build_index(path)
        try:
            self._container = av.open(str(self.path))
        except (av.error.FFmpegError, OSError) as error:
            raise FrameError(f"{self.path}: cannot be opened as video: {error}") from error
        self._stream = picture_stream(self._container)
        # One clip wants one core: workers run side by side, and threads would only add latency.
        self._stream.thread_type = "NONE"
        self._stream.codec_context.thread_count = 1

    @property
    def fps(self) -> float:
        """Frames a second as measured."""
        return self.index.fps

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def get_frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames as uint8 RGB [len(indices), height, width, 3], in the order asked, repeats too.

        `indices` are zero-based frames of the file. Raises FrameError (file, frame) where one
        lies outside the file or does not decode.
        """
        wanted = np.unique(np.asarray(indices, dtype=np.int64))
        if len(wanted) == 0 or wanted[0] < 0 or wanted[-1] >= self.index.frames:
            raise FrameError(
                f"{self.path}: frames {list(indices)[:3]}... asked of a file of "
                f"{self.index.frames} frames; scan the video again if it was replaced"
            )
        pts = self.index.pts[wanted]
        # The last key frame that is not shown after the picture: pictures that lead an open GOP
        # are decoded from the key frame before.
        keys = np.maximum(np.searchsorted(self.index.key_pts, pts, side="right") - 1, 0)
        pictures: dict[int, np.ndarray] = {}
        for key in np.unique(keys):
            self._decode_group(int(key), set(pts[keys == key].tolist()), pictures)
        missing = [int(i) for i, p in zip(wanted, pts.tolist(), strict=True) if p not in pictures]
        if missing:
            raise FrameError(
                f"{self.path}: frame {missing[0]} does not decode ({len(missing)} of "
                f"{len(wanted)} wanted); scan the video and use the clean list"
            )
        return np.stack([pictures[int(self.index.pts[i])] for i in indices])

    def _decode_group(self, key: int, wanted: set[int], pictures: dict[int, np.ndarray]) -> None:
        """Decode from key frame number `key` until every wanted pts was fed, then drain."""
        to_feed = set(wanted)
        try:
            for packet in self._packets_from(key):
                if packet.pts not in to_feed and packet.is_disposable:
                    continue  # nothing refers to it and nobody wants it
                to_feed.discard(packet.pts)
                self._keep(packet.decode(), wanted, pictures)
                if not to_feed:
                    break
            self._keep(self._stream.codec_context.decode(None), wanted, pictures)
        except av.error.FFmpegError as error:
            raise FrameError(f"{self.path}: decoding failed: {error}; scan the video") from error

    def _packets_from(self, key: int):
        """Packets from key frame number `key` on, and none before: those may be damaged.

        Demuxers seek by presentation time (mov) or decode time (ts) and may land on a neighbour,
        so the landing is checked: too early is skipped over, too late is tried again further back.
        """
        pts, dts = int(self.index.key_pts[key]), int(self.index.key_dts[key])
        for earlier in range(key, -1, -1):
            self._container.seek(int(self.index.key_pts[earlier]), stream=self._stream)
            packets = (p for p in self._container.demux(self._stream) if p.size)
            for packet in packets:
                if packet.pts == pts:
                    yield packet
                    yield from packets
                    return
                if packet.dts is not None and packet.dts > dts:
                    break
        raise FrameError(f"{self.path}: cannot seek to its key frame {key}")

    @staticmethod
    def _keep(frames, wanted: set[int], pictures: dict[int, np.ndarray]) -> None:
        for frame in frames:
            if frame.pts in wanted and not frame.is_corrupt:
                pictures[frame.pts] = frame.to_ndarray(format="rgb24")


class ReaderCache:
    """The last few readers of a process, kept open: opening costs 10-15 ms, a clip about 70."""

    def __init__(self, size: int = 8, open_reader: Callable[[str], VideoReader] = VideoReader):
        self.size = size
        self._open = open_reader
        self._readers: OrderedDict[str, VideoReader] = OrderedDict()

    def get(self, path: str) -> VideoReader:
        """The reader of `path`, opened if need be; the one used longest ago is closed."""
        if path in self._readers:
            self._readers.move_to_end(path)
        else:
            while len(self._readers) >= self.size:
                self._readers.popitem(last=False)[1].close()
            self._readers[path] = self._open(path)
        return self._readers[path]
