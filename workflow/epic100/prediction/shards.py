"""Finished videos of a prediction that may be cut short: a file each, beside the prediction's own.

A shard is used only where the model, the views, the video and its segments are the same; all else
is made again. The folder is no output of the workflow, since Snakemake removes the outputs of a job
that fails.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors

log = logging.getLogger(__name__)


class Shards:
    """The shards of one prediction: log-probabilities of a video's segments, by the video's path.

    They stand in `{out}.shards/{run}/`; `run` names the model and the views.
    """

    def __init__(self, out: str | os.PathLike, run: str):
        out = Path(out)
        self.folder = out.with_name(f"{out.stem}.shards")
        self.run = run

    def path(self, video: str) -> Path:
        """Where the shard of `video` (P01/P01_11.MP4) stands."""
        return self.folder / self.run / f"{video.replace('/', '_')}.pt"

    def write(self, video: str, stamp: str, log_probs: torch.Tensor) -> None:
        """Write float32 [segments, pairs] of `video`, whole or not at all."""
        write_tensors({"stamp": stamp, "log_probs": log_probs}, self.path(video))

    def read(self, video: str, stamp: str) -> torch.Tensor | None:
        """What `write` wrote under the same stamp; None where there is no such whole shard."""
        path = self.path(video)
        if not path.is_file():
            return None
        try:
            content = read_tensors(path, "a shard", "that video is predicted again")
        except BrokenFile as error:
            log.warning(str(error))
            return None
        ours = isinstance(content, dict) and content.get("stamp") == stamp
        return content["log_probs"] if ours else None

    def drop_others(self) -> None:
        """Remove the shards of other models and other views."""
        others = [path for path in self.folder.glob("*") if path.name != self.run]
        for path in others:
            shutil.rmtree(path)
        if others:
            log.info(f"{self.folder}: shards of another model or other views removed")

    def remove(self) -> None:
        """Remove all shards, once they stand in the finished file."""
        shutil.rmtree(self.folder, ignore_errors=True)


def run_key(model: str, clips: int, crops: int) -> str:
    """A short name for what shapes every row: the model's digest and the views."""
    return hashlib.sha256(f"{model} {clips} {crops}".encode()).hexdigest()[:16]


def video_stamp(file: Path, starts: Sequence[int], stops: Sequence[int]) -> str:
    """Names a video file as it is now (size, time of change) and its segments in frames."""
    stat = file.stat() if file.exists() else None
    state = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "absent"
    spans = " ".join(f"{start}-{stop}" for start, stop in zip(starts, stops, strict=True))
    return hashlib.sha256(f"{file} {state} {spans}".encode()).hexdigest()
