"""Run the whole workflow on an archive like EPIC-KITCHENS-100, and kill it on the way.

    python benchmarks/rehearsal.py FOLDER --small [--seed 0]     # a minute on two idle cores
    python benchmarks/rehearsal.py FOLDER --csv ANNOTATIONS      # an evening on two cores
                                   [--clips 6000] [--seed 0]

Makes FOLDER/archive: videos with the ids, participants, splits and rates of config/videos.tsv, and
a sheet of them. One film a rate is encoded; each video is a copy of its stream. Then everything is
made from nothing, to both submissions, the report and the page.

With --small lengths are scaled down, and annotations made up in the official columns. One video is
absent, one truncated, one damaged in the middle, one another video. In FOLDER/killed a run gets
SIGTERM and one SIGKILL with all of its processes, each at a place drawn by the seed.
FOLDER/straight is made without a kill. Lists, tables and submissions must be equal to the byte.

At full size lengths are real (128x96), and so are the segments: the folder ANNOTATIONS has the
official CSVs, which are read and not changed. A few participants are absent, twenty videos of 700
damaged, one another video. The small model learns from --clips segments and predicts all. The run
gets SIGTERM and SIGKILL while it scans, SIGTERM while it trains and SIGKILL while it predicts.

Prints a row for each call of Snakemake, and what is over a budget of `BUDGETS`, also to
FOLDER/table.md; the last line is one JSON object. Exits with 1 if the two differ, or at full size
if a budget is exceeded. The same command goes on with a rehearsal that was stopped.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rehearsal_archive import ROOT, SMALL, full, make_archive
from tables import markdown

TARGETS = ("results/submission.pt", "results/submission.zip")
PAGES = ("results/report.html", "results/browse/index.html")
# These files must not depend on where a run was killed. Logs, times and files of weights may.
EXACT = ("segments/*.txt", "clean/*", "scan/*.tsv", "submission.pt", "submission.zip")
LOOK_SECONDS = 0.1
# Snakemake counts finished jobs in a line like `3 of 27 steps (11%) done`.
DONE = " steps ("

# The budgets leave out these files below results/.
LARGE = (
    "*.pth",
    "work_dirs/**/*",
    "features/**/*",
    "proxy/**/*",
    "browse_clips/**/*",
    "browse/clips/**/*",
)
BUDGETS = {
    "main process, share of a core": 0.02,
    "files below results/ but weights, features and copies": 3000,
    "MB below results/ but weights, features and copies": 1000.0,
}


@dataclass(frozen=True)
class Kill:
    """A signal, to the main process or to all, and its place.

    Attributes:
        after: A share of the steps that this call has to do, or the script of a rule. The clock
            starts when they are done, or it has begun.
        seconds: How long after that it is sent.
    """

    number: signal.Signals
    everyone: bool
    after: float | str
    seconds: float


@dataclass(frozen=True)
class Call:
    """What a call of Snakemake cost; CPU without processes that were killed unheard.

    Attributes:
        main_s: Seconds of CPU of Snakemake's own process.
    """

    folder: str
    end: str
    steps: int
    wall_s: float
    cpu_s: float
    main_s: float


class Running:
    """A call of Snakemake in `folder`; what it says is added to `said.txt` there."""

    def __init__(self, folder: Path, targets: tuple[str, ...], kill: Kill | None):
        folder.mkdir(exist_ok=True)
        config = folder.parent / "archive/config.yaml"
        command = [
            sys.executable,
            "-m",
            "snakemake",
            *targets,
            "--directory",
            str(folder),
            "--configfile",
            str(config),
        ]
        self._folder, self._kill = folder, kill
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._began, self._looks = time.time(), threading.Thread(target=self._look)
        self._steps, self._share, self._is_sent, self._main_s = 0, -1.0, False, 0.0

    def to_the_end(self) -> Call:
        """Wait for the end. Raises SystemExit if it fails without a kill."""
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        self._looks.start()
        try:
            with open(self._folder / "said.txt", "a") as log:
                for line in self._process.stderr or ():
                    log.write(line)
                    if DONE in line:
                        self._steps = int(line.split()[0])
                        self._share = self._steps / int(line.split()[2])
            code = self._process.wait()
        # Nothing must go on unseen, even after Ctrl-C.
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
        self._looks.join()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if code and not self._is_sent:
            raise SystemExit(f"{self._folder}/said.txt: exit {code} without a kill")
        end, kill = "whole", self._kill
        if kill and code:
            end = f"{kill.number.name} {kill.seconds:.2f} s after "
            end += f"{self._steps} steps" if isinstance(kill.after, float) else kill.after
        wall, name = time.monotonic() - began, self._folder.name
        return Call(name, end, self._steps, *(round(s, 1) for s in (wall, cpu, self._main_s)))

    def _look(self) -> None:
        """Note what the main process takes, and send the signal at its place."""
        main = psutil.Process(self._process.pid)
        while self._process.poll() is None:
            # The process may have ended.
            with suppress(psutil.Error):
                used = main.cpu_times()
                self._main_s = used.user + used.system
            kill = self._kill
            if kill and not self._is_sent and self._is_there(kill.after):
                time.sleep(kill.seconds)
                self._is_sent = True
                with suppress(ProcessLookupError):
                    (os.killpg if kill.everyone else os.kill)(self._process.pid, kill.number)
            time.sleep(LOOK_SECONDS)

    def _is_there(self, place: float | str) -> bool:
        """Whether a share of the steps is done, or a job of a rule writes its log."""
        if isinstance(place, float):
            return self._share >= place
        logs = self._folder / "results/logs"
        written = [*logs.glob(f"{place}.log"), *logs.glob(f"{place}/*.log")]
        return any(path.stat().st_mtime > self._began for path in written)


class Record:
    """What was done so far, kept in FOLDER/done.json."""

    def __init__(self, folder: Path, settings: dict[str, object]):
        """Open or begin it. Raises SystemExit if the folder is of another rehearsal."""
        self._path = folder / "done.json"
        self.calls: list[Call] = []
        self._settings = settings
        if self._path.exists():
            known = json.loads(self._path.read_text())
            if known["settings"] != settings:
                raise SystemExit(f"{folder}: holds a rehearsal with {known['settings']}")
            self.calls = [Call(**each) for each in known["calls"]]
        elif folder.is_dir() and any(folder.iterdir()):
            raise SystemExit(f"{folder}: is not empty, and holds no rehearsal")
        folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def add(self, call: Call) -> None:
        """Write the costs of a call to the file."""
        self.calls.append(call)
        self._write()

    def as_json(self) -> dict[str, object]:
        """Return the settings and the calls so far."""
        return {"settings": self._settings, "calls": [asdict(each) for each in self.calls]}

    def _write(self) -> None:
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(self.as_json(), indent=1))
        temporary.replace(self._path)


def plan(seed: int, small: bool) -> list[tuple[str, tuple[str, ...], Kill | None]]:
    """Plan the calls of Snakemake: the folder, the targets and the kill of each."""
    rng = random.Random(seed)
    if small:
        kills = [
            Kill(number, everyone, rng.uniform(0.1, 0.6), rng.uniform(0, 2))
            for number, everyone in ((signal.SIGTERM, False), (signal.SIGKILL, True))
        ]
    else:
        moments = ("scan", "scan", "train", "predict")
        kills = [
            Kill(number, number == signal.SIGKILL, moment, rng.uniform(10, 60))
            for moment, number in zip(moments, 2 * [signal.SIGTERM, signal.SIGKILL], strict=True)
        ]
    calls = [("killed", TARGETS + PAGES, kill) for kill in (*kills, None)]
    return [*calls, ("straight", TARGETS, None)] if small else calls


def differences(folder: Path) -> list[str]:
    """List the results that must be equal and are not, below `results/`."""
    folders = [folder / name / "results" for name in ("killed", "straight")]
    names = {
        path.relative_to(f).as_posix()
        for f in folders
        for pattern in EXACT
        for path in f.glob(pattern)
    }
    pairs = {name: [f / name for f in folders] for name in sorted(names)}
    return [
        name
        for name, (one, other) in pairs.items()
        if not (one.exists() and other.exists() and one.read_bytes() == other.read_bytes())
    ]


def totals(record: Record, results: Path) -> dict[str, float]:
    """Compute the figures that have a budget."""
    wall = sum(each.wall_s for each in record.calls)
    heavy = {path for pattern in LARGE for path in results.glob(pattern)}
    sizes = [path.stat().st_size for path in {*results.rglob("*")} - heavy if path.is_file()]
    main = sum(each.main_s for each in record.calls)
    figures = (main / wall, len(sizes), sum(sizes) / 1e6)
    return dict(zip(BUDGETS, figures, strict=True))


def report(record: Record, found: dict[str, float]) -> str:
    """Write the tables as Markdown."""
    head = "folder | end | steps | wall, s | CPU, s | main process, s"
    calls = markdown(head, (asdict(call).values() for call in record.calls))
    rows = ((name, f"{BUDGETS[name]:g}", f"{value:.4g}") for name, value in found.items())
    return f"{calls}\n\n{markdown('budget | limit | found', rows)}"


def main() -> None:
    """Rehearse and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder, or one to go on with")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--small", action="store_true", help="12 videos of seconds")
    which.add_argument("--csv", type=Path, help="folder of the official CSVs: full size")
    parser.add_argument("--clips", type=int, default=6000, help="of training, at full size")
    parser.add_argument("--seed", type=int, default=0, help="of segments and of the kills' places")
    options = parser.parse_args()
    folder, small = options.folder.resolve(), options.small
    settings = {name: str(value) for name, value in vars(options).items() if name != "folder"}
    record = Record(folder, settings)
    size = SMALL if small else full(options.clips)
    if not (folder / "archive/config.yaml").exists():
        make_archive(folder / "archive", size, options.seed, options.csv and options.csv.resolve())
    for name, targets, kill in plan(options.seed, small)[len(record.calls) :]:
        record.add(Running(folder / name, targets, kill).to_the_end())
    figures = totals(record, folder / "killed/results")
    tables = report(record, figures)
    (folder / "table.md").write_text(tables + "\n")
    print(tables)
    other = differences(folder) if small else []
    exceeded = [] if small else [name for name, value in figures.items() if value > BUDGETS[name]]
    print(json.dumps(record.as_json() | {"budgets": figures, "over": exceeded, "differ": other}))
    sys.exit(bool(other or exceeded))


if __name__ == "__main__":
    main()
