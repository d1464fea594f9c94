"""Scan a file in this process. No test is here."""

from collections.abc import Callable
from pathlib import Path

from epic100.base.guarded import FileError
from epic100.scan.participant import Result
from epic100.scan.worker import scan_file
from epic100.video.ffmpeg import MAX_PIXELS
from epic100.video.index import VideoIndex
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
        result = Result.of(scan_file(path, video, max_pixels, progress))
    except FileError as error:
        return ScanRow(video_id, UNREADABLE, reason=str(error)), None
    return result.row, result.index
