"""Cut the clips of one video.

The video is decoded once, in order, for all its segments, also where they overlap. Picture i of a
clip is frame `start` + i of the video, shown at the same time after the clip's first picture. Each
clip's packets are read and compared with the video's times before it gets its name.

A clip is H.264 without B-frames in an MP4 whose header comes first (for players in a browser). It
begins with a key frame. Its metadata hold a key of what it was made from (`Clip.key`).
"""

import contextlib
import hashlib
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.video.reformatter import Interpolation, VideoReformatter

from epic100.base.atomic import atomic_path
from epic100.base.guarded import FileError
from epic100.proxy.encoder import PROGRESS_EVERY, Report, check_copy, numbered, open_output
from epic100.settings import ClipSettings
from epic100.video.containers import boxes_of
from epic100.video.ffmpeg import opened
from epic100.video.index import FrameError, VideoIndex

# Increase it when clips change, so that old ones are made again.
VERSION = 2


@dataclass(frozen=True)
class Clip:
    """A clip to cut: frames `start` to `stop` (half-open) of the video, into the file `target`."""

    target: str
    start: int
    stop: int
    key: str

    def is_there(self) -> bool:
        """Whether the file is whole and was made from the same frames with the same settings."""
        try:
            with opened(self.target) as (file, container, _):
                boxes = list(boxes_of(file.read_at, 0, file.size))
                is_whole = boxes and boxes[-1].stop == file.size
                return bool(is_whole) and container.metadata.get("comment") == self.key
        except (OSError, FileError, av.error.FFmpegError):
            return False


def clip_key(index: VideoIndex, settings: ClipSettings, start: int, stop: int) -> str:
    """Return what a clip is recognised by: the video's bytes, the settings and the frames."""
    made_from = {"version": VERSION, "md5": index.md5, "frames": [start, stop]}
    text = json.dumps(made_from | settings.stored(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def cut_clips(
    source: Path,
    index: VideoIndex,
    clips: Sequence[Clip],
    settings: ClipSettings,
    progress: Report = lambda frames: None,
) -> dict[str, str]:
    """Write clips, each whole and checked or not at all.

    Args:
        source: The video.
        index: Its frame index.
        clips: What to cut; files that are there are replaced.
        settings: How they are encoded.
        progress: Called with the number of frames done.

    Returns:
        Why there is no file, by `target`, for clips with a frame that does not decode.

    Raises:
        FileError: The packets of the file are not those of `index`; no clip is left.
        DiskError: The disk fails.
        av.error.FFmpegError: The file cannot be read to its end.
    """
    failed, running = dict[str, str](), dict[Clip, Generator[None, av.VideoFrame | None, None]]()
    waiting = sorted(clips, key=lambda clip: clip.start, reverse=True)
    with contextlib.ExitStack() as stack:
        _, container, stream = stack.enter_context(opened(source, index.stream.most_pixels))
        original, scaler = stream.codec_context, VideoReformatter()
        size = settings.size(original.width, original.height)
        stop = max(clip.stop for clip in clips)
        try:
            for number, frame in numbered(container, stream, index, stop):
                while waiting and waiting[-1].start == number:
                    clip = waiting.pop()
                    writer = _writer(clip, original, size, index, settings)
                    stack.callback(writer.close)  # It removes its half file after an error.
                    next(writer)
                    running[clip] = writer
                picture = None
                if running and frame is not None:
                    picture = scaler.reformat(
                        frame, *size, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1
                    )
                _send(running, picture, failed)
                if number % PROGRESS_EVERY == 0:
                    progress(number)
        except FileError:
            for clip in clips:
                Path(clip.target).unlink(missing_ok=True)
            raise
    return failed


def _send(
    running: dict[Clip, Generator[None, av.VideoFrame | None, None]],
    picture: av.VideoFrame | None,
    failed: dict[str, str],
) -> None:
    """Give the next picture to all running clips; remove those that are complete or fail."""
    for clip, writer in list(running.items()):
        try:
            writer.send(picture)
            continue
        except StopIteration:
            pass
        except (FileError, FrameError) as error:
            # An older file there was made from other frames or with other settings.
            Path(clip.target).unlink(missing_ok=True)
            failed[clip.target] = str(error)
        del running[clip]


def _writer(
    clip: Clip,
    original: av.VideoCodecContext,
    size: tuple[int, int],
    index: VideoIndex,
    settings: ClipSettings,
) -> Generator[None, av.VideoFrame | None, None]:
    """Take the pictures of one clip, and end after the last; closed before, it leaves no file."""
    clip_index = index.part(clip.start, clip.stop)
    with atomic_path(clip.target) as temporary:
        with open_output(
            temporary,
            original,
            size,
            clip_index,
            settings.options(),
            {"movflags": "faststart"},
            clip.key,
        ) as add:
            for number in range(clip.start, clip.stop):
                if (picture := (yield)) is None:
                    raise FileError(f"frame {number} does not decode")
                add(picture)
        check_copy(temporary, clip_index, settings)
