"""Pipeline steps that decode only the sampled frames of an untrimmed video.

`OpenSegment` and `DecodeSegment` replace MMAction2's `DecordInit` and `DecordDecode`, with
`SampleFrames` between them. Without scaling, both decoders give the same frames.
"""

import gc
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import cv2
import numpy as np
from mmaction.datasets.transforms import processing
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from epic100.base.errors import EpicError
from epic100.clips.crop import Crop
from epic100.video.ffmpeg import opened
from epic100.video.index import VideoIndex, build_index
from epic100.video.index_file import find_index
from epic100.video.kept import Kept
from epic100.video.reader import FrameError, VideoReader
from epic100.video.window import Window

# These caches of readers are cleared before a fork. The new process would share the positions in
# open files with this one. And it could not close what decord has open, because it would wait for
# threads that exist only here.
_OPEN = WeakSet[Any]()


def _close_readers() -> None:
    """Close all readers that this process keeps open."""
    for readers in list(_OPEN):
        readers.cache_clear()


# Memory that a worker inherits stays shared as long as its garbage collector does not touch it.
os.register_at_fork(before=_close_readers, after_in_child=gc.freeze)


class DecordReader:
    """A reader of a video's frames that uses decord 0.6.

    Use it only on scanned files: decord can hang on damaged ones (decord issues 269, 373, 375).
    """

    def __init__(self, path: str, index: VideoIndex | None):
        import decord

        self.path = path
        # Without an index, `build_index` opens the file first, in a process with limits.
        self.index = index or build_index(path)
        # This refuses playlists. Decord would follow them, and takes no list of allowed containers.
        with opened(path):
            pass
        self._reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        self.fps = float(self._reader.get_avg_fps())
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
            window: The window of each picture that is kept; None keeps all.

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
# Each decoder opens a file by its path, its index and the files that are kept open.
READERS: dict[str, Callable[[str, VideoIndex | None, Kept], Reader]] = {
    "pyav": lambda path, index, kept: VideoReader(path, index, kept=kept),
    "decord": lambda path, index, kept: DecordReader(path, index),
}


@TRANSFORMS.register_module()
class OpenSegment(BaseTransform):
    """Pipeline step that opens the segment's video, and adds `video_reader` and `avg_fps`.

    A video that is open already is used again.

    Args:
        decoder: "pyav" or "decord". "pyav" seeks to the key frame before, and numbers frames by
            their position in the packet list.
        index_dir: Folder of the frame indexes that `scan` writes (results/scan). For a video
            without an index, the packets are read once.
        keep_open: Number of readers that each worker keeps. Files whose packets are read at known
            byte positions stay open beyond that (`epic100.video.kept`).

    Attributes:
        listed: The path in the segment list by the path of the file, if the two differ.

    Raises:
        EpicError: The decoder is unknown or not installed.
    """

    def __init__(self, decoder: str = "pyav", index_dir: str | None = None, keep_open: int = 8):
        if decoder not in READERS:
            expected = " or ".join(map(repr, READERS))
            raise EpicError(f"OpenSegment: decoder is {decoder!r}; expected {expected}")
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
        return {**self.__dict__, "_readers": None}  # Open files cannot be sent.

    def _open(self, path: str, kept: Kept) -> Reader:
        """Open a reader of a video, with its frame index if there is a folder of indexes."""
        listed = self.listed.get(path, path)
        index = find_index(self.index_dir, listed) if self.index_dir else None
        return READERS[self.decoder](path, index, kept)

    def transform(self, results: dict) -> dict:
        """Add the open reader to `results`.

        Steps that sample frames assume a constant rate. So for a file of variable rate, they get
        the segment as a video of constant rate would have it, and `file_frames` says for each such
        frame which frame of the file it is.

        Raises:
            FrameError: The video cannot be opened.
        """
        if self._readers is None:
            kept = Kept()
            # The cache drops the reader that was not used for the longest time.
            self._readers = lru_cache(self.keep_open)(lambda path: self._open(path, kept))
            _OPEN.add(self._readers)
        # MMAction2's inference_recognizer passes only a video's path. The whole video is then one
        # segment.
        results.setdefault("narration_id", Path(results["filename"]).stem)
        try:
            reader = self._readers(results["filename"])
        except EpicError as error:  # The file or its index cannot be read.
            raise FrameError(f"{results['narration_id']}: {error}") from error
        results["video_reader"] = reader
        results["avg_fps"] = reader.fps
        results.setdefault("total_frames", reader.frames)
        if not reader.index.is_steady:
            start = results.get("start_index", 0)
            first, frames = reader.index.steady_part(start, start + results["total_frames"])
            results |= {"start_index": first, "total_frames": len(frames), "file_frames": frames}
        return results

    def forget(self) -> None:
        """Close all videos of this process: after an I/O error, an open one may keep failing."""
        if self._readers is not None:
            self._readers.cache_clear()
            self._readers = None  # The files that readers share are closed too.


