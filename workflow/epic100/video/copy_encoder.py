"""Make and check the copy of one video.

Frame i of the copy is frame i of the original, shown at the same time after the first frame. If
one frame of the original does not decode, there is no copy.

The copy is H.264 in closed groups of `gop` frames: a key frame, and every sixth frame refers to
those before; no frame depends on the five B-frames between. It is coded on one thread with
x264's preset `veryfast`, tuned for fast decoding (no CABAC, no deblocking filter). x264's assembly
is on, so copies of one video may differ in bytes; `asm=0` prevents that but takes 4 times as long.
"""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter

from epic100.base.atomic import atomic_path
from epic100.base.errors import DiskError
from epic100.base.guarded import FileError
from epic100.settings.data import ProxySettings
from epic100.video.build_index import build_index
from epic100.video.ffmpeg import MAX_PIXELS, error_text, opened
from epic100.video.index import ANOTHER_FILE, COLOURS, VideoIndex

# A function of this type is called with the number of frames done.
Report = Callable[[int], None]
# The filter that scales frames.
BICUBIC = Interpolation.BICUBIC
# Progress is reported every 64 frames, so that the reports cost no time.
PROGRESS_EVERY = 64


def write_proxy(
    source: Path,
    target: Path,
    settings: ProxySettings,
    index: VideoIndex | None = None,
    progress: Report = lambda frames: None,
) -> VideoIndex:
    """Write a small copy of a video; the file is complete and checked, or not written at all.

    Args:
        source: The original.
        target: The path of the copy.
        settings: The settings of the encoder.
        index: The frame index of the original; None makes one from its packets.
        progress: Called with the number of frames done.

    Returns:
        The frame index of the copy.

    Raises:
        FileError: A frame does not decode, or the copy does not pass the check.
        DiskError: The disk fails.
        av.error.FFmpegError: The original cannot be read.
    """
    index = index or build_index(source)
    with atomic_path(target) as temporary:
        _encode(source, temporary, index, settings, progress)
        copy_index = check_copy(temporary, index, settings)
    progress(index.frames)
    return copy_index


def copy_video(
    source: Path, target: Path, settings: ProxySettings, index: VideoIndex, progress: Report
) -> dict[str, np.ndarray]:
    """Write a small copy of a video, and return the arrays of its index.

    `guarded.call` can send them to another process, but no `VideoIndex`.
    """
    return write_proxy(source, target, settings, index, progress).to_arrays()


def _encode(
    source: Path, target: Path, index: VideoIndex, settings: ProxySettings, progress: Report
) -> None:
    """Encode all frames of a video into a new file.

    Raises:
        FileError: A frame does not decode, or has the same time as another one.
    """
    number_of_time = {time: number for number, time in enumerate(index.pts.tolist())}
    next_number = 0
    # The scan has accepted the size of its frames.
    max_pixels = max(MAX_PIXELS, index.stream.width * index.stream.height)
    size = settings.size(index.stream.width, index.stream.height)
    scaler = VideoReformatter()
    with opened(source, max_pixels) as (file, container, stream):
        if file.size != index.file_size:
            raise FileError(f"it {ANOTHER_FILE}")
        with _output(target, size, index, settings) as add:
            for frame in _decoded(container, stream):
                number = number_of_time.get(frame.pts, -1)
                # Players hide this frame: its time is not in the index, or is an earlier frame's.
                if number < next_number:
                    continue
                if number > next_number or frame.is_corrupt:
                    break
                add(scaler.reformat(frame, *size, "yuv420p", interpolation=BICUBIC, threads=1))
                if number % PROGRESS_EVERY == 0:
                    progress(number)
                next_number += 1
            if next_number < index.frames:
                raise FileError(f"frame {next_number} does not decode")


def _decoded(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decode the frames of a video on one thread, and skip those that do not decode."""
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    for packet in container.demux(stream):
        # Hidden frames of undamaged files need not decode.
        with contextlib.suppress(av.error.InvalidDataError):
            yield from packet.decode()


def check_copy(path: Path, index: VideoIndex, settings: ProxySettings) -> VideoIndex:
    """Check a finished copy by its packets, and return its frame index.

    Args:
        path: The copy.
        index: The frame index of the original.
        settings: The settings of the encoder; `gop` is the distance of key frames.

    Raises:
        FileError: The copy's frame count, times or key frames are wrong.
    """
    copy_index = build_index(path)
    if not same_clock(index, copy_index):
        raise FileError(
            f"its copy has {copy_index.frames} frames, or other times than its {index.frames}"
        )
    has_key_frames = np.array_equal(copy_index.key_pts, copy_index.pts[:: settings.gop])
    # A group goes from key frame to key frame. If it is closed, all of its packets come before the
    # next group's, so the number of the group never goes down in the file.
    group = np.searchsorted(copy_index.key_pts, copy_index.packets["pts"], side="right")
    is_closed = copy_index.packets["shown"].all() and (np.diff(group) >= 0).all()
    if not has_key_frames or not is_closed:
        raise FileError(f"its copy has not a key frame every {settings.gop} frames")
    return copy_index


def same_clock(index: VideoIndex, copy: VideoIndex) -> bool:
    """Whether a copy has as many frames as the original, and at exactly the same times."""
    # A tick of the original must be an integer number of ticks of the copy.
    copy_ticks = index.time_base / copy.time_base
    ticks = (index.pts - index.pts[0]) * copy_ticks.numerator
    return (
        copy.frames == index.frames
        and copy_ticks.denominator == 1
        and np.array_equal(copy.pts - copy.pts[0], ticks)
    )


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Turn an error of FFmpeg or the system within the block into a DiskError."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise DiskError(f"cannot write the copy: {error_text(error)}") from error


@contextlib.contextmanager
def _output(
    path: Path,
    size: tuple[int, int],
    index: VideoIndex,
    settings: ProxySettings,
) -> Iterator[Callable[[av.VideoFrame], None]]:
    """Open an H.264 file in MP4 for new frames, which are shown at the times of `index`.

    The times count from the first frame. The file is finalised unless an error occurs. Players
    turn its frames as they turn the original's.

    Args:
        path: The file.
        size: (width, height).
        index: The frame index of the original.
        settings: The settings of the encoder.

    Yields:
        A function that takes the next frame, in yuv420p.
    """
    times = iter((index.pts - index.pts[0]).tolist())
    rate = Fraction(index.fps).limit_denominator(1001) if index.fps else Fraction(30)
    with _writing():
        out = av.open(str(path), "w", format="mp4")
    try:
        stream = out.add_stream("libx264", rate=rate, options=settings.options())
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if index.stream.turns:
            stream.set_display_rotation(-90 * index.stream.turns)
        stream.codec_context.time_base = index.time_base
        for name, value in zip(COLOURS, index.stream.colours, strict=True):
            setattr(stream.codec_context, name, value)

        def add(frame: av.VideoFrame | None) -> None:
            """Encode and write the next frame; None writes what the encoder still holds."""
            if frame is not None:
                frame.pts = next(times)
                frame.time_base = index.time_base
                # Otherwise the original's key frames would be key frames here too.
                frame.pict_type = 0
            packets = stream.encode(frame)
            with _writing():
                out.mux(packets)

        yield add
        add(None)
    except BaseException:
        # Closing frees the encoder. The file is not complete, so an error of closing says nothing
        # new.
        with contextlib.suppress(av.error.FFmpegError, OSError):
            out.close()
        raise
    with _writing():
        out.close()
