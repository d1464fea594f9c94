"""Make and check the copy of one video.

Frame i of the copy is frame i of the original, shown at the same time after the first picture. If
the original gives no picture, the copy has a grey one, so that no frame number shifts.

The copy is H.264 in closed groups of `gop` pictures: a key frame, and every `b_frames` + 1 pictures
one that refers to those before; no picture depends on those between. It is coded on one thread with
x264's preset `veryfast`, tuned for fast decoding (no CABAC, no deblocking filter). x264's assembly
is on, so copies of one video may differ in bytes; `asm=0` prevents that but takes 4 times as long.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from epic100.base.atomic import atomic_path
from epic100.base.guarded import FileError
from epic100.proxy.pictures import clock, numbered, open_output
from epic100.settings import PictureSettings, ProxySettings
from epic100.video.ffmpeg import opened
from epic100.video.index import VideoIndex, build_index

# It is called with the number of pictures done.
Report = Callable[[int], None]
# It counts pictures.
PROGRESS_EVERY = 64


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
