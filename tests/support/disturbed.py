"""The work of rules on a small lab, in processes that a failing call or a second job disturbs.

A shim (failing_calls.c, built with gcc) counts opens, reads, writes, fsyncs, renames, closes and
mkdirs of a job on the files of the lab and on its own. It lets one of them fail with EIO or ENOSPC,
kills the process there, or halts it.
"""

import errno
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest import mock

import av
import torch

from epic100.base.log import rule_log
from epic100.data.annotations import index_segments, read_annotations
from epic100.data.segment_list import write_segments
from epic100.scan.participant import scan_participant
from epic100.settings.data import ProxySettings, ScanLimits
from epic100.video.copies import make_proxies
from epic100.video.index import load_indexes
from support.checkout import CLASSES
from support.lab import FILES, Lab
from support.models import predicted
from support.small_runs import copy_results, run
from support.this_process import fork

# What the shim does at the chosen call: an error, or an order for the process.
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "killed": 0, "halted": -1}
# The values of these columns differ between runs.
VARYING = ("samples_per_s", "data_share", "seconds", "bytes")
TWO_DAYS = 2 * 24 * 3600


# Each of these functions does the work of a rule. It reads results of the lab and a model, and
# writes to `out`.
def annotate(lab: Lab, model: Path, out: Path) -> None:
    table = read_annotations(
        lab.folder / "annotations" / FILES["val"], lab.videos, split="val", classes=CLASSES
    )
    write_segments(index_segments(table, lab.videos), out / "segments/val.txt")


def scan(lab: Lab, model: Path, out: Path) -> None:
    index = out / "scan/P03.index.npz"
    scan_participant([lab.videos["P03_07"]], lab.root, out / "scan/P03.tsv", index)


def proxy(lab: Lab, model: Path, out: Path) -> None:
    make_proxies(
        [lab.videos["P03_07"]],
        lab.root,
        out / "copies",
        table=out / "proxies/P03.tsv",
        index=out / "proxies/P03.index.npz",
        scan_table=f"{lab.results}/scan/P03.tsv",
        scan_index=f"{lab.results}/scan/P03.index.npz",
        settings=ProxySettings(height=48, gop=12, crf=30),
        limits=ScanLimits(),
    )


def predict(lab: Lab, model: Path, out: Path) -> None:
    segments = out / "few.txt"
    lines = Path(f"{lab.results}/clean/train.txt").read_text().splitlines(keepends=True)
    segments.write_text("".join(lines[::4]))
    predicted(lab, model, segments, out / "predictions/val.pt", clips=1, device="cpu")


def train(lab: Lab, model: Path, out: Path) -> None:
    run(lab, out / "results", workers=0, options={"default_hooks.checkpoint.seconds": 0.001})


# Each job has a function, patterns of the outputs that its rule names, which Snakemake removes
# before the job runs again, and patterns of its other files.
JOBS: dict[str, tuple[Callable[[Lab, Path, Path], None], tuple[str, ...], tuple[str, ...]]] = {
    "annotate": (annotate, ("segments/*",), ()),
    "scan": (scan, ("scan/P03.*",), ()),
    "proxy": (proxy, ("proxies/*.tsv",), ("proxies/*.npz", "copies/*/*.MP4")),
    "predict": (predict, ("predictions/*.pt",), ()),
    "train": (train, ("results/model.pth", "results/training.tsv"), ()),
}


