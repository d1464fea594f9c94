"""Clips a second through the whole training pipeline, where the time goes, and what workers hold.

    python benchmarks/loader.py [--clips 200] [--steady 2000] [--rows 67217]

Videos are links to one made file of 640x360 at 59.94 fps, four minutes, as `camera_video.py` makes
it: fifty names, so that readers are opened and closed as in an archive. The pipeline is that of
config/lab_13x6.py (13 x 6 frames, 160 px). The last line is one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
import torch
from camera_video import write_camera_video
from mmengine.config import Config
from mmengine.dataset import pseudo_collate, worker_init_fn
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

import epic100.mmaction  # noqa: F401
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.video.index import build_index
from epic100.video.index_file import write_indexes
from epic100.video.reader import VideoReader

CONFIG = Path(__file__).resolve().parent.parent / "config" / "lab_13x6.py"
VIDEOS, MINUTES, BATCH = 50, 4, 16


class Memory(torch.utils.data.Dataset):
    """The dataset, each sample with the resident and own memory of its worker in MB."""

    def __init__(self, data):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[int, float, float]:
        self.data[i]
        memory = psutil.Process().memory_full_info()
        return os.getpid(), memory.rss / 1e6, memory.uss / 1e6


def archive(folder: Path) -> tuple[Path, Path, int]:
    """Videos P01_01 to P01_50, their indexes, and the number of frames of each."""
    (folder / "P01").mkdir()
    (folder / "scan").mkdir()
    write_camera_video(folder / "camera.MP4", MINUTES)
    index = build_index(folder / "camera.MP4")
    names = [f"P01_{number:02d}" for number in range(1, VIDEOS + 1)]
    for name in names:
        (folder / f"P01/{name}.MP4").symlink_to(folder / "camera.MP4")
    write_indexes(dict.fromkeys(names, index), folder / "scan/P01.index.npz")
    return folder, folder / "scan", index.frames


def write_list(path: Path, rows: int, videos: int, frames: int) -> None:
    """Segments at random places, about two seconds long, with eight pairs."""
    rng = np.random.default_rng(1)
    starts = rng.integers(0, frames - 200, rows)
    lengths = rng.integers(60, 190, rows)
    video = np.sort(rng.integers(1, videos + 1, rows))
    path.write_text(
        "".join(
            f"P01/P01_{v:02d}.MP4 {s} {s + n} 0 {i % 8} P01_{v:02d}_{i}\n"
            for i, (v, s, n) in enumerate(zip(video, starts, lengths, strict=True))
        )
    )
    pairs = "".join(f"{i}\t0\t{i}\t1\n" for i in range(8))
    path.with_name("pairs.tsv").write_text("pair_id\tverb\tnoun\tcount\n" + pairs)


def dataset(folder: Path, name: str, pipeline: list) -> EpicSegmentVideoDataset:
    """The list `name` with a pipeline, built and ready."""
    return EpicSegmentVideoDataset(
        str(folder / name), pipeline, pairs=str(folder / "pairs.tsv"), data_root=str(folder)
    )


def shares(data: EpicSegmentVideoDataset, order: list[int]) -> dict[str, float]:
    """ms a clip by step of the pipeline, in one process; decoding and converting apart."""
    spent: dict[str, float] = defaultdict(float)
    keep = VideoReader._keep

    def timed_keep(self, *arguments) -> None:
        began = time.perf_counter()
        keep(self, *arguments)
        spent["convert"] += time.perf_counter() - began

    VideoReader._keep = timed_keep
    for count, i in enumerate(order):
        if count == BATCH:
            spent.clear()
        sample = data.get_data_info(i)
        for step in data.pipeline.transforms:
            began = time.perf_counter()
            sample = step(sample)
            spent[type(step).__name__] += time.perf_counter() - began
    VideoReader._keep = keep
    count = len(order) - BATCH
    steps = {name: 1e3 * seconds / count for name, seconds in spent.items()}
    reading = steps.pop("DecodeSegment")
    convert = steps.pop("convert")
    parts = {"open": steps.pop("OpenSegment"), "decode": reading - convert, "convert": convert}
    batch = [data[i] for i in order[:BATCH]]
    began = time.perf_counter()
    pseudo_collate(batch)
    collate = 1e3 * (time.perf_counter() - began) / BATCH
    return parts | {"augment": sum(steps.values()), "collate": collate}


def reading_alone(data: EpicSegmentVideoDataset, order: list[int]) -> float:
    """ms a clip of full-size frames out of one reader that is kept open."""
    reader = VideoReader(data.get_data_info(0)["filename"])
    clips = []
    for i in order:
        sample = data.pipeline.transforms[1](data.get_data_info(i) | {"avg_fps": reader.fps})
        clips.append(sample["frame_inds"])
    for clip in clips[:BATCH]:
        reader.get_frames(clip)
    began = time.perf_counter()
    for clip in clips[BATCH:]:
        reader.get_frames(clip)
    return 1e3 * (time.perf_counter() - began) / (len(clips) - BATCH)


def rate(data, workers: int, order) -> float:
    """Clips a second out of a DataLoader, its start not counted."""
    loader = DataLoader(
        data, batch_size=BATCH, sampler=order, num_workers=workers, collate_fn=pseudo_collate,
        worker_init_fn=None if not workers else seeded,
    )  # fmt: skip
    batches = iter(loader)
    next(batches)
    began = time.perf_counter()
    count = sum(len(batch["inputs"]) for batch in batches)
    return count / (time.perf_counter() - began)


def seeded(worker_id: int) -> None:
    """As MMEngine's Runner starts its workers."""
    worker_init_fn(worker_id, num_workers=2, rank=0, seed=0)


