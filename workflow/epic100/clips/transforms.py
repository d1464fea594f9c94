"""Pipeline steps that decode only the sampled frames of an untrimmed video.

`OpenSegment` and `DecodeSegment` replace MMAction2's `DecordInit` and `DecordDecode`. A step that
samples, such as `SampleFrames`, stands between them. Without scaling, both decoders, PyAV and
decord, give the same frames.
"""

import gc
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import cv2
import numpy as np
from mmaction.datasets.transforms import processing
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from epic100.base.errors import EpicError
from epic100.clips.crop import Crop
from epic100.video.build_index import build_index
from epic100.video.ffmpeg import opened
from epic100.video.index import VideoIndex, find_index
from epic100.video.reader import FrameError, SharedCaches, VideoReader
from epic100.video.window import Window

# These caches of readers are cleared before a fork. Otherwise the new process would share the read
# positions of open files with this one. It could not even close the files of decord, because it
# would wait for threads that exist only in this process.
_OPEN = WeakSet[Any]()


def _close_readers() -> None:
    """Close all readers that this process keeps open."""
    for readers in list(_OPEN):
        readers.cache_clear()


# A forked worker shares its parent's memory until one of the two writes to it. The garbage
# collector would write to every object, so it must ignore the ones that exist at the fork.
os.register_at_fork(before=_close_readers, after_in_child=gc.freeze)


