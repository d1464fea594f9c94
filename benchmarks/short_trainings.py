"""Trainings of seconds in processes of their own, for benchmarks to kill: a kitchen, a run."""

import hashlib
import mmap
import multiprocessing
import os
import shutil
import struct
import sys
import time
from pathlib import Path

from mmaction.registry import HOOKS
from mmengine.hooks import Hook

from epic100.base.log import rule_log
from epic100.minikitchen import write_annotations, write_video
from epic100.model.model_file import load_model
from epic100.scan import scan_participant
from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.cleaning import clean
from epic100.segments.segment_list import write_segments
from epic100.settings import Settings, TrainSettings
from epic100.training.run import attempts
from epic100.training.train import train
from epic100.video.sheet import Video

VIDEOS = (
    Video("P01_01", "P01", "train", 60000 / 1001, 12.012),
    Video("P01_101", "P01", "train", 50.0, 12.0),
    Video("P02_01", "P02", "val", 60000 / 1001, 8.008),
)
OPTIONS = {
    "train_dataloader.dataset.pipeline.2.short_side": [36, 40],
    "train_dataloader.dataset.pipeline.3.size": 32,
    "default_hooks.meter": {"type": "Meter"},
}
LOADERS = {
    "no workers": {"workers": 0},
    "2 workers": {"workers": 2, "options": {"train_dataloader.persistent_workers": False}},
    "2 persistent workers": {"workers": 2},
}
EPOCHS, SAVE_EVERY = 3, 3
METER = "EPIC100_METER"

# A fork server starts processes in no time, and without torch's threads.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["short_trainings", "epic100.mmaction"])


@HOOKS.register_module()
class Meter(Hook):
    """Gives the benchmark the iteration that runs, and the CPU time of this thread at each."""

    priority = "VERY_HIGH"

    def before_run(self, runner) -> None:
        """Open the shared number."""
        self.began: list[float] = []
        with open(os.environ[METER], "r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 8)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Count from 1."""
        self.shared[:] = struct.pack("q", runner.iter + 1)
        self.began.append(time.thread_time())


def film(folder: Path) -> Path:
    """Annotations, videos, scans and clean lists; returns the results folder."""
    results, csvs = folder / "results", {}
    write_annotations(VIDEOS, folder / "annotations", seed=1)
    segments = {split: str(results / f"segments/{split}.txt") for split in ("train", "val")}
    videos = {video.video_id: video for video in VIDEOS}
    for split, name in (("train", "EPIC_100_train.csv"), ("val", "EPIC_100_validation.csv")):
        csvs[split] = str(folder / "annotations" / name)
        table = load_annotations(
            csvs[split], videos, split=split, classes={"verbs": 97, "nouns": 300}
        )
        write_segments(index_segments(table, videos), segments[split])
    scans = []
    for participant in ("P01", "P02"):
        own = [video for video in VIDEOS if video.participant_id == participant]
        for video in own:
            write_video(video, video.path(folder / "videos"), seed=1)
        scans.append(str(results / f"scan/{participant}.tsv"))
        scan_participant(
            own, folder / "videos", scans[-1], results / f"scan/{participant}.index.npz"
        )
    clean(
        videos,
        Settings(),
        segments=segments,
        scans=scans,
        lists={split: str(results / f"clean/{split}.txt") for split in csvs},
        pairs=str(results / "clean/pairs.tsv"),
        dropped=str(results / "clean/dropped.tsv"),
        salvage=str(results / "clean/salvage.tsv"),
    )
    return results


class Run:
    """One training in a folder of its own: started, cut, started again, looked at."""

    def __init__(self, lab: Path, name: str, loader: str):
        self.lab, self.results = lab, lab / name / "results"
        for part in ("clean", "scan"):
            shutil.copytree(lab / "results" / part, self.results / part)
        self.meter = lab / name / "meter"
        self.meter.write_bytes(bytes(8))
        self.settings = LOADERS[loader]

    def start(self):
        """The process, leader of a group of its own."""
        job = (str(self.lab / "videos"), self.results, self.settings, str(self.meter))
        process = processes.Process(target=_train_here, args=job)
        process.start()
        return process

    def finish(self) -> str:
        """Start it (again), wait for the end; a digest of the weights."""
        process = self.start()
        process.join(120)
        if process.exitcode != 0:
            raise SystemExit(f"{self.results}: exit {process.exitcode}\n{self.said()[-2000:]}")
        state = load_model(self.results / "model.pth").state_dict
        digest = hashlib.sha256()
        for key in sorted(state):
            digest.update(state[key].numpy().tobytes())
        return digest.hexdigest()

    def said(self) -> str:
        """All that its processes said."""
        return (self.results / "said.txt").read_text()

    def resumed_from(self) -> int:
        """The batches done where it was resumed last, 0 for a start from nothing."""
        last = self.said().split("--- ")[-1]
        return (
            int(last.split("resuming from ")[1].split("iter_")[1].split(".pth")[0])
            if ("resuming from " in last)
            else 0
        )

    def iteration(self) -> int:
        """The iteration that runs, counted from 1."""
        return struct.unpack("q", self.meter.read_bytes())[0]

    def work_dir(self) -> Path:
        """Where its checkpoints stand."""
        return attempts(next((self.results / "work_dirs").iterdir()))[0]


def _train_here(root: str, results: Path, settings: dict, meter: str) -> None:
    os.setpgid(0, 0)
    os.environ[METER] = meter
    chosen = {
        "load_from": None,
        **settings,
        "options": {
            **OPTIONS,
            "default_hooks.checkpoint.iterations": SAVE_EVERY,
            **settings.get("options", {}),
        },
    }
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    with rule_log(results / "said.txt"):
        train(
            TrainSettings.model_validate(
                {"config": "config/x3d_demo.py", "epochs": EPOCHS, "batch_size": 2, **chosen}
            ),
            results / "model.pth",
            history_path=results / "training.tsv",
            results=str(results),
            video_root=root,
            num_verbs=97,
            num_nouns=300,
        )
