"""Make tables of the size of EPIC-100: 700 videos and the segments of a split. No test is here."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from epic100.video.sheet import Video, read_sheet
from support.checkout import ROOT

# The official CSVs have 90,000 segments of 100 hours of video.
SEGMENTS_PER_HOUR = 900


def real_sheet() -> dict[str, Video]:
    """Read the official sheet, by video id."""
    return {video.video_id: video for video in read_sheet(ROOT / "config/videos.tsv")}


def real_segments(videos: dict[str, Video], splits: Collection[str]) -> pd.DataFrame:
    """Draw a segment list of the videos of these splits, with segments of two seconds."""
    rng = np.random.default_rng(0)
    rows = []
    for video in videos.values():
        if video.split in splits:
            count = round(video.duration / 3600 * SEGMENTS_PER_HOUR)
            for n, seconds in enumerate(rng.uniform(0, video.duration - 2, count)):
                start, stop = int(seconds * video.fps), int((seconds + 2) * video.fps)
                rows.append((video.path().as_posix(), start, stop, f"{video.video_id}_{n}"))
    return pd.DataFrame(rows, columns=["path", "start", "stop", "narration_id"])
