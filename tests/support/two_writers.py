"""Run two jobs for the same files at once, as happened on real clusters, and compare the files.

A job does what a rule does, by calls of the library, in a process of its own. It can be halted
before any rename below its folder: a rename gives a finished file its name.
"""

import contextlib
import itertools
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import av
import psutil
import torch

from epic100.features.probe import train_probe
from epic100.proxy.copies import make_proxies
from epic100.proxy.precut import cut_participant
from epic100.scan import scan_participant
from epic100.settings import PredictSettings, ProbeSettings, TimelineSettings, read_settings
from epic100.timeline.clips import scanned_video
from epic100.timeline.model import ModelInUse
from epic100.timeline.run import make_timeline
from epic100.video.index_file import load_indexes
from epic100.video.sheet import Video
from support.lab import Lab
from support.models import predicted, save_random_model
from support.small_features import make, tokens
from support.small_runs import copy_results, processes, run

# SMALL has the settings of copies. CHANGES names columns whose values differ between runs.
SMALL = {"height": 48, "gop": 12, "crf": 30}
CHANGES = ("samples_per_s", "data_share", "seconds", "bytes")
LOG = "renames.log"


def videos_of(lab: Lab) -> list[Video]:
    """The videos of P01, the participant of all jobs here."""
    return [video for video in lab.videos.values() if video.participant_id == "P01"]


def scan(lab: Lab, made: Path, out: Path) -> None:
    index = out / "scan/P01.index.npz"
    scan_participant(videos_of(lab), lab.root, out / "scan/P01.tsv", index)


def proxy(lab: Lab, made: Path, out: Path) -> None:
    tables = {"table": out / "proxies/P01.tsv", "index": out / "proxies/P01.index.npz"}
    make_proxies(videos_of(lab), lab.root, out / "copies", **tables,
                 scan_table=f"{lab.results}/scan/P01.tsv",
                 scan_index=f"{lab.results}/scan/P01.index.npz",
                 settings=read_settings({"videos": {"proxy": SMALL}}))  # fmt: skip


def clips(lab: Lab, made: Path, out: Path) -> None:
    cut_participant(
        videos_of(lab), lab.root, out / "clips/train/P01.tsv",
        segments=f"{lab.results}/clean/train.txt", index=f"{lab.results}/scan/P01.index.npz",
        settings=read_settings({"clips": {"height": 48, "crf": 30}}),
    )  # fmt: skip


def features(lab: Lab, made: Path, out: Path) -> None:
    make(lab.folder, out / "features/P01.tsv", batch=16, stride=0.1)


def timeline(lab: Lab, made: Path, out: Path) -> None:
    found = [f"{lab.results}/scan/P01.{kind}" for kind in ("tsv", "index.npz")]
    video = scanned_video("P01_02", "P01", lab.root, *found)
    make_timeline(
        video, ModelInUse(made / "model.pth"), out / "timeline/P01_02.tsv",
        settings=TimelineSettings(stride=0.15, threshold=0),
        predict=PredictSettings(workers=0, device="cpu"),
    )  # fmt: skip


def predict(lab: Lab, made: Path, out: Path) -> None:
    segments = out / "few.txt"
    lines = Path(f"{lab.results}/clean/train.txt").read_text().splitlines(keepends=True)
    segments.write_text("".join(lines[::4]))
    predicted(lab, made / "model.pth", segments, out / "predictions/val.pt",
              clips=1, device="cpu")  # fmt: skip


def probe(lab: Lab, made: Path, out: Path) -> None:
    train_probe(
        ProbeSettings(epochs=5), out / "model.pth", out / "training.tsv", out / "trials.tsv",
        split="train", segments=f"{lab.results}/clean/train.txt",
        val=f"{lab.results}/clean/val.txt", pairs=f"{lab.results}/clean/pairs.tsv",
        indexes=sorted(made.glob("features/*.tokens.json")),
        classes=(97, 300), names={},
    )  # fmt: skip


def train(lab: Lab, made: Path, out: Path) -> None:
    run(lab, out / "results", workers=0, checkpoint={"seconds": 0.001})


# Each job has a function (lab, folder of inputs, folder of outputs) and patterns of its files. A
# job's notes for itself are not compared.
JOBS: dict[str, tuple[Callable[[Lab, Path, Path], None], tuple[str, ...]]] = {
    "scan": (scan, ("scan/P01.*",)),
    "proxy": (proxy, ("proxies/*", "copies/*/*.MP4")),
    "clips": (clips, ("clips/train/P01.tsv", "clips/train/P01/*")),
    "features": (features, ("features/*",)),
    "timeline": (timeline, ("timeline/*",)),
    "predict": (predict, ("predictions/*.pt",)),
    "probe": (probe, ("model.pth", "training.tsv")),
    "train": (train, ("results/model.pth", "results/training.tsv")),
}


@dataclass(frozen=True)
class Way:
    """A way in which a second job for the same files comes about.

    Attributes:
        begins: When the second job begins: at the `start`, the `middle` or the `end` of the first.
        first_waits: Whether the first job goes on only when the second has ended.
        removes: Whether the outputs are removed before the second job, as Snakemake does.
    """

    begins: str
    first_waits: bool = False
    removes: bool = True


WAYS = {
    "A: Ctrl-C frees the folder while a job is completing": Way("end"),
    "B: a node's slurmd dies, its processes live on": Way("middle"),
    "C: sbatch is answered late, and its job submitted twice": Way("start", removes=False),
    "D: Ctrl-Z, the same command on another node, fg": Way("middle", first_waits=True),
    "E: two callers hold the folder": Way("start"),
    "F: a process of another namespace is taken for gone": Way("middle"),
    "G: an old job is taken for the new one": Way("end", first_waits=True, removes=False),
    "H: the record of a run is removed": Way("middle", removes=False),
    "two local runs": Way("end", first_waits=True),
}


