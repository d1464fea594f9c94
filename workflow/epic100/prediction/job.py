"""The job that one process of a prediction gets, and how the process reports progress."""

import json
from dataclasses import asdict, dataclass

# Prefix of an output line of a process: the number of segments just finished follows.
REPORT = "@segments "


@dataclass(frozen=True)
class Job:
    """The work of one process, in plain values, because it may be sent as JSON.

    Args:
        model: The model file.
        segments: The clean list.
        out: The predictions file, whose name the folder of shards is derived from.
        run: Name of the shards' run (`shards.run_key`).
        video_root: The folder of the videos.
        index_dir: The folder of the frame indexes.
        clips: Clips per segment.
        crops: Crops per clip, 1, 3 or "whole".
        batch_size: Segments per batch, and views per forward pass.
        workers: Loader processes.
        device: The torch device.
        threads: Threads that torch uses.
        videos: By path as in `segments`: the stamp of the video's shard and its line numbers.
        modules: The config's `modules` section.
        encoder: Empty for scores. Else rows are features: "model" for those of the model file, or
            `module:Class` (`encoder.Encoder`).
    """

    model: str
    segments: str
    out: str
    run: str
    video_root: str
    index_dir: str
    clips: int
    crops: int | str
    batch_size: int
    workers: int
    device: str
    threads: int
    videos: dict[str, tuple[str, list[int]]]
    modules: dict | None = None
    encoder: str = ""

    def to_json(self) -> str:
        """Convert to JSON text, which `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read the text that `to_json` wrote."""
        return cls(**json.loads(text))
