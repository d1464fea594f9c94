"""Run two jobs for the same files at once, as it happened on real clusters, and compare the files.

A job does the work of a rule by the library, in a process of its own. The process can be halted
before any rename below its folder, since a file gets its name by a rename. No test is here.
"""

import contextlib
import itertools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import av
import psutil
import torch

from epic100.pages.browse_clips import make_clips
from epic100.prediction.clip_outputs import scanned_video
from epic100.prediction.timeline_model import ModelInUse
from epic100.prediction.whole_videos import make_timeline
from epic100.scan import scan_participant
from epic100.settings.data import ProxySettings, ScanLimits
from epic100.settings.prediction import PredictSettings, TimelineSettings
from epic100.video.copies import make_proxies
from epic100.video.index_file import load_indexes
from epic100.video.sheet import Video
from support.lab import Lab
from support.models import predicted, save_random_model
from support.small_features import make
from support.small_runs import copy_results, processes, run

PROXY = {"height": 48, "gop": 12, "crf": 30}
# The values of these columns differ between runs.
VARYING = ("samples_per_s", "data_share", "seconds", "bytes")
# A job writes a line to this file for each of its renames.
LOG = "renames.log"


def videos_of(lab: Lab) -> list[Video]:
    """List the videos of the participant that jobs work on."""
    return [video for video in lab.videos.values() if video.participant_id == "P01"]


# Each of these functions does the work of a rule. It reads results of the lab, and a model in
# `made`, and writes to `out`.
def scan(lab: Lab, made: Path, out: Path) -> None:
    """Do the work of the rule scan."""
    index = out / "scan/P01.index.npz"
    scan_participant(videos_of(lab), lab.root, out / "scan/P01.tsv", index)


def proxy(lab: Lab, made: Path, out: Path) -> None:
    """Do the work of the rule proxy."""
    tables = {"table": out / "proxies/P01.tsv", "index": out / "proxies/P01.index.npz"}
    make_proxies(
        videos_of(lab),
        lab.root,
        out / "copies",
        **tables,
        scan_table=f"{lab.results}/scan/P01.tsv",
        scan_index=f"{lab.results}/scan/P01.index.npz",
        settings=ProxySettings(**PROXY),
        limits=ScanLimits(),
    )


def browse_clips(lab: Lab, made: Path, out: Path) -> None:
    """Do the work of the rule browse_clips."""
    make_clips(
        videos_of(lab),
        lab.root,
        out / "browse_clips/P01.tsv",
        segments=f"{lab.results}/clean/train.txt",
        index=f"{lab.results}/scan/P01.index.npz",
        limits=ScanLimits(),
    )


def features(lab: Lab, made: Path, out: Path) -> None:
    make(lab.folder, out / "features/P01.tsv", batch=16, stride=0.1)


def timeline(lab: Lab, made: Path, out: Path) -> None:
    scan_files = [f"{lab.results}/scan/P01.{suffix}" for suffix in ("tsv", "index.npz")]
    video = scanned_video("P01_02", "P01", lab.root, *scan_files)
    make_timeline(
        video,
        ModelInUse(made / "model.pth"),
        out / "timeline/P01_02.tsv",
        settings=TimelineSettings(stride=0.15, threshold=0),
        predict=PredictSettings(workers=0, device="cpu"),
    )


def predict(lab: Lab, made: Path, out: Path) -> None:
    segments = out / "few.txt"
    lines = Path(f"{lab.results}/clean/train.txt").read_text().splitlines(keepends=True)
    segments.write_text("".join(lines[::4]))
    predicted(lab, made / "model.pth", segments, out / "predictions/val.pt", clips=1, device="cpu")


def train(lab: Lab, made: Path, out: Path) -> None:
    run(lab, out / "results", workers=0, options={"default_hooks.checkpoint.seconds": 0.001})


# Each job has a function, and patterns of the files that are compared.
JOBS: dict[str, tuple[Callable[[Lab, Path, Path], None], tuple[str, ...]]] = {
    "scan": (scan, ("scan/P01.*",)),
    "proxy": (proxy, ("proxies/*", "copies/*/*.MP4")),
    "browse_clips": (browse_clips, ("browse_clips/P01.tsv", "browse_clips/P01/*")),
    "features": (features, ("features/*",)),
    "timeline": (timeline, ("timeline/*",)),
    "predict": (predict, ("predictions/*.pt",)),
    "train": (train, ("results/model.pth", "results/training.tsv")),
}


