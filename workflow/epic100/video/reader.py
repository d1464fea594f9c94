"""Exact frames of an untrimmed video: go to the key frame before, decode, stop.

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
    """An open video; returns frames by their number in the file.

    Args:
        path: The video file.
        index: The index that `scan` wrote. Without one, all packets of the file are read once.
        kept: What readers of this process share. Without it, the reader has its own.

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
        self._kept, self._alone = kept or Kept(), kept is None
        # It is equal for streams whose pictures are described alike: they share converters.
        self._described = (self.index.stream, *self.index.sets)
        self._packets: ContainerPackets | DirectPackets
        if self.index.direct:
            self._packets = DirectPackets(self.path, self.index, self._kept)
        else:
            self._packets = ContainerPackets(self.path, self.index)
        self._coded = self.index.stream.height, self.index.stream.width
        self.size = self._coded[:: -1 if self.index.stream.turns % 2 else 1]

    @property
    def frames(self) -> int:
        """Number of frames of the file."""
        return self.index.frames

    def close(self) -> None:
        """Close the file; one that is kept for other readers stays open."""
        self._packets.close()
        if self._alone:
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
        kept_size = self.size if window is None else (window.height, window.width)
        pictures = np.empty((len(frames), *(size or kept_size), 3), np.uint8)
        self._window = window
        self._converter = self._kept.converters(self._described, kept_size, size)
        row_of_time = {time: row for row, time in enumerate(pts.tolist())}
        for key in np.unique(keys).tolist():
            group = set(pts[keys == key].tolist())
            # Some files mark pictures as key frames from which decoding recovers only gradually
            # (intra refresh). Frames that did not come out are decoded from further back.
            for earlier in dict.fromkeys((key, key - 1, key - 2, 0)):
                if earlier >= 0 and not group.isdisjoint(row_of_time):
                    self._decode_group(earlier, group & row_of_time.keys(), row_of_time, pictures)
        if row_of_time:
            missing = frames[min(row_of_time.values())]
            raise FrameError(
                f"{self.path}: frame {missing} does not decode ({len(row_of_time)} of "
                f"{len(frames)} wanted); scan the video and use the clean list"
            )
        in_order = len(row_of_index) == len(frames) and (np.diff(row_of_index) > 0).all()
        return pictures if in_order else pictures[row_of_index]

    def _decode_group(
        self, key: int, wanted: set[int], rows: dict[int, int], pictures: np.ndarray
    ) -> None:
        """Decode from key frame number `key` until every wanted pts was fed, then drain."""
        begins = int(self.index.key_pts[key])
        spoilt = False  # It tells whether a picture shown before the key frame is corrupted.

        def kept(frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
            return [f for f in frames if not spoilt or (f.pts is not None and f.pts >= begins)]

        try:
            packets = self._packets.from_key(key, wanted)
            first = next(packets, None)  # It may reopen the file, which replaces its decoder.
            if first is None:
                return
            decoder = self._decoder(key)
            decoder.flush_buffers()
            can_skip, skipping = decoder.name in _SKIPPING, None
            for packet, time in itertools.chain([first], packets):
                # The decoder skips unwanted pictures that are not reference pictures.
                if can_skip and skipping != (packet.pts not in wanted):
                    skipping = packet.pts not in wanted
                    decoder.skip_frame = "NONREF" if skipping else "DEFAULT"
                wanted.discard(packet.pts)
                try:
                    frames = decoder.decode(packet)
                except av.error.InvalidDataError:
                    # No picture shown after the key frame refers to one shown before it.
                    if time is None or time >= begins:
                        raise
                    spoilt = True
                    continue
                self._keep(kept(frames), rows, pictures)
                if not wanted:
                    break
            last_frames = decoder.decode(None)
            self._keep(kept(last_frames), rows, pictures)
        # An OSError comes from the file: a disk that fails raises DiskError.
        except (av.error.FFmpegError, OSError) as error:
            raise FrameError(f"{self.path}: decoding failed: {error}; scan the video") from error

    def _decoder(self, key: int) -> VideoCodecContext:
        """A decoder for the pictures from key frame number `key` on.

        One used elsewhere in the file keeps parameter sets of that place, also when it is flushed.
        """
        if not self.index.changes_sets:
            return self._packets.decoder
        sets = self.index.sets[self.index.group(key)["sets"][0]]
        return new_decoder(self.index.stream, sets, False)

    def _keep(
        self, frames: Iterable[av.VideoFrame], rows: dict[int, int], pictures: np.ndarray
    ) -> None:
        """Convert wanted frames into their rows of `pictures` and remove them from `rows`."""
        for frame in frames:
            if frame.pts not in rows or frame.is_corrupt:
                continue
            if (frame.height, frame.width) != self._coded:
                before = self.index.pts_of(np.arange(self.index.frames)) < frame.pts
                raise FrameError(
                    f"{self.path}: the picture changes its size at frame {before.sum()}; scan the "
                    "video"
                )
            picture = pictures[rows.pop(frame.pts)]
            self._converter.write(frame, picture, self._window, self.index.stream.turns)