class Run:
    """A job that is running or has ended, and what the shim noted of it."""

    def __init__(self, future, state: Path):
        """Take the job and the file of the shim, which the trace lies beside."""
        self._future, self._state = future, state

    def wait(self) -> None:
        """Wait until the job is halted or has ended."""
        while not self._future.done() and not self._pid():
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Let a halted job go on; return its exit code, below 0 for a signal, and its last line."""
        if pid := self._pid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        code = self._future.result()
        lines = self._state.with_suffix(".said").read_text(errors="replace").strip().splitlines()
        return code, (lines or [""])[-1]

    def calls(self) -> list[str]:
        """List the calls so far, such as "open /a/scan/P03.tsv"."""
        return self._state.with_suffix(".trace").read_text().splitlines()

    def _pid(self) -> int:
        """Return the id of the process at whose call the shim did what it was to do, or 0."""
        _, pid = struct.unpack("2q", self._state.read_bytes())
        return pid


class Stage:
    """A folder in which disturbed jobs work, to compare their files with those of one job alone."""

    def __init__(self, lab: Lab, model: Path, folder: Path):
        """Build the shim, and start two processes with it, in whose forks jobs work."""
        self.lab, self.model, self.folder, self._notes = lab, model, folder / "stage", folder
        shim = folder / "failing_calls.so"
        source = Path(__file__).with_name("failing_calls.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        self.pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
        # A process starts with its first task. Only a process that starts reads LD_PRELOAD.
        with mock.patch.dict(os.environ, LD_PRELOAD=str(shim), PYTHONDONTWRITEBYTECODE="1"):
            for task in [self.pool.submit(os.getpid) for _ in range(2)]:
                task.result()
        self.runs: list[Run] = []
        self._alone: dict[str, tuple[dict[str, bytes], list[str]]] = {}

    def alone(self, job: str) -> tuple[dict[str, bytes], list[str]]:
        """Return the contents of the files that a job makes alone, and its calls."""
        if job not in self._alone:
            done = self.begin(job)
            assert done.end()[0] == 0, done.end()
            self._alone[job] = (self.made(job), done.calls())
        return self._alone[job]

    def begin(self, job: str, at: int = 0, what: str = "EIO", new: bool = True) -> Run:
        """Start a job, in a new folder if `new`, that call number `at` disturbs (0: none)."""
        if new:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            if job == "train":
                copy_results(self.lab, self.folder)
        state = self._notes / f"{time.monotonic_ns()}.state"
        # The shim writes two numbers of 8 bytes.
        state.write_bytes(bytes(16))
        state.with_suffix(".trace").touch()
        variables = {
            "FAIL_STATE": str(state),
            "FAIL_TRACE": str(state.with_suffix(".trace")),
            "FAIL_BELOW": f"{self.lab.folder}:{self.folder}",
            "FAIL_AT": str(at),
            "FAIL_ERRNO": str(ERRORS[what]),
        }
        arguments = (JOBS[job][0], (self.lab, self.model, self.folder), variables)
        self.runs.append(Run(self.pool.submit(_in_fork, *arguments), state))
        return self.runs[-1]

    def made(self, job: str) -> dict[str, bytes]:
        """Read the files of a job and the temporary files that are left, by name."""
        _, outputs, others = JOBS[job]
        paths = [path for pattern in outputs + others for path in self.folder.glob(pattern)]
        made = {str(path): _content(path) for path in paths if path.is_file()}
        return made | {str(path): b"a temporary file" for path in self.temporary_files()}

    def temporary_files(self) -> list[Path]:
        """List the temporary files that are left."""
        return [*self.folder.rglob(".*.tmp*"), *self.folder.rglob(".*.new-*")]

    def remove_outputs(self, job: str) -> None:
        """Remove the outputs of a job, as Snakemake does before it runs the job again."""
        for pattern in JOBS[job][1]:
            for path in self.folder.glob(pattern):
                path.unlink()

    def age_temporary_files(self) -> None:
        """Let two days pass, after which a writer removes the temporary files of killed ones."""
        for path in self.temporary_files():
            os.utime(path, (time.time() - TWO_DAYS,) * 2)


def _in_fork(work: Callable, arguments: tuple, variables: dict[str, str]) -> int | None:
    """Do a job in a fork of this process, and return the exit code."""
    process = fork.Process(target=_do, args=(work, arguments, variables))
    process.start()
    process.join()
    return process.exitcode


def _do(work: Callable, arguments: tuple, variables: dict[str, str]) -> None:
    """Do a job in this process as the script of a rule does, with the shim at work."""
    with Path(variables["FAIL_STATE"]).with_suffix(".said").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # The last digits of sums depend on the number of threads.
    torch.set_num_threads(1)
    os.environ.update(variables)
    with rule_log(os.devnull):
        work(*arguments)


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
