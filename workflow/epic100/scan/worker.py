"""Decode every frame of one video and report the damaged ones.

Some damaged files make decoders hang, take all memory or crash: `guarded.call` does this in a
process that it can kill.

A video is `unreadable` if it cannot be opened, or has no video stream or no frame that decodes.
`epic100.scan.damage` lists what marks frames as damaged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from epic100.base.guarded import FileError
from epic100.scan.damage import READ_ERRORS, judge
from epic100.scan.frames import scan_frames
from epic100.scan.stream_pass import StreamPass
from epic100.video.ffmpeg import ENCODE, make_mp4, opened
from epic100.video.index import FrameError, VideoIndex
from epic100.video.reader import VideoReader
from epic100.video.scan_table import DAMAGED, DECODER_ONLY, FULL, OK, ScanRow, outside
from epic100.video.sheet import Video, is_frames


def scan_file(
    path: Path, video: Video, max_pixels: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Scan a video: decode it to its end, and find its damaged frames and its frame index.

    It is decoded on one thread, so that each error belongs to the packet that caused it.

    Args:
        path: The video file, or its extracted frames.
        video: The row of the sheet.
        max_pixels: Larger frames are not decoded.
        progress: Called with the number of packets read so far.

    Returns:
        `row`: the values of a `ScanRow` by column; `arrays`: the result of `VideoIndex.to_arrays`.

    Raises:
        FileError: The video is unreadable.
        MemoryError: The decoder asks for too much memory.
        DiskError: The disk fails.
    """
    if is_frames(path):
        row, index = scan_frames(path, video, max_pixels, progress)
    else:
        with opened(path, max_pixels) as (file, container, stream):
            stream_pass = StreamPass(file, container, stream, max_pixels)
            stream_pass.run(progress)
            row, index = _judged(video, stream, stream_pass)
    _read_one(path, index, row)
    return {"row": vars(row), "arrays": index.to_arrays()}


def _judged(
    video: Video, stream: av.VideoStream, stream_pass: StreamPass
) -> tuple[ScanRow, VideoIndex]:
    """Make the scan row and the frame index of a file that `stream_pass` has read to its end.

    Raises:
        FileError: No frame of the file can be used.
    """
    if reason := stream_pass.why_nothing():
        raise FileError(reason)
    index = stream_pass.index()
    ranges, reasons = judge(stream_pass.packets, index, stream_pass.lost)
    if stream_pass.broke_off:
        reasons.insert(0, f"{READ_ERRORS}{stream_pass.broke_off}")
    status = DAMAGED if reasons else OK
    judged = FULL if stream_pass.coded.is_arithmetic else DECODER_ONLY
    row = ScanRow(
        video.video_id,
        status,
        fps=index.fps,
        frames=sum(p.decoded for p in stream_pass.packets if p.shown),
        damaged=ranges,
        reason="; ".join(reasons),
        # Damaged frames may have wrong times, so only the others count.
        timing="constant" if index.is_constant(outside(ranges, index.frames)) else "variable",
        # Frames that are missing at the end are part of the last damaged range.
        pictures=max([index.frames, *(stop for _, stop in ranges)]),
        judged=judged,
        md5=index.md5,
        coded=stream.frames or len(index.packets),
        stated=round(float((stream.duration or 0) * (stream.time_base or 0)), 6),
    )
    return row, index


def _read_one(path: Path, index: VideoIndex, row: ScanRow) -> None:
    """Read one undamaged frame as a training does.

    Some codecs need more of the header than an index has, and some pixels cannot become RGB.

    Raises:
        FileError: The frame cannot be read.
    """
    undamaged = np.flatnonzero(outside(row.damaged, index.frames))
    if not len(undamaged):
        return
    try:
        VideoReader(path, index).get_frames(undamaged[:1].tolist())
    except (FrameError, ValueError) as error:
        stream = index.stream
        raise FileError(
            f"frames ({stream.pix_fmt}) of {stream.codec} that cannot be read; {make_mp4(ENCODE)}"
        ) from error
