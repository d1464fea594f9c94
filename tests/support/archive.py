"""A small archive on which the real DAG runs, and what a run says."""

import os
import signal
import time
from pathlib import Path

import yaml

from epic100.minikitchen import write_annotations, write_video
from epic100.video.sheet import Video
from support.checkout import run_snakemake, said
from support.lab import write_sheet

VIDEOS = (
    Video("P01_01", "P01", "train", 60000 / 1001, 8.008),
    Video("P02_101", "P02", "train", 50.0, 8.0),
    Video("P02_102", "P02", "val", 50.0, 8.0),
)


def make_archive(folder: Path) -> Path:
    """A folder as a lab has it: official CSVs, a sheet, videos, a config of its own."""
    write_annotations(VIDEOS, folder / "csv", seed=2)
    write_sheet(VIDEOS, folder)
    for video in VIDEOS:
        write_video(video, video.path(folder / "archive"), seed=2)
    configure(folder)
    return folder


def configure(folder: Path, **changes) -> None:
    config = {
        "annotations": {
            "train": "csv/EPIC_100_train.csv",
            "val": "csv/EPIC_100_validation.csv",
            "test": None,
        },
        "videos": {"sheet": "sheet.tsv", "root": "archive"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))


def run(folder: Path, *arguments: str, well: bool | None = True):
    """Run the workflow there with the config there, to a good or a bad end."""
    config = ("--configfile", str(folder / "config.yaml"))
    return run_snakemake(*arguments, "--directory", str(folder), *config, well=well)


def errors(done) -> list[str]:
    """The lines in which a rule says what is wrong with its input."""
    return [line for line in said(done).splitlines() if line.startswith("error:")]


def jobs(done) -> dict[str, int]:
    """Jobs by rule, from the table that Snakemake prints before it runs."""
    lines = said(done).split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
    return {name: int(count) for name, count in (line.split() for line in lines) if name != "total"}


def stop_decoder(video):
    """Halt the process that decodes `video`, as a file system that is away would.

    It lives for a tenth of a second, so that little may be asked of all other processes.
    """
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"guarded.serve" not in (process / "cmdline").read_bytes():
                    continue
                here = Path(os.readlink(process / "cwd")) == video.parents[2]
                files = [os.readlink(file) for file in (process / "fd").iterdir()]
            except OSError:
                continue
            if here and str(video.resolve()) in files:
                os.kill(int(process.name), signal.SIGSTOP)
                return
        time.sleep(0.005)
    raise AssertionError("no decoder came")
