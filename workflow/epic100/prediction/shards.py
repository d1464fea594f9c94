"""Shards: one file per finished video of a prediction.

A shard is used only if the model, the views, the video and its segments are unchanged; otherwise
the video is predicted again. The folder of shards is not an output of the workflow, because
Snakemake removes the outputs of a job before it starts and when it fails. So the shards of the last
predictions are kept: if another one was tried, or interrupted, the old file is put together again
from its shards.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from epic100.base.folders import remove_folder
from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors

log = logging.getLogger(__name__)

# The shards of so many other predictions are kept.
OTHERS = 2


class Shards:
    """The shards of one prediction: log-probabilities of each video's segments.

    They are in `{out}.shards/{run}/`, where `{out}` is the predictions file without its suffix.

    Args:
        out: The predictions file.
        run: Name of the model and the views (`run_key`).
    """

    def __init__(self, out: str | os.PathLike, run: str):
        out = Path(out)
        self.folder = out.with_name(f"{out.stem}.shards")
        self.run = run

    def path(self, video: str) -> Path:
        """The path of the shard of `video`, for example P01/P01_11.MP4."""
        return self.folder / self.run / f"{video.replace('/', '_')}.pt"

    def write(self, video: str, stamp: str, log_probs: torch.Tensor) -> None:
        """Write the [segments, ...] rows of a video, completely or not at all."""
        write_tensors({"stamp": stamp, "log_probs": log_probs}, self.path(video))

    def read(self, video: str, stamp: str, mapped: bool = False) -> torch.Tensor | None:
        """Read a shard that `write` wrote with the same stamp; None if there is no intact one.

        Values that are `mapped` stay on the disk until they are used.
        """
        path = self.path(video)
        if not path.is_file():
            return None
        try:
            content = read_tensors(path, "a shard", "that video is predicted again", mapped=mapped)
        except BrokenFile as error:
            log.warning(str(error))
            return None
        is_ours = isinstance(content, dict) and content.get("stamp") == stamp
        return content["log_probs"] if is_ours else None

    def keep_newest(self) -> None:
        """Remove the shards of other predictions than this one, but for the `OTHERS` newest."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.folder / self.run)  # It is the newest one now.
        other_folders = [path for path in self.folder.glob("*") if path.name != self.run]
        other_folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in other_folders[OTHERS:]:
            remove_folder(path)  # Another attempt may do the same.


def run_key(model: str, clips: int, crops: int | str) -> str:
    """A short name for what all rows depend on: the model's digest and the views."""
    return hashlib.sha256(f"{model} {clips} {crops}".encode()).hexdigest()[:16]


def video_stamp(file: Path, starts: Sequence[int], stops: Sequence[int]) -> str:
    """A digest of a video file (path, size, modification time) and its segments in frames."""
    stat = file.stat() if file.exists() else None
    state = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "absent"
    spans = " ".join(f"{start}-{stop}" for start, stop in zip(starts, stops, strict=True))
    return hashlib.sha256(f"{file} {state} {spans}".encode()).hexdigest()