class Stage:
    """Plays the ways in a folder, and compares the files with those that one job alone makes."""

    def __init__(self, lab: Lab, folder: Path):
        self.lab, self.kitchen, self.folder = lab, folder / "kitchen", folder / "stage"
        save_random_model(lab, self.kitchen / "model.pth")
        tokens(lab.folder, self.kitchen / "features")
        self._alone: dict[str, tuple[dict[str, bytes], int]] = {}

    def alone(self, job: str) -> tuple[dict[str, bytes], int]:
        """Run a job alone, and return its files and its number of renames."""
        if job not in self._alone:
            process = self._begin(job)
            process.join()
            assert process.exitcode == 0, self._said()
            self._alone[job] = self._made(job), (self.folder / LOG).read_text().count("\n")
        return self._alone[job]

    def play(self, way: str, job: str, random: Random) -> list[str]:
        """Play a way with two jobs.

        Returns:
            A line for each file that is missing or differs, each temporary file that is left, and a
            failed second job.
        """
        alone, renames = self.alone(job)
        how = WAYS[way]
        middle = random.randint(1, renames)
        first = self._begin(job, {"start": 0, "middle": middle, "end": renames}[how.begins])
        if how.begins != "start":
            _wait_for(first)
        if how.removes:
            self._remove(job)
        halt = 0 if how.first_waits else random.randint(1, renames)
        second = self._begin(job, halt, new=False)
        _wait_for(second)
        for process in (first, second):
            if process.is_alive():
                os.kill(process.pid, signal.SIGCONT)
            process.join()
        made = self._made(job)
        harmed = [
            f"{name}: {_lines(alone, name) ^ _lines(made, name)}"
            for name in alone | made
            if alone.get(name) != made.get(name)
        ]
        failed = [f"the second job: {self._said()}"] if second.exitcode else []
        return [f"{way}, {job}: {fault}" for fault in (*harmed, *failed)]

    def _begin(self, job: str, halt: int = 0, new: bool = True):
        """Start a job, halted before the rename `halt` (0: never), in a new or the old folder."""
        if new:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            if job == "train":
                copy_results(self.lab, self.folder)
        arguments = (job, self.lab, self.kitchen, self.folder, halt)
        process = processes.Process(target=_work, args=arguments)
        process.start()
        return process

    def _said(self) -> str:
        """The end of the output of the jobs."""
        return (self.folder / "said.txt").read_text()[-2000:]

    def _paths(self, job: str) -> list[Path]:
        """List the files of a job."""
        _, patterns = JOBS[job]
        paths = (path for pattern in patterns for path in self.folder.glob(pattern))
        return [path for path in paths if path.is_file()]

    def _remove(self, job: str) -> None:
        """Remove the outputs that Snakemake knows, but no clips, copies and features themselves."""
        for path in self._paths(job):
            if job not in ("clips", "features", "proxy") or path.suffix == ".tsv":
                path.unlink(missing_ok=True)

    def _made(self, job: str) -> dict[str, bytes]:
        """Read the contents of the files of a job, and note temporary files that are left."""
        temporary_files = self.folder.rglob(".*.tmp*")
        made = {str(path.relative_to(self.folder)): _content(path) for path in self._paths(job)}
        return made | {str(path): b"a temporary file" for path in temporary_files}


def _lines(made: dict[str, bytes], name: str) -> set[bytes]:
    """Describe a file, to show a difference: the lines of a table, the size of another file."""
    content = made.get(name, b"")
    return set(content.splitlines() if name.endswith(".tsv") else [b"%d bytes" % len(content)])


def _content(path: Path) -> bytes:
    """Read the contents of a file that must be the same in every run.

    These are tables without the columns of `CHANGES`, and the times of the pictures of films. The
    bytes of films differ now and then, by some in a thousand, if one job encodes them again.
    """
    if path.suffix.lower() == ".mp4":
        with av.open(str(path)) as film:
            return repr([(frame.pts, frame.width) for frame in film.decode(video=0)]).encode()
    if path.match("proxies/*.npz"):
        # Without its cache, the function reads the file anew each time.
        found = load_indexes.__wrapped__(path)
        return repr([(name, own.pts.tolist()) for name, own in found.items()]).encode()
    if path.suffix != ".tsv":
        return path.read_bytes()
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    header, *_ = rows
    columns = [column for column, name in enumerate(header) if name not in CHANGES]
    return "\n".join(" ".join(row[column] for column in columns) for row in rows).encode()


def _wait_for(process) -> None:
    """Wait until a process is halted or has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        watched = psutil.Process(process.pid)
        while process.is_alive() and watched.status() != psutil.STATUS_STOPPED:
            time.sleep(0.02)


def _work(job: str, lab: Lab, made: Path, folder: Path, halt: int) -> None:
    """Do a job in this process, halted before the rename with the number `halt`."""
    said = open(folder / "said.txt", "a")  # noqa: SIM115 (until the end of the process)
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    torch.set_num_threads(1)
    _halt_before(halt, folder)
    do_job, _ = JOBS[job]
    try:
        do_job(lab, made, folder)
    except BaseException:
        traceback.print_exc()
        said.flush()
        os._exit(1)


def _halt_before(number: int, folder: Path) -> None:
    """Note each rename of this process below a folder in a file there, and halt before one."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    numbers = itertools.count(1)

    def hook(event: str, arguments: tuple) -> None:
        # The arguments of a rename are the old path, the new path and two descriptors of folders.
        if event == "os.rename" and os.path.abspath(arguments[1]).startswith(f"{folder}/"):
            os.write(log, b"a rename\n")
            if next(numbers) == number:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)
