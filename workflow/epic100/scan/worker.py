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
from av.container import InputContainer

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

# A file lacks pictures if its last one comes this much before the length that it states. The index
# of an MP4 must also leave out more than this share of the data.
SHORT_SECONDS, UNUSED_SHARE = 1.0, 0.02


def scan_file(
    path: Path, video: Video, quick: bool, max_pixels: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Scan a video file: decode it to its end, and find its damaged frames and its frame index.

    It is decoded on one thread, so that each error belongs to the packet that caused it.

    Args:
        path: The video file.
        video: Its row of the sheet; length and rate are 0 if not known.
        quick: Read all packets but decode key frames only.
        max_pixels: Larger pictures are not decoded.
        progress: Called with the number of packets read so far.

    Returns:
        `row`: the values of the `ScanRow` by column; `arrays`: those of `VideoIndex.to_arrays`.

    Raises:
        FileError: It is unreadable.
        MemoryError: The decoder asks for too much memory.
        DiskError: The disk fails.
    """
    with opened(path, max_pixels) as (file, container, stream):
        times = own_times(path, container, stream, max_pixels, progress)
        reading = StreamPass(file, container, stream, quick, max_pixels, times)
        reading.run(progress)
        row, index = _judged(video, file, container, stream, reading, quick)
    return {"row": vars(row), "arrays": index.to_arrays()}


def _judged(
    video: Video,
    file: WatchedFile,
    container: InputContainer,
    stream: av.VideoStream,
    reading: StreamPass,
    quick: bool,
) -> tuple[ScanRow, VideoIndex]:
    """Make the scan row and the frame index of a file that was read to its end.

    Raises:
        FileError: It has no picture that can be used.
    """
    if reason := reading.why_nothing():
        raise FileError(reason)
    index = reading.index()
    boxes = list(boxes_of(file.read_at, 0, file.size))
    is_short = matroska_bytes(file.read_at) > file.size
    lacks_data = is_short or _has_unused_data(boxes, container)
    beyond_index = _beyond_index(container, stream, index) if lacks_data else 0
    lost = reading.lost or beyond_index
    ranges, reasons = judge(reading.packets, index, lost, reading.stills.frames(index))
    # A fragmented MP4 was cut inside a box if the last one goes on beyond the file. A cut between
    # fragments is not detected.
    if not lost and any(box.name == "moof" for box in boxes) and boxes[-1].stop != file.size:
        reasons.insert(0, f"{TRUNCATED}the file ends inside a fragment")
    elif not lost and is_short:
        reasons.insert(0, f"{TRUNCATED}the file is shorter than its header states")
    if reading.broke_off:
        reasons.insert(0, f"{READ_ERRORS}{reading.broke_off}")
    status = DAMAGED if reasons else OK
    judged_by_stream = reading.coded.is_arithmetic
    if quick:
        # A quick look calls all other pictures decoded, too, but only a decoded one has a size.
        really_decoded = sum(p.size is not None for p in reading.packets)
        reasons.insert(0, f"quick look: {really_decoded} of {index.frames} pictures decoded")
    row = ScanRow(
        video.video_id,
        status,
        fps=index.fps,
        frames=sum(p.decoded for p in reading.packets if p.shown),
        damaged=ranges,
        reason="; ".join(reasons),
        # The times of damaged frames prove nothing.
        timing="constant" if index.is_constant(outside(ranges, index.frames)) else "variable",
        # Lost pictures after the last one are the end of the last damaged range.
        pictures=max([index.frames, *(stop for _, stop in ranges)]),
        judged=QUICK if quick else FULL if judged_by_stream else DECODER_ONLY,
        md5=index.md5,
        coded=stream.frames or len(index.packets),
        stated=round(float((stream.duration or 0) * (stream.time_base or 0)), 6),
    )
    return row, index


def _beyond_index(container: InputContainer, stream: av.VideoStream, index: VideoIndex) -> int:
    """How many pictures are missing at the end of a file, by the length that its header states."""
    stated_seconds = max(
        float((stream.duration or 0) * (stream.time_base or 0)),
        (container.duration or 0) / av.time_base,
    )
    missing_seconds = stated_seconds - index.times[-1]
    # One of the steps in the missing time is that of the last picture, which is there.
    return 0 if missing_seconds < SHORT_SECONDS else max(0, round(missing_seconds * index.fps) - 1)


def _has_unused_data(boxes: list[Box], container: InputContainer) -> bool:
    """Whether the index of an MP4 is truncated: much of its media data belongs to no packet."""
    data_size = sum(box.stop - box.start for box in boxes if box.name == "mdat")
    used_size = sum(entry.size for stream in container.streams for entry in stream.index_entries)
    return used_size < (1 - UNUSED_SHARE) * data_size
