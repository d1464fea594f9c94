"""What one process of a prediction is told, and how it answers."""

import json
from dataclasses import asdict, dataclass

# Starts a line of a process's output that says how many segments are done.
REPORT = "@segments "


@dataclass(frozen=True)
class Job:
    """What one process does; plain values, since it may travel as JSON.

    `videos`: by path as in the list `segments`, the stamp of its shard and its lines' numbers.
    `device` as torch names it; `threads` of torch; `modules`: the config's section of that name.
    """

    model: str
    segments: str
    out: str
    run: str
    video_root: str
    index_dir: str
    clips: int
    crops: int
    batch_size: int
    workers: int
    device: str
    threads: int
    videos: dict[str, tuple[str, list[int]]]
    modules: dict | None = None

    def to_json(self) -> str:
        """As text for `Job.from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))
