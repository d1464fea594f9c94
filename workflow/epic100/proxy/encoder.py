"""Make and check the copy of one video, and encode the pictures of a copy or a clip.

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
from epic100.settings import ProxySettings
from epic100.video.ffmpeg import error_text, opened
from epic100.video.index import VideoIndex, build_index
from epic100.video.untimed import has_no_times, timed

# A function of this type is called with the number of pictures done.
Report = Callable[[int], None]
# Progress is reported every 64 pictures, so that the reports cost no time.
PROGRESS_EVERY = 64
# At most this many pictures may be decoded before one with a smaller frame number: H.264 and HEVC
# allow no more.
MAX_REORDERED = 16
# Half of 255. As luma it is half bright, and as a colour difference it means no colour.
MIDDLE_GREY = 128


def write_proxy(
    source: Path,
    target: Path,
    settings: ProxySettings,
    index: VideoIndex | None = None,
    progress: Report = lambda frames: None,
) -> tuple[dict[str, Any], VideoIndex]:
    """Write a small copy of a video; the file is whole and checked, or not written at all.

    Args:
        source: The original.
        target: The path of the copy.
        settings: The settings of the encoder.
        index: The frame index of the original; None makes one from its packets.
        progress: Called with the number of pictures done.

    Returns:
        The notes on the copy, and its frame index. The notes are `width`, `height`, `frames`, and
        `stand_ins`: the numbers of the frames that are grey because the original gives no picture.

    Raises:
        FileError: The copy does not pass the check.
        DiskError: The disk fails.
        av.error.FFmpegError: The original cannot be read.
    """
    index = index or build_index(source)
    with atomic_path(target) as temporary:
        stand_ins = _encode(source, temporary, index, settings, progress)
        copy_index = check_copy(temporary, index, settings)
    progress(index.frames)
    notes = {
        "width": copy_index.stream.width,
        "height": copy_index.stream.height,
        "frames": copy_index.frames,
        "stand_ins": stand_ins,
    }
    return notes, copy_index


def copy_video(
    source: Path, target: Path, settings: ProxySettings, index: VideoIndex, progress: Report
) -> dict[str, Any]:
    """Write a small copy of a video, and return its `notes` and its index as `arrays`.

    `guarded.call` can send this dict to another process, but no `VideoIndex`.
    """
    notes, copy_index = write_proxy(source, target, settings, index, progress)
    return {"notes": notes, "arrays": copy_index.to_arrays()}


def _encode(
    source: Path, target: Path, index: VideoIndex, settings: ProxySettings, progress: Report
) -> list[int]:
    """Encode all frames of a video into a new file; return the numbers of the grey frames."""
    stand_ins = list[int]()
    with contextlib.ExitStack() as stack:
        _, container, stream = stack.enter_context(opened(source, index.stream.most_pixels))
        original = stream.codec_context
        size = settings.size(original.width, original.height)
        add = stack.enter_context(open_output(target, original, size, index, settings.options()))
        scaler = VideoReformatter()
        for number, frame in numbered_frames(container, stream, index):
            if frame is None:
                picture = _grey_picture(size)
                stand_ins.append(number)
            else:
                picture = scaler.reformat(
                    frame, *size, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1
                )
            add(picture)
            if number % PROGRESS_EVERY == 0:
                progress(number)
    return stand_ins


def check_copy(path: Path, index: VideoIndex, settings: ProxySettings) -> VideoIndex:
    """Check a finished copy or clip by its packets, and return its frame index.

    Args:
        path: The copy.
        index: The frame index of the original, or of the part that is copied.
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
    if not has_key_frames or not _has_closed_groups(copy_index):
        raise FileError(f"its copy has not a key frame every {settings.gop} pictures")
    return copy_index


def _has_closed_groups(index: VideoIndex) -> bool:
    """Whether all packets of a group, from key frame to key frame, come before the next group's."""
    # The packets are in the order of the file, so the number of the group must never go down.
    group = np.searchsorted(index.key_pts, index.packets["pts"], side="right")
    return bool(index.packets["shown"].all() and (np.diff(group) >= 0).all())


def same_clock(index: VideoIndex, copy: VideoIndex) -> bool:
    """Whether a copy has as many frames as the original, and at exactly the same times."""
    ticks, time_base = clock(index)
    # A tick of the original must be a whole number of ticks of the copy.
    copy_ticks = time_base / copy.time_base
    return (
        copy.frames == index.frames
        and copy_ticks.denominator == 1
        and np.array_equal(copy.pts - copy.pts[0], ticks * copy_ticks.numerator)
    )