def steady(data: EpicSegmentVideoDataset, clips: int) -> dict[str, float]:
    """Memory of one worker in MB after a quarter of the clips and after all of them."""
    order = (np.random.default_rng(5).permutation(len(data))[:clips]).tolist()
    loader = DataLoader(Memory(data), batch_size=1, sampler=order, num_workers=1,
                        collate_fn=lambda batch: batch[0])  # fmt: skip
    seen = list(loader)
    quarter = seen[: len(seen) // 4]
    return {
        "clips": len(seen),
        "rss_mb": round(seen[-1][1]),
        "uss_mb": round(seen[-1][2]),
        "uss_growth_mb": round(
            max(s[2] for s in seen[-len(quarter) :]) - max(s[2] for s in quarter), 1
        ),
    }


def built(folder: Path, rows: int) -> dict[str, float]:
    """Seconds and MB of a dataset of so many segments, in this process."""
    write_list(folder / "long.txt", rows, 99, 70_000)
    before, began = psutil.Process().memory_full_info().uss, time.perf_counter()
    data = dataset(folder, "long.txt", [])
    seconds = time.perf_counter() - began
    assert len(data) == rows
    mb = (psutil.Process().memory_full_info().uss - before) / 1e6
    return {"segments": rows, "seconds": round(seconds, 2), "mb": round(mb)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--steady", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=67_217)
    options = parser.parse_args()
    init_default_scope("mmaction")
    with tempfile.TemporaryDirectory() as name:
        folder, index_dir, frames = archive(Path(name))
        write_list(folder / "train.txt", max(options.steady, 40 * options.clips), VIDEOS, frames)
        pipeline = Config.fromfile(CONFIG).train_pipeline
        pipeline[0].index_dir = str(index_dir)
        startup = built(folder, options.rows)
        data = dataset(folder, "train.txt", pipeline)
        shuffled = np.random.default_rng(2).permutation(len(data))[: options.clips].tolist()
        alone = reading_alone(data, shuffled)
        parts = shares(data, shuffled)
        whole = sum(parts.values())
        print(f"reading alone {alone:.1f} ms a clip, whole pipeline {whole:.1f} ms")
        for part, ms in parts.items():
            print(f"  {part:<8}{ms:>7.1f} ms{100 * ms / whole:>6.0f} %")
        rates = {n: round(rate(data, n, shuffled), 1) for n in (1, 2)}
        for workers, figure in rates.items():
            print(f"{workers} workers{figure:>7.1f} clips/s")
        memory = steady(data, options.steady)
        print(f"worker: {memory}\ndataset: {startup}")
    print(
        json.dumps(
            {
                "pipeline_over_reading": round(whole / alone, 3),
                "share_percent": {part: round(100 * ms / whole, 1) for part, ms in parts.items()},
                "clips_per_second": rates,
                "worker": memory,
                "dataset": startup,
                "date": time.strftime("%Y-%m-%d"),
            }
        )
    )


if __name__ == "__main__":
    main()
