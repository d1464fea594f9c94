"""Made-up tables of the size of EPIC-100: 700 videos, 90,000 segments. No test is here."""

import numpy as np
import pandas as pd

from epic100.video.sheet import Video, read_sheet
from support.checkout import CLASSES, ROOT

# The official CSVs have these numbers of segments.
SEGMENTS = {"train": 67217, "val": 9668, "test": 13092}


def real_sheet() -> dict[str, Video]:
    """Read the official sheet, by video id."""
    return {video.video_id: video for video in read_sheet(ROOT / "config/videos.tsv")}


def real_segments(videos: dict[str, Video], seed: int = 0, splits=SEGMENTS) -> pd.DataFrame:
    """Draw a table with the columns of a segment list and those of `annotated_segments`.

    The frequency of a class is 1/rank, lengths are log-normal about 2 s, and places are uniform.
    """
    rng = np.random.default_rng(seed)
    tables = []
    for split in splits:
        count = SEGMENTS[split]
        own = [video for video in videos.values() if video.split == split]
        length = np.array([video.duration for video in own])
        owner = rng.choice(len(own), count, p=length / length.sum())
        seconds = np.clip(rng.lognormal(np.log(1.9), 0.9, count), 0.15, 0.5 * length[owner])
        fps = np.array([video.fps for video in own])[owner]
        start = (rng.uniform(0, length[owner] - seconds) * fps).astype(int)
        labels = {task: _classes(rng, CLASSES[f"{task}s"], count) for task in ("verb", "noun")}
        if split == "test":
            labels = dict.fromkeys(labels, -1)
        names = [own[i].video_id for i in owner]
        tables.append(
            pd.DataFrame(
                {
                    "split": split,
                    "participant": [own[i].participant_id for i in owner],
                    "seconds": seconds,
                    "path": [own[i].path().as_posix() for i in owner],
                    "start": start,
                    "stop": start + np.ceil(seconds * fps).astype(int),
                    "narration_id": [f"{name}_{i}" for i, name in enumerate(names)],
                    **labels,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _classes(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Draw `size` of `count` classes, whose frequency is 1/rank."""
    weights = 1 / np.arange(1, count + 1)
    return rng.choice(count, size, p=weights / weights.sum())
