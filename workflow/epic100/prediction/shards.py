"""The jobs of a prediction, one per process, and its shards, one file per finished video.

A shard is used only if the model, the views, the video and its segments are unchanged; otherwise
the video is predicted again. The folder of shards is no output of the workflow, because Snakemake
removes the outputs of a job before it starts and when it fails. The shards of the last three
predictions stay. So going back to an earlier model or other views needs no new computation.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors
from epic100.prediction.encoder import MODEL
from epic100.settings import PredictSettings

log = logging.getLogger(__name__)

# Besides the shards of this prediction, those of this number of others stay.
OTHERS_KEPT = 2


@dataclass(frozen=True)
class Job:
    """The work of one process of a prediction: the videos to predict, the model and the settings.

    Args:
        model: The model file, or the folder of the encoder `hf`.
        segments: The clean list.
        out: The predictions file, whose name the folder of shards is derived from.
        run: Name of the shards' run (`run_key`).
        video_root: The folder of the videos.
        index_dir: The folder of the frame indexes.
        settings: The `predict:` section, with the number of clips and of loader processes.
        videos: By path as in `segments`: the stamp of the video's shard and its line numbers.
        modules: The config's `modules` section.
        encoder: Empty for scores. For features, the name of the encoder: "model" for the model
            file, "hf" for a Hugging Face model, or `module:Class` (`encoder.Encoder`).
        grid: For features, the highest number of tokens of a clip, in time and in each direction;
            None: one vector per clip.
        device: The torch device.
        threads: Threads that torch uses.
    """

    model: str
    segments: str
    out: str
    run: str
    video_root: str
    index_dir: str
    settings: PredictSettings
    videos: dict[str, tuple[str, list[int]]]
    modules: Mapping[str, Any] | None = None
    encoder: str = ""
    grid: Sequence[int] | None = None
    device: str = "cpu"
    threads: int = 1

    @property
    def own_encoder(self) -> str:
        """The name of the encoder if it is not the recognizer of a model file, else ""."""
        return "" if self.encoder == MODEL else self.encoder


class Shards:
    """The shards of one prediction: files with the rows of each video's segments.

    They are in `{out}.shards/{run}/`, where `{out}` is the predictions file without its suffix.

    Args:
        out: The predictions file.
        run: Name of the subfolder (`run_key`).
    """

    def __init__(self, out: str | os.PathLike, run: str):
        """Derive the folder of all shards from `out`, and store the name of the subfolder."""
        out = Path(out)
        self.folder = out.with_name(f"{out.stem}.shards")
        self.run = run

    def path(self, video: str) -> Path:
        """Return the path of the shard of a video, which lists call `P01/P01_11.MP4`."""
        return self.folder / self.run / f"{video.replace('/', '_')}.pt"

    def write(self, video: str, stamp: str, log_probs: torch.Tensor) -> None:
        """Write the rows of a video, [segments, ...], atomically."""
        write_tensors({"stamp": stamp, "log_probs": log_probs}, self.path(video))

    def read(self, video: str, stamp: str, mapped: bool = False) -> torch.Tensor | None:
        """Read the rows of a video if its shard is intact and has this stamp, else return None.

        Args:
            video: The path of the video in lists.
            stamp: The stamp that the shard must have (`video_stamp`).
            mapped: Memory-map the values, so that they stay on the disk until they are used.
        """
        path = self.path(video)
        if not path.is_file():
            return None
        try:
            content = read_tensors(
                path, what="a shard", remedy="that video is predicted again", mapped=mapped
            )
        except BrokenFile as error:
            log.warning(str(error))
            return None
        is_current = isinstance(content, dict) and content.get("stamp") == stamp
        return content["log_probs"] if is_current else None

    def keep_newest(self) -> None:
        """Remove the shards of other predictions than this one, but for the newest `OTHERS_KEPT`.

        The shards of this prediction become the newest.
        """
        # The subfolder does not exist before the first shard of this prediction.
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.folder / self.run)
        other_folders = [path for path in self.folder.glob("*") if path.name != self.run]
        other_folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in other_folders[OTHERS_KEPT:]:
            # Another process may remove the same folder.
            shutil.rmtree(path, ignore_errors=True)


def run_key(model: str, clips: int, crops: int | str) -> str:
    """Return the name of a prediction's subfolder of shards: a digest of model digest and views."""
    return hashlib.sha256(f"{model} {clips} {crops}".encode()).hexdigest()[:16]


def video_stamp(file: Path, starts: Sequence[int], stops: Sequence[int]) -> str:
    """Return the stamp of a shard: a digest of its video file and of the frames of its segments.

    The file is digested by path, size and modification time. A shard with another stamp is not
    used.
    """
    stat = file.stat() if file.exists() else None
    state = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "absent"
    spans = " ".join(f"{start}-{stop}" for start, stop in zip(starts, stops, strict=True))
    return hashlib.sha256(f"{file} {state} {spans}".encode()).hexdigest()
