"""A video of the sheet or of any origin, with what its clips need."""

import os
from dataclasses import dataclass
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index
from epic100.video.scan_table import ScanRow, read_scan_table


@dataclass(frozen=True)
class ScannedVideo:
    """A video with all that its clips need.

    Attributes:
        name: Its name in the outputs.
        root: Folder of the videos.
        path: Its path below `root`, without spaces.
        index_dir: Folder of the frame indexes, for the loader processes.
        index: Its frame index.
        row: Its row of the scan.
    """

    name: str
    root: Path
    path: str
    index_dir: Path
    index: VideoIndex
    row: ScanRow


def scanned_video(
    video_id: str,
    participant_id: str,
    root: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
) -> ScannedVideo:
    """Describe a video of the sheet by the results of the rules scan and proxy.

    Args:
        video_id: The video.
        participant_id: Its participant.
        root: Folder of the videos, or of their small copies.
        table: The scan table of the participant.
        index: The frame indexes of the participant's files below `root`.

    Raises:
        EpicError: The video is missing or unreadable.
    """
    row = next((row for row in read_scan_table(table) if row.video_id == video_id), None)
    if row is None or not row.readable:
        state = "is not in it" if row is None else f"is {row.status}: {row.reason or 'no reason'}"
        raise EpicError(f"{table}: {video_id} {state}; expected a video that can be read")
    path, found = f"{participant_id}/{video_id}.MP4", load_index(index, video_id)
    return ScannedVideo(video_id, Path(root), path, Path(index).parent, found, row)
