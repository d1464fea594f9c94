"""A small archive on which the real workflow runs, and readers of the output of a run."""

import contextlib
import time
from pathlib import Path

import pandas as pd
import psutil
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
# Paths in the folder of the archive.
TRAIN = Path("csv/EPIC_100_train.csv")
VAL = Path("csv/EPIC_100_validation.csv")
TAIL_VERBS = Path("csv/EPIC_100_tail_verbs.csv")
VERB_CLASSES = Path("csv/EPIC_100_verb_classes.csv")
UNSEEN = Path("csv/EPIC_100_unseen_participant_ids_validation.csv")
FILM = Path("archive/P01/P01_01.MP4")
# What lies where a file should be, after a download that went wrong.
WEB_PAGE = "<!DOCTYPE html>\n<html><body>404</body></html>\n"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def make_archive(folder: Path) -> Path:
    """Fill a folder as a lab has it: official CSVs, a sheet, videos and a config."""
    write_annotations(VIDEOS, folder / "csv", seed=2)
    write_sheet(VIDEOS, folder)
    for video in VIDEOS:
        write_video(video, video.path(folder / "archive"), seed=2)
    configure(folder)
    return folder


def configure(folder: Path, **changes) -> None:
    """Write the config of the archive; `changes` replace its sections."""
    config = {
        "annotations": {
            "train": "csv/EPIC_100_train.csv",
            "val": "csv/EPIC_100_validation.csv",
            "test": None,
        },
        "videos": {"sheet": "sheet.tsv", "root": "archive"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))


def edit(csv: Path, **columns) -> None:
    """Replace columns of a CSV; a function makes the new column from the rows."""
    pd.read_csv(csv, dtype=str).assign(**columns).to_csv(csv, index=False)


def run(folder: Path, *arguments: str, well: bool | None = True):
    """Run the workflow in a folder with its config; `well` says how it must end (`ended`)."""
    config = ("--configfile", str(folder / "config.yaml"))
    return run_snakemake(*arguments, "--directory", str(folder), *config, well=well)


def errors(done) -> list[str]:
    """List the lines of a run's output that begin with `error:`."""
    return [line for line in said(done).splitlines() if line.startswith("error:")]


def jobs(done) -> dict[str, int]:
    """Count the jobs by rule, from the table that Snakemake prints before it runs."""
    _, after_title = said(done).split("Job stats:", 1)
    table, *_ = after_title.split("\n\n")
    # The rest of the line of the title, the names of the columns and a line of dashes come first.
    _, _, _, *lines = table.splitlines()
    return {name: int(count) for name, count in (line.split() for line in lines) if name != "total"}


def stop_decoder(video):
    """Halt the process that decodes `video`, as a file system that does not answer would.

    A decoder lives for a tenth of a second only. So to save time, the folder and the files are read
    only of a process with a decoder's command.
    """
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for process in psutil.process_iter():
            # The process may end while it is checked.
            with contextlib.suppress(psutil.Error):
                is_decoder = "guarded.serve" in " ".join(process.cmdline())
                if not is_decoder or Path(process.cwd()) != video.parents[2]:
                    continue
                if str(video.resolve()) in [file.path for file in process.open_files()]:
                    process.suspend()
                    return
        time.sleep(0.005)
    raise AssertionError("no decoder came")
