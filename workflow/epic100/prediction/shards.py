"""A prediction, its items of one video each, and their shards: files with the rows of items.

A prediction is divided into items of one video each. The rows of each item are in a file, its
shard, so a stop loses one item. A shard is used only if the model, the views, the video and its
segments are unchanged; otherwise its rows are computed again. The folder of shards is no output of
the workflow, because Snakemake removes the outputs of a job before it starts and when it fails. The
shards of the last three predictions stay. So going back to an earlier model or other views needs no
new computation.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors
from epic100.data.segment_list import row_numbers_by
from epic100.prediction.encoder import Source
from epic100.settings.prediction import PredictSettings

log = logging.getLogger(__name__)

# Maximum number of segments of an item. A process that is killed loses only its unfinished item.
SEGMENTS_PER_ITEM = 64
# Besides the shards of this prediction, the shards of this number of others stay.
OTHERS_KEPT = 2


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


def work_items(segments: pd.DataFrame, files: Mapping[str, Path]) -> list[WorkItem]:
    """Divide a segment list among items.

    Args:
        segments: The list, with the columns `path`, `start` and `stop`.
        files: The video file of each path.
    """
    items = []
    for path, lines in row_numbers_by(segments, "path").items():
        file = files[path]
        stat = file.stat() if file.exists() else None
        state = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "absent"
        for first in range(0, len(lines), SEGMENTS_PER_ITEM):
            part = list(lines[first : first + SEGMENTS_PER_ITEM])
            spans = segments.iloc[part][["start", "stop"]].to_numpy().tolist()
            fingerprint = hashlib.sha256(f"{file} {state} {spans}".encode()).hexdigest()
            items.append(WorkItem(f"{path.replace('/', '_')}.{first:07d}", fingerprint, part))
    return items


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

    @property
    def shards(self) -> Path:
        """The folder of the shards, `{out}.shards/{digest of source and views}`."""
        source, settings = self.source, self.settings
        key = f"{source.encoder} {source.digest} {settings.clips} {settings.crops}"
        return _folder_of_shards(self.out) / hashlib.sha256(key.encode()).hexdigest()[:16]

    def write_shard(self, item: WorkItem, rows: torch.Tensor) -> None:
        """Write the rows of an item, [segments, columns], atomically."""
        path = self.shards / f"{item.name}.pt"
        write_tensors({"fingerprint": item.fingerprint, "rows": rows}, path)

    def read_shards(self) -> dict[str, torch.Tensor]:
        """Read the rows of the items that have an intact shard of their fingerprint, by name."""
        rows = {}
        for item in self.items:
            path = self.shards / f"{item.name}.pt"
            if not path.is_file():
                continue
            try:
                content = read_tensors(path, "a shard", "its segments are predicted again")
            except BrokenFile as error:
                log.warning(str(error))
                continue
            if isinstance(content, dict) and content.get("fingerprint") == item.fingerprint:
                rows[item.name] = content["rows"]
        return rows

    def keep_newest_shards(self) -> None:
        """Remove the shards of other predictions than this one, but for the newest `OTHERS_KEPT`.

        The shards of this prediction become the newest.
        """
        # The folder does not exist before the first shard of this prediction.
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.shards)
        others = [path for path in self.shards.parent.glob("*") if path != self.shards]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in others[OTHERS_KEPT:]:
            # Another process may remove the same folder.
            shutil.rmtree(path, ignore_errors=True)


def remove_shards(out: str | os.PathLike) -> None:
    """Remove the shards of a file whose rows are stored elsewhere now."""
    folder = _folder_of_shards(out)
    # A file whose name begins with a dot is being written by another attempt.
    for shard in folder.glob("*/[!.]*"):
        shard.unlink(missing_ok=True)
    for directory in (*folder.glob("*"), folder):
        # A folder that still holds a file of another attempt stays.
        with contextlib.suppress(OSError):
            directory.rmdir()


def _folder_of_shards(out: str | os.PathLike) -> Path:
    """Return the folder that has the shards of a file: `val.shards` of `val.pt`."""
    return Path(out).with_suffix(".shards")
