"""Folders to train in, each with videos of one size, for benchmarks/gpu.py: made in a minute."""

from pathlib import Path

import numpy as np
from camera_video import write_camera_video

from epic100.proxy.encoder import write_proxy
from epic100.settings import ProxySettings
from epic100.video.index import build_index
from epic100.video.index_file import write_indexes

# Size of the videos by name; None are small copies of those before.
SOURCES: dict[str, tuple[int, int] | None] = {
    "640x360": (640, 360),
    "copies": None,
    "1920x1080": (1920, 1080),
}
VIDEOS, PAIRS = 12, 40


def make_kitchens(
    folder: Path, sources: dict[str, tuple[int, int] | None], seconds: float
) -> dict[str, Path]:
    """A folder a source, with links to one video of so many seconds under twelve names."""
    found: dict[str, Path] = {}
    film = folder / "none.MP4"
    for source, size in sources.items():
        before, film = film, folder / f"{source}.MP4"
        if size is None:
            write_proxy(before, film, ProxySettings(), build_index(before), print_nothing)
        else:
            write_camera_video(film, seconds / 60, size)
        found[source] = _kitchen(folder / source, film, int(20 * seconds))
    return found


def print_nothing(done: int) -> None:
    """Progress is not shown."""


def _kitchen(folder: Path, film: Path, segments: int) -> Path:
    index = build_index(film)
    (folder / "P01").mkdir(parents=True)
    clean = folder / "results/clean"
    clean.mkdir(parents=True)
    (folder / "results/scan").mkdir()
    names = [f"P01_{number:02d}" for number in range(1, VIDEOS + 1)]
    for name in names:
        (folder / f"P01/{name}.MP4").symlink_to(film)
    write_indexes(dict.fromkeys(names, index), folder / "results/scan/P01.index.npz")
    rng = np.random.default_rng(1)
    starts = rng.integers(0, index.frames - 100, segments)
    lines = [
        f"P01/{names[i % VIDEOS]}.MP4 {start} {start + 90} {i % PAIRS} {i % PAIRS} P01_01_{i}\n"
        for i, start in enumerate(starts.tolist())
    ]
    (clean / "train.txt").write_text("".join(lines))
    (clean / "val.txt").write_text("".join(lines[:8]))
    pairs = "".join(f"{i}\t{i}\t{i}\t1\n" for i in range(PAIRS))
    (clean / "pairs.tsv").write_text("pair_id\tverb\tnoun\tcount\n" + pairs)
    return folder
