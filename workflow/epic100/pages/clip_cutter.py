"""Cut segments of one video into small files, which any browser plays.

A clip shows the frames that the model's reader gives, about 30 a second, at the same times after
its first frame. It is H.264 in MP4.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import av

from epic100.base.atomic import atomic_path
from epic100.base.errors import DiskError
from epic100.video.ffmpeg import error_text
from epic100.video.index import FrameError, VideoIndex
from epic100.video.reader import VideoReader

# Increase this number when clips change, so that old ones are not used.
VERSION = 1
# The shorter side of a clip has at most this many pixels.
SHORTER_SIDE = 180
# A clip has about 30 frames a second, or as many as the video if that has fewer.
RATE = 30
# A clip has no more than 90 kilobits a second, and half a second of them more. So the clips of the
# 9,668 segments of EPIC's val take less than 500 MB.
X264 = {"crf": "28", "maxrate": "90k", "bufsize": "45k", "g": "60", "bf": "0", "threads": "1"}
# The header comes first, so that playing begins before the whole file is there.
MP4 = {"movflags": "faststart"}
# FFmpeg turns RGB into these colours (SMPTE 170M, limited range). If a file does not state them,
# players guess.
MATRIX, LIMITED = 6, 1
# The maximum number of frames in memory.
FRAMES_AT_ONCE = 256


@dataclass(frozen=True)
class Clip:
    """A clip to cut: frames `start` to `stop` (half-open) of a video, into the file `target`."""

    target: Path
    start: int
    stop: int


def cut_video(
    source: Path,
    index: VideoIndex,
    clips: Mapping[str, Clip],
    progress: Callable[[int], None] = lambda frames: None,
) -> dict[str, str]:
    """Cut clips from a video; each file is complete, or not written at all.

    Args:
        source: The video.
        index: The frame index of the video.
        clips: The clips to cut, by name.
        progress: Called with the number of frames done.

    Returns:
        For each clip without a file, the reason by its name: a frame does not decode.

    Raises:
        FrameError: The file is not the one of `index`.
        DiskError: The disk fails.
    """
    reader = VideoReader(source, index)
    reasons = dict[str, str]()
    done = 0

    def tell(frames: int) -> None:
        """Report that some more frames are done."""
        nonlocal done
        done += frames
        progress(done)

    for name, clip in clips.items():
        try:
            with atomic_path(clip.target) as temporary:
                _write_clip(temporary, reader, clip, tell)
        except FrameError as error:
            reasons[name] = str(error)
    return reasons


def _write_clip(path: Path, reader: VideoReader, clip: Clip, tell: Callable[[int], None]) -> None:
    """Write one clip.

    Args:
        path: The file to write.
        reader: The reader of the video.
        clip: The clip; its `target` is not used.
        tell: Called with the number of frames that were written since the last call.

    Raises:
        FrameError: A frame does not decode.
        DiskError: The file cannot be written.
    """
    # An encoder needs even sizes.
    scale = min(1.0, SHORTER_SIDE / min(reader.size))
    height, width = (max(2, 2 * round(side * scale / 2)) for side in reader.size)
    step = max(1, round(reader.fps / RATE))
    numbers = range(clip.start, clip.stop, step)
    times = (reader.index.pts_of(numbers) - reader.index.pts[clip.start]).tolist()
    try:
        with av.open(str(path), "w", format="mp4", options=MP4) as out:
            stream = out.add_stream("libx264", rate=RATE, options=X264)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.codec_context.time_base = reader.index.time_base
            stream.codec_context.colorspace = MATRIX
            stream.codec_context.color_range = LIMITED
            for first in range(0, len(numbers), FRAMES_AT_ONCE):
                part = slice(first, first + FRAMES_AT_ONCE)
                frames = reader.get_frames(numbers[part], (height, width))
                for pixels, time in zip(frames, times[part], strict=True):
                    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
                    frame.pts, frame.time_base = time, reader.index.time_base
                    out.mux(stream.encode(frame))
                tell(len(frames))
            out.mux(stream.encode(None))
    except (av.error.FFmpegError, OSError) as error:
        raise DiskError(f"cannot write the clip: {error_text(error)}") from error
