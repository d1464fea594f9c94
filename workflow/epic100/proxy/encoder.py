"""Make and check the copy of one video, and write the pictures of a copy or a clip.

Frame i of the copy is frame i of the original, shown at the same time after the first picture. If
the original gives no picture, the copy has a grey one, so that no frame number shifts.

The copy is H.264 in closed groups of `gop` pictures: a key frame, and every `b_frames` + 1 pictures
one that refers to those before; no picture depends on those between. It is coded on one thread with
x264's preset `veryfast`, tuned for fast decoding (no CABAC, no deblocking filter). x264's assembly
is on, so copies of one video may differ in bytes; `asm=0` prevents that but takes 4 times as long.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter

from epic100.base.atomic import atomic_path
from epic100.base.errors import DiskError
from epic100.base.guarded import FileError
from epic100.settings import PictureSettings, ProxySettings
from epic100.video.ffmpeg import error_text, opened
from epic100.video.index import VideoIndex, build_index
from epic100.video.untimed import has_no_times, timed

# It is called with the number of pictures done.
Report = Callable[[int], None]
# It counts pictures.
PROGRESS_EVERY = 64
# At most this many pictures may be decoded before one with a smaller frame number.
REORDER = 16


def write_proxy(
    source: Path,
    target: Path,
    settings: ProxySettings,
    index: VideoIndex | None = None,
    progress: Report = lambda frames: None,
) -> tuple[dict[str, Any], VideoIndex]:
    """Write a copy, whole and checked or not at all; return its facts and its own index.

    The facts are `width height frames`, and `stand_ins`, the frames that are grey because the
    original gives no picture.

    Without the scan's `index` of `source`, its packets are read once more. Raises FileError if the
    copy does not pass the check, DiskError for a fault of the disk, and av.error.FFmpegError if the
    original cannot be read.
    """
    index = index or build_index(source)
    with atomic_path(target) as temporary:
        stand_ins = _encode(source, temporary, index, settings, progress)
        copy = check_copy(temporary, index, settings)
    progress(index.frames)
    facts = {"width": copy.stream.width, "height": copy.stream.height, "frames": copy.frames}
    return facts | {"stand_ins": stand_ins}, copy


def copy_video(
    source: Path, target: Path, settings: ProxySettings, index: VideoIndex, progress: Report
) -> dict[str, Any]:
    """Call `write_proxy`; return its facts and arrays for `guarded.call`."""
    facts, copy = write_proxy(source, target, settings, index, progress)
    return {"facts": facts, "arrays": copy.to_arrays()}


def _encode(
    source: Path, target: Path, index: VideoIndex, settings: ProxySettings, progress: Report
) -> list[int]:
    """Return the numbers of the grey frames."""
    stand_ins = list[int]()
    with contextlib.ExitStack() as stack:
        _, container, stream = stack.enter_context(opened(source, index.stream.most_pixels))
        original = stream.codec_context
        width, height = size = settings.size(original.width, original.height)
        add = stack.enter_context(open_output(target, original, size, index, settings.options()))
        scaler = VideoReformatter()
        for number, frame in numbered(container, stream, index):
            if frame is None:
                picture = _grey(size)
                stand_ins.append(number)
            else:
                picture = scaler.reformat(
                    frame, width, height, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1
                )
            add(picture)
            if number % PROGRESS_EVERY == 0:
                progress(number)
    return stand_ins


def check_copy(path: Path, index: VideoIndex, settings: PictureSettings) -> VideoIndex:
    """Read the packets of a finished copy; return its index.

    `index` is the original's. Raises FileError if the frame count, times or key frames are wrong.
    """
    copy = build_index(path)
    if not same_clock(index, copy):
        raise FileError(
            f"its copy has {copy.frames} frames, or other times than its {index.frames}"
        )
    if not np.array_equal(copy.key_pts, copy.pts[:: settings.gop]) or not _closed(copy):
        raise FileError(f"its copy has not a key frame every {settings.gop} pictures")
    return copy


def _closed(index: VideoIndex) -> bool:
    """Whether the pictures of each group, key frame to key frame, are coded one after another."""
    group = np.searchsorted(index.key_pts, index.packets["pts"], side="right")
    return bool(index.packets["shown"].all() and (np.diff(group) >= 0).all())


def same_clock(index: VideoIndex, copy: VideoIndex) -> bool:
    """Whether `copy` has the frames of the original's `index` at exactly the same times."""
    ticks, time_base = clock(index)
    unit = time_base / copy.time_base
    return (
        copy.frames == index.frames
        and unit.denominator == 1
        and np.array_equal(copy.pts - copy.pts[0], ticks * unit.numerator)
    )


