"""Decode every picture of one video and report the damaged ones.

Some damaged files make decoders hang, take all memory or crash: `guarded.call` does this in a
process that it can kill.

A video is `unreadable` if it cannot be opened, or has no video stream, no times, or no picture that
decodes. `epic100.scan.damage` lists what marks pictures as damaged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from epic100.base.disk import WatchedFile
from epic100.base.guarded import FileError
from epic100.scan.damage import READ_ERRORS, TRUNCATED, judge
from epic100.scan.stream_pass import StreamPass
from epic100.video.containers import Box, boxes_of, matroska_bytes
from epic100.video.ffmpeg import opened
from epic100.video.index import VideoIndex
from epic100.video.scan_table import (
    DAMAGED,
    DECODER_ONLY,
    FULL,
    OK,
    QUICK,
    ScanRow,
    outside,
)
from epic100.video.sheet import Video
from epic100.video.untimed import own_times

# Pictures are missing if the last one comes this much before the length in the header. In an MP4,
# more than this share of the media data must also belong to no packet.
SHORT_SECONDS, UNUSED_SHARE = 1.0, 0.02


def scan_file(
    path: Path, video: Video, quick: bool, max_pixels: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Scan a video file: decode it to its end, and find its damaged frames and its frame index.

    It is decoded on one thread, so that each error belongs to the packet that caused it.

    Args:
        path: The video file.
        video: The row of the sheet.
        quick: Read all packets but decode key frames only.
        max_pixels: Larger pictures are not decoded.
        progress: Called with the number of packets read so far.

    Returns:
        `row`: the values of a `ScanRow` by column; `arrays`: the result of `VideoIndex.to_arrays`.

    Raises:
        FileError: The video is unreadable.
        MemoryError: The decoder asks for too much memory.
        DiskError: The disk fails.
    """
    with opened(path, max_pixels) as (file, container, stream):
        times = own_times(path, container, stream, max_pixels, progress)
        stream_pass = StreamPass(file, container, stream, quick, max_pixels, times)
        stream_pass.run(progress)
        row, index = _judged(video, file, container, stream, stream_pass, quick)
    return {"row": vars(row), "arrays": index.to_arrays()}


def _judged(
    video: Video,
    file: WatchedFile,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    stream_pass: StreamPass,
    quick: bool,
) -> tuple[ScanRow, VideoIndex]:
    """Make the scan row and the frame index of a file that `stream_pass` has read to its end.

    Raises:
        FileError: No picture of the file can be used.
    """
    if reason := stream_pass.why_nothing():
        raise FileError(reason)
    index = stream_pass.index()
    boxes = list(boxes_of(file.read_at, 0, file.size))
    is_short = matroska_bytes(file.read_at) > file.size
    lost = stream_pass.lost
    if not lost and (is_short or _has_unused_data(boxes, container)):
        lost = _missing_at_end(container, stream, index)
    ranges, reasons = judge(stream_pass.packets, index, lost, stream_pass.stills.frames(index))
    # A fragmented MP4 was cut inside a box if the last one goes on beyond the file. A cut between
    # fragments is not detected.
    if not lost and any(box.name == "moof" for box in boxes) and boxes[-1].stop != file.size:
        reasons.insert(0, f"{TRUNCATED}the file ends inside a fragment")
    elif not lost and is_short:
        reasons.insert(0, f"{TRUNCATED}the file is shorter than its header states")
    if stream_pass.broke_off:
        reasons.insert(0, f"{READ_ERRORS}{stream_pass.broke_off}")
    status = DAMAGED if reasons else OK
    judged = FULL if stream_pass.coded.is_arithmetic else DECODER_ONLY
    if quick:
        judged = QUICK
        # A quick look takes other pictures for decoded, but only a key frame has a size.
        decoded_count = sum(p.size is not None for p in stream_pass.packets)
        reasons.insert(0, f"quick look: {decoded_count} of {index.frames} pictures decoded")
    row = ScanRow(
        video.video_id,
        status,
        fps=index.fps,
        frames=sum(p.decoded for p in stream_pass.packets if p.shown),
        damaged=ranges,
        reason="; ".join(reasons),
        # Damaged frames may have wrong times, so only the others count.
        timing="constant" if index.is_constant(outside(ranges, index.frames)) else "variable",
        # Pictures that are missing at the end are part of the last damaged range.
        pictures=max([index.frames, *(stop for _, stop in ranges)]),
        judged=judged,
        md5=index.md5,
        coded=stream.frames or len(index.packets),
        stated=round(float((stream.duration or 0) * (stream.time_base or 0)), 6),
    )
    return row, index


def _missing_at_end(
    container: av.container.InputContainer, stream: av.VideoStream, index: VideoIndex
) -> int:
    """Count the pictures that are missing at the end of a file, by the length in its header."""
    stated_seconds = max(
        float((stream.duration or 0) * (stream.time_base or 0)),
        (container.duration or 0) / av.time_base,
    )
    missing_seconds = stated_seconds - index.times[-1]
    # `times[-1]` is the start of the last picture, which is there. So one step of the difference is
    # the length of that picture.
    return 0 if missing_seconds < SHORT_SECONDS else max(0, round(missing_seconds * index.fps) - 1)


def _has_unused_data(boxes: list[Box], container: av.container.InputContainer) -> bool:
    """Whether much of the media data of an MP4 belongs to no packet, so that its index is short."""
    data_size = sum(box.stop - box.start for box in boxes if box.name == "mdat")
    used_size = sum(entry.size for stream in container.streams for entry in stream.index_entries)
    return used_size < (1 - UNUSED_SHARE) * data_size
