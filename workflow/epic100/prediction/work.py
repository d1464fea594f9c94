"""The work of a prediction: which segments, in items of one video each, and what computes them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from epic100.data.segment_list import row_numbers_by
from epic100.prediction.encoder import Source
from epic100.settings.prediction import PredictSettings

# Maximum number of segments of an item. A process that is killed loses only its unfinished item.
SEGMENTS_PER_ITEM = 64


class WorkItem(NamedTuple):
    """Segments of one video, whose rows are computed together and stored in one file, a shard.

    Attributes:
        name: The video's path and the number of its first segment in the item, for the file's name.
        fingerprint: Digest of the video file's state and of the frames of the segments.
        lines: Line numbers of the segments in the segment list.
    """

    name: str
    fingerprint: str
    lines: list[int]


@dataclass(frozen=True)
class PredictionJob:
    """A prediction, or the part of one that has no shards yet.

    Args:
        source: The model or the encoder.
        segments: The segment list.
        out: The file that the rows go to; the folder of shards is named by it.
        video_root: The folder of the videos.
        index_dir: The folder of the frame indexes.
        settings: The `predict:` section, with the number of clips.
        items: All segments of the list.
        modules: The config's `modules` section.
        gives_features: Whether a row has features. Else it has scores, as log-probabilities.
        device: "cuda" or "cpu".
    """

    source: Source
    segments: str
    out: str
    video_root: str
    index_dir: str
    settings: PredictSettings
    items: list[WorkItem]
    modules: Mapping[str, Any] | None = None
    gives_features: bool = False
    device: str = "cpu"


def work_items(segments: pd.DataFrame, files: Mapping[str, Path]) -> list[WorkItem]:
    """Divide a segment list among items.

    Args:
        segments: The list, with the columns `path`, `start` and `stop`.
        files: The video file of each path.
    """
    items = []
    for path, lines in row_numbers_by(segments, "path").items():
        for first in range(0, len(lines), SEGMENTS_PER_ITEM):
            part = lines[first : first + SEGMENTS_PER_ITEM]
            name = f"{path.replace('/', '_')}.{first:07d}"
            items.append(WorkItem(name, _fingerprint(segments.iloc[part], files[path]), list(part)))
    return items


def _fingerprint(segments: pd.DataFrame, file: Path) -> str:
    """Compute a digest of a video file's path, size and time, and of the frames of segments."""
    stat = file.stat() if file.exists() else None
    state = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "absent"
    spans = segments[["start", "stop"]].to_numpy().tolist()
    return hashlib.sha256(f"{file} {state} {spans}".encode()).hexdigest()