def _grey(size: tuple[int, int]) -> av.VideoFrame:
    # Both are even. Below the luma are half as many rows of colour.
    width, height = size
    return av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, np.uint8), "yuv420p")


def clock(index: VideoIndex) -> tuple[np.ndarray, Fraction]:
    """Compute the times of a copy's frames, counted from the first one.

    They equal the original's times exactly. Frames that share one time (a kind of damage) cannot do
    so in a copy. There the unit is a fraction of the original's, and such frames follow each other.

    Returns:
        Ticks, int64 [F], strictly ascending; and their unit in seconds.
    """
    ticks = index.pts - index.pts[0]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ticks)) + 1])
    lengths = np.diff(np.append(starts, len(ticks)))
    divisor = int(lengths.max())
    offsets = np.arange(len(ticks)) - np.repeat(starts, lengths)
    return ticks * divisor + offsets, index.time_base / divisor


def numbered(
    container: InputContainer, stream: av.VideoStream, index: VideoIndex, stop: int | None = None
) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Yield (frame number, picture) for all frames of `index` in order, decoded on one thread.

    A picture is None if it does not decode or is flagged corrupt; `VideoReader` refuses those too.
    Frames from `stop` on are not decoded, but their packets are read and compared with the index.

    Raises:
        FileError: The file's packets are not those of `index`.
        av.error.FFmpegError: The file cannot be read to its end.
    """
    numbers: dict[int | None, deque[int]] = {}
    for number, pts in enumerate(index.pts.tolist()):
        numbers.setdefault(pts, deque()).append(number)
    waiting: dict[int, av.VideoFrame] = {}
    number, stop = 0, index.frames if stop is None else stop
    for frame in _decoded(container, stream, index, lambda: number < stop):  # noqa: B023 (as it is then)
        frame_numbers = numbers.get(frame.pts)
        if not frame_numbers or frame.is_corrupt:
            continue
        waiting[frame_numbers.popleft()] = frame
        while number < stop and (number in waiting or len(waiting) > REORDER):
            yield number, waiting.pop(number, None)
            number += 1
    for last in range(number, stop):
        yield last, waiting.pop(last, None)


def _decoded(
    container: InputContainer,
    stream: av.VideoStream,
    index: VideoIndex,
    more: Callable[[], bool],
) -> Iterator[av.VideoFrame]:
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    seen, times = [], None
    if has_no_times(container, stream):
        times = iter(index.packets["pts"].tolist())
    for packet in timed(container.demux(stream), times):
        if packet.size and packet.pts is not None and not packet.is_discard:
            seen.append(packet.pts)
        if not more():
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise  # Too little memory is not a fault of the file.
    if sorted(seen) != index.pts.tolist():
        raise FileError("its packets are not those that were scanned; scan it again")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Report what FFmpeg or the system refuses to write as a DiskError."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise DiskError(f"cannot write the copy: {error_text(error)}") from error


@contextlib.contextmanager
def open_output(
    path: Path,
    original: av.VideoCodecContext,
    size: tuple[int, int],
    index: VideoIndex,
    x264: Mapping[str, str],
    mp4: Mapping[str, str] | None = None,
    comment: str = "",
) -> Iterator[Callable[[av.VideoFrame], None]]:
    """Open a file for the pictures of `index`, at their times after the first one.

    The file is finalised unless an error occurs. Players turn its pictures as the original's.

    Args:
        path: The file.
        original: The decoder of the pictures; the file gets its colour description.
        size: (width, height).
        index: The frames to write.
        x264: Options of libx264.
        mp4: Options of FFmpeg's MP4 muxer.
        comment: Text that the file carries as metadata.

    Yields:
        A function that takes the next picture, in yuv420p.
    """
    ticks, time_base = clock(index)
    times = iter(ticks.tolist())
    rate = Fraction(index.fps).limit_denominator(1001) if index.fps else Fraction(30)
    with writing():
        out = av.open(str(path), "w", format="mp4", options=dict(mp4 or {}))
    try:
        out.metadata.update({"comment": comment} if comment else {})
        stream = out.add_stream("libx264", rate=rate, options=dict(x264))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if index.stream.turns:
            stream.set_display_rotation(-90 * index.stream.turns)
        stream.codec_context.time_base = time_base
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, getattr(original, name))

        def add(picture: av.VideoFrame | None) -> None:
            if picture is not None:
                picture.pts, picture.time_base = next(times), time_base
                # Otherwise the original's key frames would be key frames here too.
                picture.pict_type = 0
            packets = stream.encode(picture)
            with writing():
                out.mux(packets)

        yield add
        add(None)
    except BaseException:
        with contextlib.suppress(av.error.FFmpegError, OSError):
            out.close()
        raise
    with writing():
        out.close()