@dataclass(frozen=True)
class Way:
    """A situation in which a second job for the same files runs.

    Attributes:
        begins: When the second job begins: at the "start", "middle" or "end" of the first.
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
    """A folder in which two jobs work, to compare their files with the files of one job alone."""

    def __init__(self, lab: Lab, folder: Path):
        """Make a model, which is an input of the jobs."""
        self.lab = lab
        self.kitchen = folder / "kitchen"
        self.folder = folder / "stage"
        save_random_model(lab, self.kitchen / "model.pth")
        self._alone: dict[str, tuple[dict[str, bytes], int]] = {}

    def alone(self, job: str) -> tuple[dict[str, bytes], int]:
        """Return the contents of the files that a job makes alone, and its number of renames."""
        if job not in self._alone:
            process = self._begin(job)
            process.join()
            assert process.exitcode == 0, self._output()
            renames = (self.folder / LOG).read_text().count("\n")
            self._alone[job] = (self._made(job), renames)
        return self._alone[job]

    def play(self, way: str, job: str, random: Random) -> list[str]:
        """Run two jobs, and return a line for each wrong file and each failed job.

        A file is wrong if it is missing or differs, or if it is a temporary file that is left.
        """
        alone, renames = self.alone(job)
        situation = WAYS[way]
        # The first job is halted before this rename. With its first one, a training has begun.
        halts = {"start": min(2, renames), "middle": random.randint(1, renames), "end": renames}
        first = self._begin(job, halt=halts[situation.begins])
        _wait_for(first)
        if situation.removes:
            self._remove(job)
        halt = 0 if situation.first_waits else random.randint(1, renames)
        second = self._begin(job, halt, new=False)
        _wait_for(second)
        for process in (first, second):
            if process.is_alive():
                # A process that was halted goes on.
                os.kill(process.pid, signal.SIGCONT)
            process.join()
        made = self._made(job)
        # A wrong file is shown by the lines that only one of both versions has.
        wrong = [
            f"{name}: {_lines(alone, name) ^ _lines(made, name)}"
            for name in alone | made
            if alone.get(name) != made.get(name)
        ]
        if second.exitcode:
            wrong.append(f"the second job: {self._output()}")
        return [f"{way}, {job}: {line}" for line in wrong]

    def _begin(self, job: str, halt: int = 0, new: bool = True):
        """Start a job, in a new folder if `new`, that halts before rename `halt` (0: never)."""
        if new:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            if job == "train":
                copy_results(self.lab, self.folder)
        arguments = (job, self.lab, self.kitchen, self.folder, halt)
        process = processes.Process(target=_work, args=arguments)
        process.start()
        return process

    def _output(self) -> str:
        """Read the end of the output of the jobs."""
        return (self.folder / "output.txt").read_text()[-2000:]

    def _paths(self, job: str) -> list[Path]:
        """List the files of a job that are compared."""
        paths = (path for pattern in JOBS[job][1] for path in self.folder.glob(pattern))
        return [path for path in paths if path.is_file()]

    def _remove(self, job: str) -> None:
        """Remove the outputs that rules name: not the clips, copies and features themselves."""
        for path in self._paths(job):
            if job not in ("browse_clips", "features", "proxy") or path.suffix == ".tsv":
                path.unlink(missing_ok=True)

    def _made(self, job: str) -> dict[str, bytes]:
        """Read the files of a job and the temporary files that are left, by name."""
        left = self.folder.rglob(".*.tmp*")
        made = {str(path.relative_to(self.folder)): _content(path) for path in self._paths(job)}
        return made | {str(path): b"a temporary file" for path in left}


def _lines(made: dict[str, bytes], name: str) -> set[bytes]:
    """Return what a message shows of a file: the lines of a table, the size of any other file."""
    content = made.get(name, b"")
    return set(content.splitlines() if name.endswith(".tsv") else [b"%d bytes" % len(content)])


def _content(path: Path) -> bytes:
    """Read what must be the same in a file: no speeds, and of a video the times of its frames.

    The bytes of a video differ now and then, since an encoder does not always give the same ones.
    """
    if path.suffix.lower() == ".mp4":
        with av.open(str(path)) as film:
            return repr([(frame.pts, frame.width) for frame in film.decode(video=0)]).encode()
    if path.match("proxies/*.npz"):
        # Without its cache, the function reads the file anew each time.
        indexes = load_indexes.__wrapped__(path)
        return repr([(name, index.pts.tolist()) for name, index in indexes.items()]).encode()
    if path.suffix != ".tsv":
        return path.read_bytes()
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    columns = [column for column, name in enumerate(rows[0]) if name not in VARYING]
    return "\n".join(" ".join(row[column] for column in columns) for row in rows).encode()


def _wait_for(process) -> None:
    """Wait until a process is halted or has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        watched = psutil.Process(process.pid)
        while process.is_alive() and watched.status() != psutil.STATUS_STOPPED:
            time.sleep(0.02)


def _work(job: str, lab: Lab, made: Path, folder: Path, halt: int) -> None:
    """Do a job in this process, which halts before rename number `halt` (0: never)."""
    with open(folder / "output.txt", "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    # The last digits of sums depend on the number of threads.
    torch.set_num_threads(1)
    _halt_before(halt, folder)
    work, _ = JOBS[job]
    work(lab, made, folder)


def _halt_before(number: int, folder: Path) -> None:
    """Write a line to `LOG` for each rename below a folder, and halt before rename `number`."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    numbers = itertools.count(1)

    def hook(event: str, words: tuple) -> None:
        """Be called by Python before each of its events, such as ("os.rename", (old, new, ...))."""
        if event == "os.rename" and os.path.abspath(words[1]).startswith(f"{folder}/"):
            os.write(log, b"a rename\n")
            if next(numbers) == number:
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)
