"""`epic100 check`: what a run in this folder would find, on one screen and without starting it."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores
from epic100.base.shipped import existing_path
from epic100.settings import Settings, layered_settings
from epic100.video.sheet import find_files, on_disk_lines, participants_of, read_sheet

Line = tuple[bool, str, str]  # whether a run can start with it, topic, state


def run(options: argparse.Namespace) -> int:
    """Print one line per topic; return 1 if one of them prevents a run from starting, else 0."""
    config = layered_settings([existing_path(path) for path in options.configfile],
                              options.directory)  # fmt: skip
    lines = [(True, "config", "is valid"), *_files(config, options.directory),
             (True, "torch", _torch())]  # fmt: skip
    for fine, about, words in lines:
        print(f"{'ok' if fine else 'MISSING':8}{about:13}{words}")
    return 0 if all(fine for fine, _, _ in lines) else 1


def _files(config: Settings, folder: Path) -> Iterator[Line]:
    """Yield lines on annotations and videos. The demo makes them, `download: true` fetches them."""
    if config.minikitchen:
        yield True, "videos", "and annotations are made by the demo"
        return
    asked, given = config.annotations, config.videos
    csvs = [path for path in (asked.train, asked.val, asked.test) if path]
    absent = [path for path in csvs if not (folder / path).exists()]
    how = "fetched by the run" if asked.download else "see `annotations: download`"
    words = f"; {', '.join(absent)}: {how}" if absent else ""
    count = f"{len(csvs) - len(absent)} of {len(csvs)} CSV files are there"
    yield not absent or asked.download, "annotations", count + words
    sheet = folder / given.sheet
    listed = read_sheet(sheet if sheet.exists() else existing_path(given.sheet))
    chosen = participants_of(listed, **config.participants.model_dump())
    videos = [video for video in listed if video.participant_id in chosen]
    files = find_files([video.path() for video in videos], folder / given.place).items()
    there = {path.stem for path, file in files if file.exists()}
    words = "; the run fetches the others" if given.download and len(there) < len(videos) else ""
    count = f"{len(there)} of the {len(videos)} of {given.sheet} are there, below {given.root}"
    yield bool(there) or given.download, "videos", count + words
    for line in list(on_disk_lines(videos, there, ""))[1:]:
        split, _, counts = line.strip().partition(": ")
        yield True, f"  {split}", counts


def _torch() -> str:
    """Describe torch and the device that training uses if the workflow chooses it."""
    try:
        import torch
    except ImportError as error:
        raise EpicError(f"torch does not load: {error}; docs/platforms.md") from error
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    names = [torch.cuda.get_device_name(n) for n in gpus] or ["no GPU here"]
    return f"{torch.__version__}; {', '.join(names)}; {usable_cores()} cores"
