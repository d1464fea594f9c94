"""Cut the clips of one video: decode it once, and write each segment into a file of its own.

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
from epic100.proxy.encoder import PROGRESS_EVERY, Report, check_copy, numbered_frames, open_output
from epic100.settings import ClipSettings
from epic100.video.containers import boxes_of
from epic100.video.ffmpeg import opened
from epic100.video.index import FrameError, VideoIndex

# Increase this number when clips change, so that old ones are made again.
VERSION = 2

# The generator `_write_clip` of a clip, which takes its pictures one by one through `send`.
ClipWriter = Generator[None, av.VideoFrame | None, None]


@dataclass(frozen=True)
class Clip:
    """A clip to cut: frames `start` to `stop` (half-open) of the video, into the file `target`.

    Attributes:
        target: The path of the clip's file.
        start: The first frame.
        stop: The end, half-open.
        key: A digest of what the clip is made from (`clip_key`).
    """

    target: str
    start: int
    stop: int
    key: str

    def is_there(self) -> bool:
        """Whether the file is whole and was made from the same frames with the same settings."""
        try:
            with opened(self.target) as (file, container, _):
                # If the file was cut short, its last box would end after the end of the file.
                boxes = list(boxes_of(file.read_at, 0, file.size))
                is_whole = bool(boxes) and boxes[-1].stop == file.size
                return is_whole and container.metadata.get("comment") == self.key
        except (OSError, FileError, av.error.FFmpegError):
            return False  # A missing or damaged file is cut again.


def clip_key(index: VideoIndex, settings: ClipSettings, start: int, stop: int) -> str:
    """Return a digest of what a clip is made from: the video's md5, the settings and the frames."""
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
    """Cut clips from a video; each file is whole and checked, or not written at all.

    Args:
        source: The video.
        index: The frame index of the video.
        clips: The clips to cut; existing files are replaced.
        settings: The settings of the encoder.
        progress: Called with the number of frames done.

    Returns:
        For each clip without a file, the reason by `target`: a frame does not decode.

    Raises:
        FileError: The packets of the file are not those of `index`. All clips are removed then.
        DiskError: The disk fails.
        av.error.FFmpegError: The file cannot be read to its end.
    """
    failed = dict[str, str]()
    # The writers of the clips that have begun and not ended are in here. `_send_picture` removes a
    # clip that is complete or fails, and adds one that fails to `failed`.
    writers = dict[Clip, ClipWriter]()
    # The list is in reverse order, so that `pop` takes the next clip to begin.
    waiting = sorted(clips, key=lambda clip: clip.start, reverse=True)
    with contextlib.ExitStack() as stack:
        _, container, stream = stack.enter_context(opened(source, index.stream.most_pixels))
        original = stream.codec_context
        scaler = VideoReformatter()
        size = settings.size(original.width, original.height)
        try:
            for number, frame in numbered_frames(
                container, stream, index, stop=max(clip.stop for clip in clips)
            ):
                while waiting and waiting[-1].start == number:
                    clip = waiting.pop()
                    writer = _write_clip(clip, original, size, index, settings)
                    stack.callback(writer.close)  # After an error, this removes its half file.
                    next(writer)  # This opens the file and runs to the first `yield`.
                    writers[clip] = writer
                picture = None
                # Without a clip that has begun, nobody needs the picture.
                if writers and frame is not None:
                    picture = scaler.reformat(
                        frame, *size, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1
                    )
                _send_picture(writers, picture, failed)
                if number % PROGRESS_EVERY == 0:
                    progress(number)
        except FileError:
            # The index is of another file, so the frames of all clips may be wrong.
            for clip in clips:
                Path(clip.target).unlink(missing_ok=True)
            raise
    return failed


def _send_picture(
    writers: dict[Clip, ClipWriter],
    picture: av.VideoFrame | None,
    failed: dict[str, str],
) -> None:
    """Give the next picture to the writers, and remove those whose clip is complete or fails.

    Args:
        writers: The writers of clips that have begun. Clips that end are removed from it.
        picture: The next picture, or None if it does not decode.
        failed: The reasons by target. Clips that fail are added to it.
    """
    for clip, writer in list(writers.items()):
        try:
            writer.send(picture)
        except StopIteration:  # The clip is complete.
            del writers[clip]
        except (FileError, FrameError) as error:
            del writers[clip]
            # An older file at this place was made from other frames or with other settings.
            Path(clip.target).unlink(missing_ok=True)
            failed[clip.target] = str(error)


def _write_clip(
    clip: Clip,
    original: av.VideoCodecContext,
    size: tuple[int, int],
    index: VideoIndex,
    settings: ClipSettings,
) -> ClipWriter:
    """Write one clip from the pictures that are sent to this generator, and check it.

    The generator ends after the last picture. If it is closed before, it leaves no file.

    Raises:
        FileError: A picture is None, or the file does not pass the check.
    """
    clip_index = index.part(clip.start, clip.stop)
    with atomic_path(clip.target) as temporary:
        with open_output(
            temporary,
            original,
            size,
            clip_index,
            settings.options(),
            mp4={"movflags": "faststart"},
            comment=clip.key,
        ) as add:
            for number in range(clip.start, clip.stop):
                picture = yield  # This waits for the next `send`.
                if picture is None:
                    raise FileError(f"frame {number} does not decode")
                add(picture)
        check_copy(temporary, clip_index, settings)
