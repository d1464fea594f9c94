"""Read exact frames of an untrimmed video: seek to the key frame before, decode, stop.

The frames are bit for bit those of a full sequential decode. Packets are read by their places in
the file where the index allows it, else through the container (`packets`). MMAction2's `DecordInit`
reads the whole file into memory for every clip; docs/evidence/archive.md compares the cost.
"""

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from epic100.video.index import FrameError as FrameError  # Every reader raises it.
from epic100.video.index import VideoIndex, build_index
from epic100.video.kept import Kept, new_decoder
from epic100.video.packets import ContainerPackets, DirectPackets
from epic100.video.window import Window

# These decoders can be told packet by packet what to skip. Packets of other codecs may hold several
# pictures (packed MPEG-4, superframes of VP9), or the choice is fixed at the start (AV1).
_SKIPPING = ("h264", "hevc", "mpeg1video", "mpeg2video")


class VideoReader:
    """Reads frames of one video by their number in the file.

    Args:
        path: The video file.
        index: The index that `scan` wrote. Without one, all packets of the file are read once.
        kept: Open files, decoders and converters that readers of this process share. Without it,
            the reader shares nothing.

    Attributes:
        size: (height, width) as shown: a quarter turn that the container notes is applied.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        index: VideoIndex | None = None,
        kept: Kept | None = None,
    ):
        self.path = Path(path)
        self.index: VideoIndex = index or build_index(path)
        self.fps = self.index.fps
        self._kept, self._shares_nothing = kept or Kept(), kept is None
        # Streams with the same value describe their pictures alike, so they share converters.
        self._picture_format = (self.index.stream, *self.index.sets)
        self._packets: ContainerPackets | DirectPackets
        if self.index.direct:
            self._packets = DirectPackets(self.path, self.index, self._kept)
        else:
            self._packets = ContainerPackets(self.path, self.index)
        height, width = self._coded_size = self.index.stream.height, self.index.stream.width
        # An odd number of quarter turns exchanges height and width.
        self.size = (width, height) if self.index.stream.turns % 2 else (height, width)

    @property
    def frames(self) -> int:
        """Number of frames of the file."""
        return self.index.frames

    def close(self) -> None:
        """Close the file, unless it is kept open for other readers."""
        self._packets.close()
        if self._shares_nothing:
            self._kept.files.cache_clear()

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
        frames, row_of_index = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if len(frames) == 0 or frames[0] < 0 or frames[-1] >= self.index.frames:
            raise FrameError(
                f"{self.path}: frames {list(indices)[:3]}... asked of a file of "
                f"{self.index.frames} frames; scan the video again if it was replaced"
            )
        pts = self.index.pts_of(frames)
        # Decoding begins at the last key frame before the packet. The leading pictures of an open
        # GOP are shown before that key frame, so they are decoded from the key frame before it.
        keys = np.searchsorted(self.index.keys, self.index.packets["frame"][frames], "right") - 1
        keys = np.maximum(keys - (pts < self.index.key_pts[keys]), 0)
        window_size = self.size if window is None else (window.height, window.width)
        pictures = np.empty((len(frames), *(size or window_size), 3), np.uint8)
        self._window = window
        self._converter = self._kept.converters(self._picture_format, window_size, size)
        # It holds the times of the frames that are missing. `_decode_group` removes what it reads.
        row_of_time = {time: row for row, time in enumerate(pts.tolist())}
        for key in np.unique(keys).tolist():
            group_times = set(pts[keys == key].tolist())
            # Some files mark pictures as key frames from which decoding recovers only gradually
            # (intra refresh). Frames that did not come out are decoded from further back.
            for earlier in dict.fromkeys((key, key - 1, key - 2, 0)):
                missing_times = group_times & row_of_time.keys()
                if earlier >= 0 and missing_times:
                    self._decode_group(earlier, missing_times, row_of_time, pictures)
        if row_of_time:
            first_missing = frames[min(row_of_time.values())]
            raise FrameError(
                f"{self.path}: frame {first_missing} does not decode ({len(row_of_time)} of "
                f"{len(frames)} wanted); scan the video and use the clean list"
            )
        # Most calls ask for ascending frames, which need no copy.
        is_ascending = len(row_of_index) == len(frames) and (np.diff(row_of_index) > 0).all()
        return pictures if is_ascending else pictures[row_of_index]

    def _decode_group(
        self, key: int, wanted: set[int], row_of_time: dict[int, int], pictures: np.ndarray
    ) -> None:
        """Decode from a key frame on until all wanted pictures have come out.

        Args:
            key: Number of the key frame.
            wanted: Presentation times of the wanted pictures. Those that the decoder got are
                removed.
            row_of_time: The row of `pictures` for each time that is missing. Those that come out
                are removed.
            pictures: The pictures [rows, height, width, 3], which are filled.

        Raises:
            FrameError: The packets cannot be read or decoded.
            DiskError: The disk fails.
        """
        key_time = int(self.index.key_pts[key])
        # It tells whether a leading picture, shown before the key frame, is corrupted.
        leading_is_spoilt = False

        def usable(frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
            """Leave out all leading pictures once one of them was corrupted."""
            return [
                frame
                for frame in frames
                if not leading_is_spoilt or (frame.pts is not None and frame.pts >= key_time)
            ]

        try:
            packets = self._packets.from_key(key, wanted)
            first = next(packets, None)  # It may reopen the file, which replaces its decoder.
            if first is None:
                return
            decoder = self._decoder(key)
            decoder.flush_buffers()
            can_skip, skipping = decoder.name in _SKIPPING, None
            for packet, time in itertools.chain([first], packets):
                # The decoder skips unwanted pictures that are not reference pictures. It is told
                # so only where this changes.
                if can_skip and skipping != (packet.pts not in wanted):
                    skipping = packet.pts not in wanted
                    decoder.skip_frame = "NONREF" if skipping else "DEFAULT"
                wanted.discard(packet.pts)
                try:
                    frames = decoder.decode(packet)
                except av.error.InvalidDataError:
                    # No picture shown after the key frame refers to one shown before it.
                    if time is None or time >= key_time:
                        raise
                    leading_is_spoilt = True
                    continue
                self._store(usable(frames), row_of_time, pictures)
                if not wanted:
                    break
            # The decoder has got all wanted packets, but holds back some pictures.
            self._store(usable(decoder.decode(None)), row_of_time, pictures)
        # An OSError comes from the file: a disk that fails raises DiskError.
        except (av.error.FFmpegError, OSError) as error:
            raise FrameError(f"{self.path}: decoding failed: {error}; scan the video") from error

    def _decoder(self, key: int) -> VideoCodecContext:
        """The decoder for the pictures from key frame number `key` on.

        Where parameter sets change, it is a new one: a decoder keeps the sets of the place in the
        file where it was used last, also when it is flushed.
        """
        if not self.index.changes_sets:
            return self._packets.decoder
        sets = self.index.sets[self.index.group(key)["sets"][0]]
        return new_decoder(self.index.stream, sets, False)

    def _store(
        self, frames: Iterable[av.VideoFrame], row_of_time: dict[int, int], pictures: np.ndarray
    ) -> None:
        """Convert wanted frames into their rows of `pictures`; remove them from `row_of_time`."""
        for frame in frames:
            if frame.pts not in row_of_time or frame.is_corrupt:
                continue
            if (frame.height, frame.width) != self._coded_size:
                # The number of a frame is the number of frames that are shown before it.
                number = np.count_nonzero(self.index.pts < frame.pts)
                raise FrameError(
                    f"{self.path}: the picture changes its size at frame {number}; scan the video"
                )
            picture = pictures[row_of_time.pop(frame.pts)]
            self._converter.write(frame, picture, self._window, self.index.stream.turns)