class DecordReader:
    """A reader of a video's frames that uses decord 0.6.

    Use it only on scanned files: decord can hang on damaged ones (decord issues 269, 373, 375).

    Attributes:
        fps: Frames per second of the index. Decord's own rate counts gaps in, so it is lower.
        frames: Number of frames.
        size: (height, width) of the frames.
    """

    def __init__(self, path: str, index: VideoIndex | None):
        """Open a video, whose frame index is built if it is None."""
        import decord  # noqa: TID251

        self.path = path
        # Without an index, `build_index` opens the file first, in a process with limits.
        self.index = index or build_index(path)
        # `opened` rejects playlists. Decord would open the files that they name, and cannot be told
        # which containers are allowed.
        with opened(path):
            pass
        self._reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        self.fps = self.index.fps
        self.frames = len(self._reader)
        self.size = self._reader[0].shape[:2]

    def get_frames(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None = None,
        window: Window | None = None,
    ) -> np.ndarray:
        """Decode frames by their numbers, then crop and scale them.

        Args:
            indices: Frame numbers in the file.
            size: (height, width) to scale to; None keeps the file's size.
            window: The part of each frame to return; None returns the complete frame.

        Returns:
            uint8 RGB [len(indices), height, width, 3].

        Raises:
            FrameError: A frame does not decode.
        """
        try:
            frames = self._reader.get_batch(np.asarray(indices)).asnumpy()
        except Exception as error:  # Decord raises its own DECORDError and bare RuntimeErrors.
            raise FrameError(f"{self.path}: decord: {error}") from error
        if window is not None:
            rows = slice(window.top, window.top + window.height)
            frames = frames[:, rows, window.left : window.left + window.width]
            frames = frames[:, :, ::-1] if window.flipped else frames
        if size is None:
            return frames
        height, width = size
        return np.stack(
            [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
        )


Reader = VideoReader | DecordReader
# For each decoder, a function makes a reader of a path, a frame index and the cache of open files.
READERS: dict[str, Callable[[str, VideoIndex | None, SharedCaches], Reader]] = {
    "pyav": lambda path, index, caches: VideoReader(path, index, caches=caches),
    "decord": lambda path, index, caches: DecordReader(path, index),
}


class FramesByTime(NamedTuple):
    """The frames of the file that a video of constant rate would show in a segment with a gap.

    Attributes:
        first: The number of the segment's first frame in the video of constant rate.
        frames: int64: the frame of the file for each number from `first` on.
    """

    first: int
    frames: np.ndarray


@TRANSFORMS.register_module()
class OpenSegment(BaseTransform):
    """Pipeline step that opens the segment's video, and adds `video_reader` and `avg_fps`.

    The videos that were used last stay open and are used again.

    Args:
        decoder: "pyav" or "decord". "pyav" seeks to the key frame before, and numbers frames by
            their position in the packet list.
        index_dir: Folder of the frame indexes that `scan` writes (results/scan). For a video
            without an index, the packets are read once.
        keep_open: Number of readers that each worker holds. Files whose packets are read at known
            byte positions may stay open longer (`epic100.video.reader`).

    Attributes:
        listed: The path in the segment list by the path of the file, if the two differ.

    Raises:
        EpicError: The decoder is unknown or not installed.
    """

    def __init__(self, decoder: str = "pyav", index_dir: str | None = None, keep_open: int = 8):
        """Store the arguments, if the decoder is installed."""
        if decoder not in READERS:
            raise EpicError(
                f"OpenSegment: decoder is {decoder!r}; expected {' or '.join(map(repr, READERS))}"
            )
        if decoder == "decord" and importlib.util.find_spec("decord") is None:
            raise EpicError(
                "OpenSegment: decoder is 'decord', which is not installed (its wheels are for "
                "x86-64 Linux alone); expected 'pyav', which gives the same frames"
            )
        self.decoder = decoder
        self.index_dir = index_dir
        self.keep_open = keep_open
        self.listed: Mapping[str, str] = {}
        self._readers: Any = None

    def __getstate__(self) -> dict:
        """Return the step without readers, since pickle cannot send open files."""
        return {**self.__dict__, "_readers": None}

    def _open(self, path: str, caches: SharedCaches) -> Reader:
        """Open a video, with its frame index if there is a folder of indexes.

        Args:
            path: The video file.
            caches: The cache of open files.
        """
        listed = self.listed.get(path, path)
        index = find_index(self.index_dir, listed) if self.index_dir else None
        return READERS[self.decoder](path, index, caches)

    def transform(self, results: dict) -> dict:
        """Add the reader of the segment's video to `results`.

        Steps that sample frames assume a constant rate. So for a segment with a gap in its times,
        they get `start_index` and `total_frames` of a video of constant rate, and `by_time` has the
        frames of the file. Any other segment keeps the numbers of the file. `clock_shift` is then
        what has to be added to a number to get that in a video of constant rate: an earlier gap
        makes it differ.

        Raises:
            FrameError: The video cannot be opened.
        """
        # The reader of the video.
        if self._readers is None:
            caches = SharedCaches()
            # The cache drops the reader that was not used for the longest time.
            self._readers = lru_cache(self.keep_open)(lambda path: self._open(path, caches))
            _OPEN.add(self._readers)
        # MMAction2's `inference_recognizer` gives only the path of a video. The file name is then
        # the id, and the complete video is one segment.
        results.setdefault("narration_id", Path(results["filename"]).stem)
        try:
            reader = self._readers(results["filename"])
        except EpicError as error:  # The file or its index cannot be read.
            raise FrameError(f"{results['narration_id']}: {error}") from error

        # What steps that sample need.
        results |= {"video_reader": reader, "avg_fps": reader.fps}
        results.setdefault("total_frames", reader.frames)
        if not reader.index.is_steady:
            start = results.setdefault("start_index", 0)
            stop = start + results["total_frames"]
            first, frames = reader.index.steady_part(start, stop)
            if np.array_equal(frames, np.arange(start, stop)):
                results["clock_shift"] = first - start
            else:
                results |= {"start_index": first, "total_frames": len(frames)}
                results["by_time"] = FramesByTime(first, frames)
        return results

    def forget(self) -> None:
        """Close the videos of this step: after an I/O error, an open file may keep failing."""
        if self._readers is not None:
            self._readers.cache_clear()
            # The cache of open files belongs to the readers' function, so it goes with it.
            self._readers = None


@TRANSFORMS.register_module()
class DecodeSegment(BaseTransform):
    """Pipeline step that decodes the frames `frame_inds` to `imgs`, each uint8 RGB [H, W, 3].

    With `crop`, this step does the work of MMAction2's `RandomCrop`, `CenterCrop`, or
    `RandomResizedCrop` with `Resize`, and of `Flip`: the window is drawn first, and only this part
    of a decoded frame is scaled and converted. Without `crop`, those steps can follow.

    Args:
        short_side: Length of the shorter side after scaling, in pixels. From a pair, which is a
            closed interval, each clip draws it, as in MMAction2's `RandomRescale`.
        crop: "centre", "random" or "resized", see `epic100.clips.crop.Crop`; None: the complete
            frame.
        size: Side of the crop in pixels.
        area: The smallest and the largest fraction of the frame's area, for "resized".
        flip_ratio: Probability that a clip's left and right are exchanged.

    Raises:
        EpicError: `crop` is unknown, or only one of `crop` and `size` is given.
    """

    def __init__(
        self,
        short_side: int | tuple[int, int] | None = None,
        crop: str | None = None,
        size: int | None = None,
        area: tuple[float, float] = (0.5, 1.0),
        flip_ratio: float = 0.0,
    ):
        self.crop = Crop(crop, size, short_side, area, flip_ratio)

    def transform(self, results: dict) -> dict:
        """Decode the frames, and put `imgs` into `results` in place of `video_reader`.

        Raises:
            FrameError: A frame does not decode. The error names the segment.
            EpicError: A sampled frame is outside the segment.
        """
        reader, name = results.pop("video_reader"), results["narration_id"]
        indices = results["frame_inds"]
        start, length = results["start_index"], results["total_frames"]
        sampled = f"{name}: frames {indices.min()}-{indices.max()} were sampled outside the segment"
        if indices.min() < start or indices.max() >= start + length:
            raise EpicError(f"{sampled} [{start}, {start + length}); correct the step that samples")

        # With `by_time`, the frames were sampled as if the rate were constant. It has the number of
        # the first such frame, and for each of them the frame of the file that is shown then.
        if "by_time" in results:
            first, frames_by_time = results["by_time"]
            places = indices - first
            if places.min() < 0 or places.max() >= len(frames_by_time):
                raise EpicError(
                    f"{sampled} that was opened, [{first}, {first + len(frames_by_time)}); a step "
                    "may narrow a segment, and not move it"
                )
            indices = results["frame_inds"] = frames_by_time[places]

        size, window = self.crop.draw(reader.size)
        try:
            frames = reader.get_frames(indices, size, window)
        except FrameError as error:
            raise FrameError(f"{name}: {error}") from error
        results |= {
            # Later steps that crop need a list of frames. After a crop here there are none, and an
            # array need not be stacked again.
            "imgs": frames if self.crop.crop_type else list(frames),
            "original_shape": reader.size,
            "img_shape": frames.shape[1:3],
        }
        return results


@TRANSFORMS.register_module(force=True)
class ColorJitter(processing.ColorJitter):
    """MMAction2's step of this name, which works in NumPy 2 and draws an order for each clip.

    MMAction2's step fails when it turns a hue back (`Python integer -11 out of bounds for uint8`).
    And it draws the order of the four changes when it is built, so a resumed run would have another
    order.
    """

    @staticmethod
    def adjust_hue(img: np.ndarray, factor: float) -> np.ndarray:
        """Turn the hue of a frame, float32 [H, W, 3], by 255 * `factor` steps of 2 degrees."""
        hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        # OpenCV's hues are 0 to 179. Negative factors need a type that has negative numbers.
        hsv[..., 0] = (hsv[..., 0].astype(int) + int(factor * 255)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    def transform(self, results: dict) -> dict:
        """Draw the order of the changes for this clip, then change its frames."""
        # The numbers stand for brightness, contrast, saturation and hue.
        self.fn_idx = np.random.permutation(4)
        return super().transform(results)
