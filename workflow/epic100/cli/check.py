"""`epic100 check`: what a run in this folder would find, on one screen and without starting it."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores
from epic100.base.shipped import existing_path
from epic100.settings import Settings, layered_settings
from epic100.video.on_disk import on_disk_lines
from epic100.video.sheet import participants_of, read_sheet

Line = tuple[bool, str, str]  # whether a run can start with it, topic, state


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.epilog = "Exit code 1 where a run could not start. What would run: epic100 run -n"
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[],
        help="over config/config.yaml, as given to epic100 run",
    )  # fmt: skip
    parser.add_argument("--directory", type=Path, default=Path(), help="as given to epic100 run")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one line per topic; return 1 if one of them prevents a run from starting, else 0."""
    overlays = [existing_path(path) for path in options.configfile]
    config = layered_settings(overlays, options.directory)
    lines = [(True, "config", "is valid"), *_files(config, options.directory), _torch()]
    for fine, about, words in lines:
        print(f"{'ok' if fine else 'MISSING':8}{about:13}{words}")
    return 0 if all(fine for fine, _, _ in lines) else 1


def _files(config: Settings, folder: Path) -> Iterator[Line]:
    """Yield lines on annotations and videos. The demo makes them, `download: true` fetches them."""
    if config.minikitchen:
        yield True, "videos", "and annotations are made by the demo"
        return
    asked = config.annotations
    csvs = [path for path in (asked.train, asked.val, asked.test) if path]
    absent = [path for path in csvs if not (folder / path).exists()]
    words = f"{len(csvs) - len(absent)} of {len(csvs)} CSV files are there"
    if absent:
        how = "fetched by the run" if asked.download else "see `annotations: download`"
        words += f"; {', '.join(absent)}: {how}"
    yield not absent or asked.download, "annotations", words
    given = config.videos
    sheet = folder / given.sheet
    listed = read_sheet(sheet if sheet.exists() else existing_path(given.sheet))
    chosen = participants_of(listed, **config.participants.model_dump())
    videos = [video for video in listed if video.participant_id in chosen]
    there = [video for video in videos if video.path(folder / given.root).exists()]
    words = f"{len(there)} of the {len(videos)} of {given.sheet} are there, below {given.root}"
    if given.download and len(there) < len(videos):
        words += "; the run fetches the others"
    yield bool(there) or given.download, "videos", words
    for line in list(on_disk_lines(videos, {video.video_id for video in there}, ""))[1:]:
        split, _, counts = line.strip().partition(": ")
        yield True, f"  {split}", counts


def _torch() -> Line:
    """Return the device that training uses if the workflow chooses it."""
    try:
        import torch
    except ImportError as error:
        raise EpicError(f"torch does not load: {error}; docs/platforms.md") from error
    cores = usable_cores()
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        return True, "torch", f"{torch.__version__}; {', '.join(names)}; {cores} cores"
    return True, "torch", f"{torch.__version__}; no GPU here; {cores} cores"