@TRANSFORMS.register_module()
class DecodeSegment(BaseTransform):
    """Pipeline step that decodes the frames `frame_inds`; adds `imgs`, each uint8 RGB [H, W, 3].

    With `crop`, this step does the work of MMAction2's `RandomCrop`, `CenterCrop`, or
    `RandomResizedCrop` with `Resize`, and of `Flip`: the window is drawn first, and only this part
    of a decoded picture is scaled and converted. Without `crop`, those steps can follow.

    Args:
        short_side: Scale while decoding, so that the shorter side has this many pixels. For a pair,
            each clip draws a size from this closed interval, as in MMAction2's `RandomRescale`.
        crop: "centre", "random" or "resized", see `epic100.clips.crop.Crop`; None: the whole
            picture.
        size: Side of the crop in pixels.
        area: The smallest and the largest fraction of the picture's area, for "resized".
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
        """Decode the frames; `imgs` takes the place of `video_reader` in `results`.

        Raises:
            FrameError: A frame does not decode. The error names the segment.
            EpicError: A sampled frame is outside the segment.
        """
        reader = results.pop("video_reader")
        indices = results["frame_inds"]
        start, length = results["start_index"], results["total_frames"]
        if indices.min() < start or indices.max() >= start + length:
            raise EpicError(
                f"{results['narration_id']}: frames {indices.min()}-{indices.max()} were sampled "
                f"outside the segment [{start}, {start + length}); correct the step that samples"
            )
        if "file_frames" in results:
            indices = results["frame_inds"] = results["file_frames"][indices - start]
        size, window = self.crop.draw(reader.size)
        try:
            frames = reader.get_frames(indices, size, window)
        except FrameError as error:
            raise FrameError(f"{results['narration_id']}: {error}") from error
        # After a crop no step needs a list, and an array need not be stacked again.
        results["imgs"] = frames if self.crop.kind else list(frames)
        _, height, width, _ = frames.shape
        results["original_shape"], results["img_shape"] = reader.size, (height, width)
        return results


@TRANSFORMS.register_module(force=True)
class ColorJitter(processing.ColorJitter):
    """MMAction2's step of this name, mended for NumPy 2, with a new order of changes for each clip.

    In MMAction2, turning a hue back fails (`Python integer -11 out of bounds for uint8`). And the
    order of the four changes is drawn when the step is built, so a resumed run would have another
    order.
    """

    @staticmethod
    def adjust_hue(img: np.ndarray, factor: float) -> np.ndarray:
        """Turn the hue of a picture, float32 [H, W, 3], by `factor` times 255 of OpenCV's steps."""
        hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        # OpenCV's hues are 0 to 179. The sum is made in int, since uint8 takes no negative number.
        hsv[..., 0] = (hsv[..., 0].astype(int) + int(factor * 255)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    def transform(self, results: dict) -> dict:
        """Draw the order of the changes for this clip, then change its pictures."""
        # The numbers stand for brightness, contrast, saturation and hue.
        self.fn_idx = np.random.permutation(4)
        return super().transform(results)