def _grey_picture(size: tuple[int, int]) -> av.VideoFrame:
    """Make a grey picture in yuv420p, of an even (width, height)."""
    width, height = size
    # In this format, half as many rows with the two colour differences follow the rows of luma.
    pixels = np.full((height * 3 // 2, width), MIDDLE_GREY, np.uint8)
    return av.VideoFrame.from_ndarray(pixels, "yuv420p")


def clock(index: VideoIndex) -> tuple[np.ndarray, Fraction]:
    """Compute the times at which a copy shows its frames, counted from the first one.

    They equal the original's times exactly, but frames that have the same time (a kind of damage)
    follow each other. The unit is then a fraction of the original's time base.

    Returns:
        Ticks, int64 [F], strictly ascending; and their unit in seconds.
    """
    ticks = index.pts - index.pts[0]
    # A run is a row of frames with the same time. In undamaged files, each frame is a run.
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ticks)) + 1])
    lengths = np.diff(np.append(starts, len(ticks)))
    # With this many units per tick, all frames of the longest run come before the next tick.
    divisor = int(lengths.max())
    offsets = np.arange(len(ticks)) - np.repeat(starts, lengths)
    return ticks * divisor + offsets, index.time_base / divisor


def numbered_frames(
    container: InputContainer, stream: av.VideoStream, index: VideoIndex, stop: int | None = None
) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Decode a video in order on one thread, and yield (frame number, picture) for each frame.

    A picture is None if it does not decode or is flagged corrupt; `VideoReader` refuses those too.
    Frames from `stop` on are not decoded, but their packets are read and compared with `index`.

    Raises:
        FileError: The file's packets are not those of `index`.
        av.error.FFmpegError: The file cannot be read to its end.
    """
    # In a damaged file, several frames may have the same time. They are numbered in their order.
    free_numbers_of_pts: dict[int | None, deque[int]] = {}
    for frame_number, pts in enumerate(index.pts.tolist()):
        free_numbers_of_pts.setdefault(pts, deque()).append(frame_number)
    # These frames are decoded, but must wait for an earlier frame, which is not.
    waiting: dict[int, av.VideoFrame] = {}
    next_number = 0
    stop = index.frames if stop is None else stop
    # `_decoded` asks before each packet whether to decode it, or only to compare its time with the
    # index. The lambda reads the current `next_number`, which grows with each frame.
    for frame in _decoded(container, stream, index, lambda: next_number < stop):  # noqa: B023
        frame_numbers = free_numbers_of_pts.get(frame.pts)
        if not frame_numbers or frame.is_corrupt:
            continue
        waiting[frame_numbers.popleft()] = frame
        # A frame that is still missing when so many later ones have come will not come any more.
        while next_number < stop and (next_number in waiting or len(waiting) > MAX_REORDERED):
            yield next_number, waiting.pop(next_number, None)
            next_number += 1
    for frame_number in range(next_number, stop):
        yield frame_number, waiting.pop(frame_number, None)


def _decoded(
    container: InputContainer,
    stream: av.VideoStream,
    index: VideoIndex,
    is_wanted: Callable[[], bool],
) -> Iterator[av.VideoFrame]:
    """Decode the pictures of a video in the decoder's order, and skip those that do not decode.

    Args:
        container: The open video.
        stream: The video stream.
        index: The frame index, with which the times of all packets are compared at the end.
        is_wanted: Returns whether the next packet must be decoded. It is called before each packet.
            The others are only read, so that their times can be compared.

    Raises:
        FileError: The packets are not those of `index`.
    """
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    packet_pts = []
    times = iter(index.packets["pts"].tolist()) if has_no_times(container, stream) else None
    for packet in timed(container.demux(stream), times):
        if packet.size and packet.pts is not None and not packet.is_discard:
            packet_pts.append(packet.pts)
        if not is_wanted():
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise  # Too little memory is not a fault of the file.
    if sorted(packet_pts) != index.pts.tolist():
        raise FileError("its packets are not those that were scanned; scan it again")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn an error of FFmpeg or the system within the block into a DiskError."""
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
    """Open an H.264 file in MP4 for new pictures, which are shown at the times of `index`.

    The times count from the first picture. The file is finalised unless an error occurs. Players
    turn its pictures as they turn the original's.

    Args:
        path: The file.
        original: The decoder of the pictures; the file gets its colour description.
        size: (width, height).
        index: The frame index of the original, or the part of it that is written.
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
        if comment:
            out.metadata["comment"] = comment
        stream = out.add_stream("libx264", rate=rate, options=dict(x264))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if index.stream.turns:
            stream.set_display_rotation(-90 * index.stream.turns)
        stream.codec_context.time_base = time_base
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, getattr(original, name))

        def add(picture: av.VideoFrame | None) -> None:
            """Encode and write the next picture; None writes what the encoder still holds."""
            if picture is not None:
                picture.pts = next(times)
                picture.time_base = time_base
                # Otherwise the original's key frames would be key frames here too.
                picture.pict_type = 0
            packets = stream.encode(picture)
            with writing():
                out.mux(packets)

        yield add
        add(None)
    except BaseException:
        # Closing frees the encoder. The file is not whole, so an error of closing says nothing new.
        with contextlib.suppress(av.error.FFmpegError, OSError):
            out.close()
        raise
    with writing():
        out.close()
