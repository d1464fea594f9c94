"""Decode every picture of one video and report the damaged ones: `python -m epic100.scan.worker`.

Runs in a process of its own, because some damaged files make decoders hang, take all memory or
crash. `decoder_process` watches it and can kill it. Progress goes to stdout as lines `frames N`.
Without arguments it serves orders (`fork_server`).

A video is `unreadable` if it cannot be opened, or has no video stream, no times, or no picture that
decodes. `epic100.scan.damage` lists what marks pictures as damaged, and
`epic100.scan.oddities` lists what is only reported as a hint.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import numpy.ma  # np.median imports it when first called: here, once for all forks
from av.container import InputContainer

from epic100.base.atomic import atomic_path
from epic100.base.disk import WatchedFile
from epic100.scan.clock_checks import CONTRADICTED, Promise, contradiction
from epic100.scan.damage import judge
from epic100.scan.oddities import hints
from epic100.scan.proof import prove
from epic100.scan.stream_pass import StreamPass
from epic100.video.containers import Box, boxes_of, matroska_bytes, read_clock
from epic100.video.decoder_process import own_faults
from epic100.video.ffmpeg import MAX_PIXELS, error_text, limit_pixels, picture_stream
from epic100.video.fork_server import arguments_of_orders
from epic100.video.index import VideoIndex
from epic100.video.scan_table import (
    DAMAGED,
    DECODER_ONLY,
    FULL,
    OK,
    QUICK,
    UNREADABLE,
    ScanRow,
)

SHORT_SECONDS, UNUSED_SHARE = 1.0, 0.02  # limits above which an index counts as truncated


def inspect(
    path: Path,
    video_id: str,
    progress: Callable[[int], None] = lambda frames: None,
    quick: bool = False,
    seconds: float = 0.0,
    fps: float = 0.0,
    max_pixels: int = MAX_PIXELS,
) -> tuple[ScanRow, VideoIndex | None]:
    """Decode a whole file on one thread, so that each error belongs to the packet that caused it.

    Args:
        path: The video file.
        video_id: Its id, for the row.
        progress: Called with the number of packets read so far.
        quick: Read all packets but decode key frames only.
        seconds: Length that the sheet states, 0 if not known.
        fps: Rate that the sheet states, 0 if not known.
        max_pixels: Larger pictures are not decoded.

    Returns:
        The row of the scan table, and the index or None.

    Raises:
        MemoryError: The decoder asks for too much memory.
        DiskError: The disk fails.
    """
    try:
        file = WatchedFile(path)
    except OSError as error:
        return ScanRow(video_id, UNREADABLE, reason=f"cannot open: {error.strerror}"), None
    with contextlib.closing(file):
        return _inspect(file, video_id, progress, quick, Promise(fps, seconds), max_pixels)


def _inspect(
    file: WatchedFile,
    video_id: str,
    progress: Callable[[int], None],
    quick: bool,
    promise: Promise,
    max_pixels: int,
) -> tuple[ScanRow, VideoIndex | None]:
    try:
        container = av.open(file, "r")
    except av.error.FFmpegError as error:
        reason = f"cannot open: {_why_closed(file, error)}"
        return ScanRow(video_id, UNREADABLE, reason=reason), None
    with container:
        stream = picture_stream(container)
        if stream is None:
            return ScanRow(video_id, UNREADABLE, reason="no video stream"), None
        if stream.codec_context is None:
            return ScanRow(video_id, UNREADABLE, reason="no decoder for its video stream"), None
        if too_large := limit_pixels(stream, max_pixels):
            return ScanRow(video_id, UNREADABLE, reason=too_large), None
        reading = StreamPass(file, container, stream, quick)
        reading.run(progress)
        nothing = reading.why_nothing()
        if nothing:
            return ScanRow(video_id, UNREADABLE, reason=nothing), None
        index = reading.index()
        kind = container.format.name
        boxes = list(boxes_of(file.read_at, 0, file.size))
        is_short = matroska_bytes(file.read_at) > file.size
        lacks_data = is_short or _has_unused_data(boxes, container)
        beyond_index = _beyond_index(container, stream, index) if lacks_data else 0
        clock = read_clock(file.size, file.read_at, stream.id) if "mp4" in kind else None
    lost = reading.lost or beyond_index
    ranges, reasons = judge(
        reading.packets,
        index,
        lost,
        reading.looks.still(index),
        reading.coded.order_span,
        promise.seconds,
        tells_lost=index.stream.codec == "hevc",
    )
    contradicted = contradiction(index, clock, reading.coded.fixed_fps, promise, lost)
    if contradicted:
        reasons.append(f"{CONTRADICTED}: {contradicted}")
        ranges = [(0, max([index.frames, *(stop for _, stop in ranges)]))]
    if not lost and _ends_inside_a_box(boxes, file.size, kind):
        reasons.insert(0, "truncated: the file ends inside a fragment")
    elif not lost and is_short:
        reasons.insert(0, "truncated: the file is shorter than its header states")
    if reading.broke_off:
        reasons.insert(0, f"input errors while reading: {reading.broke_off}")
    status = DAMAGED if reasons else OK
    sound = _outside(ranges, index.frames)
    refused, index = ("", index) if quick else prove(Path(file.name), index, sound)
    if refused:
        reason = "; ".join([refused, *reasons])
        return ScanRow(video_id, UNREADABLE, reason=reason), None
    notes = hints(index, sound, reading.looks, reading.wrong_keys, kind)
    full = reading.coded.is_arithmetic
    decoded = sum(p.decoded for p in reading.packets if p.shown)
    if quick:
        reasons.insert(0, f"quick look: {reading.looked} of {index.frames} pictures decoded")
    row = ScanRow(
        video_id,
        status,
        fps=index.fps,
        frames=decoded,
        damaged=ranges,
        reason="; ".join([*reasons, *notes]),
        timing="constant" if index.is_constant_at(sound) else "variable",
        pictures=max(index.frames, ranges[-1][1] if ranges else 0),
        judged=QUICK if quick else FULL if full else DECODER_ONLY,
    )
    return row, index


def _outside(ranges: Sequence[tuple[int, int]], frames: int) -> np.ndarray:
    """bool [frames]: the frames that no range contains."""
    sound = np.ones(frames, dtype=bool)
    for start, stop in ranges:
        sound[start:stop] = False
    return sound


def _beyond_index(container: InputContainer, stream: av.VideoStream, index: VideoIndex) -> int:
    """Pictures missing at the end of a file that lacks data there, by the length that it states."""
    if not index.frames or not index.fps:
        return 0
    stated = max(
        float((stream.duration or 0) * (stream.time_base or 0)),
        (container.duration or 0) / av.time_base,
    )
    short = stated - index.times[-1]
    return 0 if short < SHORT_SECONDS else round(short * index.fps) - 1


def _has_unused_data(boxes: list[Box], container: InputContainer) -> bool:
    """Whether the index of an MP4 is truncated: much of its data is outside all packets."""
    if "mp4" not in container.format.name:
        return False
    data = sum(box.stop - box.start for box in boxes if box.name == "mdat")
    used = sum(entry.size for any_stream in container.streams for entry in any_stream.index_entries)
    return used < (1 - UNUSED_SHARE) * data


def _ends_inside_a_box(boxes: list[Box], size: int, kind: str) -> bool:
    """Whether a fragmented MP4 was cut inside a box. A cut between fragments is not detected."""
    return "mp4" in kind and any(box.name == "moof" for box in boxes) and boxes[-1].stop != size


def _why_closed(file: WatchedFile, error: Exception) -> str:
    """Why a file does not open; names what happened to it if that is clear."""
    if not file.size:
        return "the file is empty"
    boxes = list(boxes_of(file.read_at, 0, file.size))
    names = [box.name for box in boxes]
    if names[:1] == ["ftyp"] and ("moov" not in names or boxes[-1].stop > file.size):
        return "truncated: its index (moov box) is not there, or not all of it"
    if names[:1] != ["ftyp"]:
        return f"not a video file ({error_text(error)})"
    return f"its index is spoilt ({error_text(error)})"


def main() -> None:
    """Scan one file and save its row and index to an .npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="read packets, decode key frames only")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long the video should be")
    parser.add_argument("--fps", type=float, default=0.0, help="the rate that it should have")
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, help="of a picture")
    arguments = sys.argv[1:] or arguments_of_orders()
    with own_faults():
        options = parser.parse_args(arguments)
        av.logging.set_level(None)
        row, index = inspect(
            options.path,
            options.path.stem,
            lambda frames: print("frames", frames, flush=True),
            options.quick,
            options.seconds,
            options.fps,
            options.max_pixels,
        )
        arrays = {"row": np.array(row.to_json())} | (index.to_arrays() if index else {})
        with atomic_path(options.out) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
