"""Decode every picture of one video and say which are damaged: `python -m epic100.scan_worker`.

Runs as a process of its own, because some damaged files make decoders spin, eat memory or crash;
`epic100.scan` watches it and can kill it. Progress goes to stdout, one `frames N` line at a time.
"""

import argparse
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from epic100.atomic import atomic_path
from epic100.scan_table import DAMAGED, OK, UNREADABLE, ScanRow
from epic100.video_index import VideoIndex, picture_stream

PROGRESS_SECONDS = 0.5
# A step this much longer than the usual one is a gap, where nearly all steps are alike.
GAP = 1.5
CONSTANT_SHARE = 0.99


@dataclass
class _Pass:
    """What one pass over the packets gave, in order of decoding."""

    packets: list[tuple[int, int, bool]] = field(default_factory=list)  # pts, dts, is_keyframe
    errors: set[int] = field(default_factory=set)  # pts of packets that raised
    corrupt: set[int] = field(default_factory=set)  # pts flagged by container or decoder
    decoded: set[int] = field(default_factory=set)  # pts of pictures that came out
    read: int = 0  # packets, those hidden by an edit list too
    repeated: int = 0
    broke_off: str = ""  # why reading ended before the end


def inspect(path: Path, video_id: str, progress=lambda frames: None):
    """Decode `path` whole, strictly, on one thread; returns (ScanRow, VideoIndex or None).

    One thread, so that an error belongs to the packet that raised it; strict (`err_detect
    explode`), since a lenient decoder conceals flipped bits and says nothing.
    """
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        return ScanRow(video_id, UNREADABLE, reason=f"cannot open: {_words(error)}"), None
    with container:
        stream = picture_stream(container)
        if stream is None:
            return ScanRow(video_id, UNREADABLE, reason="no video stream"), None
        seen = _decode_all(container, stream, progress)
        promised, time_base = stream.frames, stream.time_base
    if not seen.decoded:
        reason = f"no picture decodes ({seen.broke_off or 'no error given'})"
        return ScanRow(video_id, UNREADABLE, reason=reason), None
    index = VideoIndex.from_packets(seen.packets, time_base)
    ranges, reasons = _damage(seen, index, promised)
    frames = len(np.intersect1d(index.pts, np.fromiter(seen.decoded, dtype=np.int64)))
    row = ScanRow(
        video_id,
        DAMAGED if ranges else OK,
        fps=index.fps,
        frames=frames,
        damaged=ranges,
        reason="; ".join(reasons),
        timing="constant" if index.is_constant else "variable",
        pictures=max(index.frames, ranges[-1][1] if ranges else 0),
    )
    return row, index


def _decode_all(container, stream, progress) -> _Pass:
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode"}
    seen = _Pass()
    last, known = time.monotonic(), set()
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError) as error:
            seen.broke_off = _words(error)
            break
        if packet is None:
            break
        if packet.size:
            seen.read += 1
            if packet.pts is not None and not packet.is_discard:
                if packet.pts in known:
                    seen.repeated += 1
                    seen.corrupt.add(packet.pts)
                known.add(packet.pts)
                dts = packet.pts if packet.dts is None else packet.dts
                seen.packets.append((packet.pts, dts, packet.is_keyframe))
            if packet.is_corrupt:
                seen.corrupt.add(packet.pts)
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            seen.errors.add(packet.pts)
            continue
        for frame in frames:
            seen.decoded.add(frame.pts)
            if frame.is_corrupt:
                seen.corrupt.add(frame.pts)
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            progress(len(seen.decoded))
    return seen


def _damage(seen: _Pass, index: VideoIndex, promised: int):
    """Half-open ranges of damaged file frames, and the reasons in words."""
    doubtful = seen.errors | seen.corrupt
    silent = {pts for pts, _, _ in seen.packets if pts not in seen.decoded} - doubtful
    gaps = _after_gaps(index)
    reasons = []
    for count, text in (
        (len(seen.errors), "packets do not decode"),
        (len(seen.corrupt) - seen.repeated, "pictures are flagged corrupt"),
        (seen.repeated, "pictures share their time with another"),
        (len(silent), "pictures do not come out of the decoder"),
        (len(gaps), "gaps between pictures"),
    ):
        if count:
            reasons.append(f"{count} {text}")
    damaged = _spread(seen.packets, index, doubtful | silent | gaps)
    lost = promised - seen.read if promised else 0
    if lost > 0:
        reasons.insert(0, f"truncated: {seen.read} of {promised} pictures are in the file")
        damaged = np.concatenate([damaged, np.ones(lost, dtype=bool)])
    elif seen.broke_off:
        reasons.insert(0, f"reading broke off: {seen.broke_off}")
    edges = np.flatnonzero(np.diff(damaged, prepend=False, append=False))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)], reasons


def _after_gaps(index: VideoIndex) -> set[int]:
    """Times of the pictures behind a gap, in files whose steps are otherwise alike."""
    steps = np.diff(index.pts)
    if len(steps) < 2:
        return set()
    usual = np.median(steps)
    alike = np.abs(steps - usual) <= max(0.1 * usual, 1)
    if alike.mean() < CONSTANT_SHARE:
        return set()  # a file of variable rate has no gaps, only long pictures
    return set(index.pts[1:][steps > GAP * usual].tolist())


def _spread(packets, index: VideoIndex, doubtful: set[int]) -> np.ndarray:
    """Mark bool [F] from each doubtful picture to the next clean key frame.

    Whatever is decoded after a doubtful packet may be built on it, until a key frame starts
    afresh; pictures that lead that key frame (open GOP) still lean on what came before it.
    """
    damaged = np.zeros(index.frames, dtype=bool)
    position = {pts: i for i, pts in enumerate(index.pts.tolist())}
    run: list[int] = []  # positions of the pictures of one damaged stretch
    fresh_from = None  # the clean key frame that ended it; its leading pictures come after it

    def close() -> None:
        if run:
            damaged[min(run) : max(run) + 1] = True
            run.clear()

    tainted = False
    for pts, _, is_key in packets:
        if pts in doubtful:
            tainted, fresh_from = True, None
        elif is_key and tainted:
            tainted, fresh_from = False, pts
        if tainted or (fresh_from is not None and pts < fresh_from):
            run.append(position[pts])
        elif fresh_from is not None and pts > fresh_from:
            fresh_from = None
            close()
    close()
    return damaged


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def main() -> None:
    """Scan one file and save row and index to an .npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--memory-mib", type=int, default=0, help="limit of address space")
    options = parser.parse_args()
    if options.memory_mib:
        limit = options.memory_mib * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    av.logging.set_level(None)
    row, index = inspect(
        options.path, options.path.stem, lambda frames: print("frames", frames, flush=True)
    )
    arrays = {} if index is None else index.to_arrays()
    with atomic_path(options.out) as temporary:
        np.savez_compressed(temporary, row=np.array(row.to_json()), **arrays)


if __name__ == "__main__":
    main()
