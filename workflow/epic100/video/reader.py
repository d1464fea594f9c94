"""Read exact frames of an untrimmed video: seek to the key frame before, decode, stop.

The frames are bit for bit as a full sequential decode gives them. Packets are read by their offsets
in the file (`packets`). MMAction2's `DecordInit` reads the complete file into memory for every
clip; docs/evidence/reading.md compares the cost.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import av
import numpy as np

from epic100.video.index import FrameError as FrameError  # Every reader raises it.
from epic100.video.index import VideoIndex, build_index
from epic100.video.kept import SharedCaches, new_decoder
from epic100.video.packets import DirectPackets
from epic100.video.window import Window

# These decoders can be told packet by packet what to skip. Packets of other codecs may hold several
# frames (packed MPEG-4, superframes of VP9), or the choice is fixed at the start (AV1).
_SKIPPING = ("h264", "hevc", "mpeg1video", "mpeg2video")


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
        # Streams with the same value describe their frames alike, so they share converters.
        self._frame_format = (self.index.stream, self.index.extradata)
        self._packets = DirectPackets(self.path, self.index, self._caches)
        height, width = self.index.stream.height, self.index.stream.width
        self._coded_size = (height, width)
        # An odd number of quarter turns exchanges height and width.
        self.size = (width, height) if self.index.stream.turns % 2 else (height, width)

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
        pts = self.index.pts_of(frames)
        # Decoding begins at the last key frame before the packet. The leading frames of an open
        # GOP are shown before that key frame, so they are decoded from the key frame before it.
        keys = np.searchsorted(self.index.keys, self.index.packets["frame"][frames], "right") - 1
        keys = np.maximum(keys - (pts < self.index.key_pts[keys]), 0)
        window_size = self.size if window is None else (window.height, window.width)
        rgb = np.empty((len(frames), *(size or window_size), 3), np.uint8)
        # `_decode_group` and `_store` use these during this call.
        self._decoder = new_decoder(self.index.stream, self.index.extradata)
        self._window = window
        self._converter = self._caches.converters(self._frame_format, window_size, size)
        # The times of the missing frames are in here. `_store` removes those that it converts.
        row_of_time = {time: row for row, time in enumerate(pts.tolist())}
        for key in np.unique(keys).tolist():
            group_times = set(pts[keys == key].tolist())
            # Some files mark frames as key frames from which decoding recovers only gradually
            # (intra refresh). Frames that do not come out are decoded from an earlier key frame.
            for earlier in dict.fromkeys((key, key - 1, key - 2, 0)):
                missing_times = group_times & row_of_time.keys()
                if earlier >= 0 and missing_times:
                    self._decode_group(earlier, missing_times, row_of_time, rgb)
        if row_of_time:
            raise FrameError(
                f"{self.path}: frame {frames[min(row_of_time.values())]} does not decode "
                f"({len(row_of_time)} of {len(frames)} wanted); scan the video and use the clean "
                "list"
            )
        # Most calls ask for ascending frames, which need no copy.
        is_ascending = len(row_of_index) == len(frames) and (np.diff(row_of_index) > 0).all()
        return rgb if is_ascending else rgb[row_of_index]

    def _decode_group(
        self, key: int, wanted: set[int], row_of_time: dict[int, int], rgb: np.ndarray
    ) -> None:
        """Decode from a key frame on until all wanted frames have come out.

        Args:
            key: Number of the key frame.
            wanted: Presentation times of the wanted frames. A time is removed when the decoder
                gets its packet.
            row_of_time: The row of `rgb` for each time that is missing. A time is removed when its
                frame comes out.
            rgb: The frames [rows, height, width, 3], which are filled.

        Raises:
            FrameError: The packets cannot be read or decoded.
            DiskError: The disk fails.
        """
        key_time = int(self.index.key_pts[key])
        try:
            packets = self._packets.from_key(key, wanted)
            decoder = self._decoder
            decoder.flush_buffers()
            # A hidden frame has a time, and a packet without a pts.
            for packet, time in packets:
                # The decoder skips unwanted frames that are not reference frames.
                if decoder.name in _SKIPPING:
                    decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                wanted.discard(packet.pts)
                try:
                    frames = decoder.decode(packet)
                except av.error.InvalidDataError:
                    if time >= key_time:
                        raise
                    # This leading frame, shown before the key frame, is corrupted. Frames shown
                    # after the key frame do not refer to it.
                    continue
                self._store(frames, row_of_time, rgb)
                if not wanted:
                    break
            # The decoder has got all wanted packets, but holds back some frames.
            self._store(decoder.decode(None), row_of_time, rgb)
        # An OSError comes from the file: a disk that fails raises DiskError.
        except (av.error.FFmpegError, OSError) as error:
            raise FrameError(f"{self.path}: decoding failed: {error}; scan the video") from error

    def _store(
        self,
        frames: Iterable[av.VideoFrame],
        row_of_time: dict[int, int],
        rgb: np.ndarray,
    ) -> None:
        """Convert wanted frames into their rows of `rgb`; remove them from `row_of_time`.

        Corrupted frames are left out.
        """
        for frame in frames:
            if frame.pts not in row_of_time or frame.is_corrupt:
                continue
            if (frame.height, frame.width) != self._coded_size:
                # The number of a frame is the count of frames that are shown before it.
                number = np.count_nonzero(self.index.pts < frame.pts)
                raise FrameError(
                    f"{self.path}: the frame changes its size at frame {number}; scan the video"
                )
            into = rgb[row_of_time.pop(frame.pts)]
            self._converter.write(frame, into, self._window, self.index.stream.turns)
