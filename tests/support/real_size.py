"""Tables of EPIC-100's size, made up: the sheet's 700 videos, 90,000 segments. No test in here."""

from pathlib import Path

import numpy as np
import pandas as pd

from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video, read_sheet
from support.checkout import CLASSES, ROOT

SEGMENTS = {"train": 67217, "val": 9668, "test": 13092}  # of the official CSVs


def real_sheet() -> dict[str, Video]:
    """The official sheet by video_id."""
    return {video.video_id: video for video in read_sheet(ROOT / "config/videos.tsv")}


def real_segments(videos: dict[str, Video], seed: int = 0, splits=SEGMENTS) -> pd.DataFrame:
    """A table with the columns of a segment list and those of `annotated_segments`.

    Classes fall off as 1/rank, lengths are log-normal about 2 s, places are uniform.
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


def real_scan(videos: dict[str, Video], seed: int = 0) -> dict[str, ScanRow]:
    """Rows of the scan tables: some 50 videos damaged, 4 unreadable, 3 missing."""
    rng = np.random.default_rng(seed)
    chosen = [str(name) for name in rng.permutation(list(videos))[:57]]
    rows = {}
    for name, video in videos.items():
        frames = round(video.duration * video.fps)
        place = chosen.index(name) if name in chosen else 99
        if place < 3:
            rows[name] = ScanRow(name, "missing", reason="no file")
        elif place < 7:
            rows[name] = ScanRow(name, "unreadable", reason="moov atom not found")
        else:
            starts = sorted(rng.integers(0, frames - 400, rng.integers(1, 5)))
            damaged = [(int(s), int(s + rng.integers(4, 260))) for s in starts]
            rows[name] = ScanRow(
                name, "ok" if place == 99 else "damaged", video.fps, frames,
                [] if place == 99 else damaged, "" if place == 99 else "packets are corrupt",
                pictures=frames,
            )  # fmt: skip
    return rows


def lost_segments(segments: pd.DataFrame, rows: dict[str, ScanRow]) -> pd.DataFrame:
    """`narration_id split reason` of the segments that touch damage, as `clean` would drop them."""
    lost = []
    for row in segments.itertuples():
        state = rows[Path(row.path).stem]
        touched = any(a < row.stop and row.start < b for a, b in state.damaged)
        if not state.readable:
            lost.append((row.narration_id, row.split, f"video {state.status}: {state.reason}"))
        elif touched:
            lost.append((row.narration_id, row.split, "touches damaged frames 12-90 (corrupt)"))
    return pd.DataFrame(lost, columns=["narration_id", "split", "reason"])


def _classes(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return rng.choice(count, size, p=weights / weights.sum())
