"""Scan or index a file in this process, and make indexes of files that do not exist.

No test is here.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from epic100.base.guarded import FileError
from epic100.scan.worker import scan_file
from epic100.video.build_index import index_packets, measured_rate
from epic100.video.ffmpeg import MAX_PIXELS
from epic100.video.index import PACKET, StreamFacts, VideoIndex
from epic100.video.scan_table import UNREADABLE, ScanRow
from epic100.video.sheet import Video


def inspect(
    path: Path,
    video_id: str,
    progress: Callable[[int], None] = lambda frames: None,
    seconds: float = 0.0,
    fps: float = 0.0,
    max_pixels: int = MAX_PIXELS,
) -> tuple[ScanRow, VideoIndex | None]:
    """Scan a file, and return its row of the scan table and its index (None: unreadable)."""
    video = Video(video_id, "", "", fps, seconds)
    try:
        answer = scan_file(path, video, max_pixels, progress)
    except FileError as error:
        return ScanRow(video_id, UNREADABLE, reason=str(error)), None
    return ScanRow.of(answer["row"]), VideoIndex.from_arrays(answer["arrays"])


def index_of(path: Path) -> VideoIndex:
    """Make the index of a file as `build_index` does, without the process that costs 0.4 s."""
    return VideoIndex.from_arrays(index_packets(path, lambda packets: None))


def index_at(times, unit: Fraction, every: int = 10**9) -> VideoIndex:
    """Make the index of a file whose frames are shown at these times, in units of `unit` seconds.

    They are decoded in this order, and each `every`-th frame is a key frame.
    """
    packets = np.zeros(len(times), PACKET)
    packets["pts"] = times
    packets["frame"] = np.argsort(times, kind="stable")
    numbers = np.arange(len(times))
    packets["offset"] = numbers
    packets["size"] = 1
    packets["shown"] = True
    packets["key"] = numbers % every == 0
    stream = StreamFacts("h264", 320, 240, "yuv420p", unit, (2, 2, 2, 2))
    rate = measured_rate(np.sort(packets["pts"]), unit)
    return VideoIndex(packets, stream, b"", len(times), rate)
