"""Compare the speed of the scan with that of a bare decode loop over the same file.

    python benchmarks/scan.py [--seconds 20 120 720] [--count 1 10] [--sizes 640x360] [--repeats 3]
                              [--threads] [video ...]
    python benchmarks/scan.py --sizes 128x96 456x256 1920x1080 --seconds 1200 240 30 --count 1

Without files it makes one of each length and size at 59.94 fps with a key frame every 250: up
to a minute of mini kitchen, over and over. Each figure is the least of the repeats, in seconds of
CPU time of all processes, their starts included on both sides. A participant has --count copies of
the file, and the bare loop then runs as often, each time in a new process. With --threads, copies
of the first file are scanned on one thread and on one thread a core, and timed by the clock, which
other work on the machine spoils: look at `load`. The last line printed is one JSON object.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from archive_files import repeated
from tables import machine

from epic100.minikitchen import write_video
from epic100.scan.participant import scan_participant
from epic100.video.build_index import build_index
from epic100.video.scan_table import OK
from epic100.video.sheet import Video

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.packets import rewrite

FPS = 60000 / 1001
CORES = len(os.sched_getaffinity(0))
BARE = """
import sys, av
with av.open(sys.argv[1]) as container:
    stream = container.streams.best("video")
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    frames = 0
    for frame in container.decode(stream):
        frames += 1
"""


def long_video(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """Write at most a minute of mini kitchen, and repeat its packets with later times."""
    filmed = min(seconds, 60)
    write_video(Video("P01_01", "P01", "train", FPS, filmed), path, seed=1, size=size)
    count = round(seconds / filmed) * round(filmed * FPS)
    rewrite(path, lambda packets: repeated(packets, count))


def cpu_seconds(action: Callable[[], object]) -> float:
    """Measure the CPU time of this process and its children while `action` runs."""
    before = os.times()
    action()
    return sum(os.times()[:4]) - sum(before[:4])


def bare(path: Path) -> None:
    """Decode a file in a bare loop, in a process of its own."""
    subprocess.run([sys.executable, "-c", BARE, str(path)], check=True)


def scan(videos: list[Video], root: Path, threads: int = 1) -> None:
    """Scan the videos from nothing, with `threads` at once."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        rows = scan_participant(
            videos,
            root,
            Path(folder) / "P01.tsv",
            Path(folder) / "P01.index.npz",
            threads=threads,
        )
    bad = [row for row in rows if row.status != OK]
    if bad:
        print(f"note: {bad[0]}")


def linked(paths: list[Path], root: Path, first: int) -> list[Video]:
    """Link the files as videos P01_{first} and so on below `root`."""
    videos = []
    for number, path in enumerate(paths):
        index = build_index(path)
        name = f"P01_{first + number:02d}"
        video = Video(name, "P01", "train", index.fps, index.frames / index.fps)
        video.path(root).unlink(missing_ok=True)
        video.path(root).symlink_to(path.resolve())
        videos.append(video)
    return videos


def compare(videos: list[Video], root: Path, repeats: int) -> dict[str, float]:
    """Measure the scan of a participant, and the bare loop."""
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: [bare(video.path(root)) for video in videos],
        "scan": lambda: scan(videos, root),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            times[name].append(cpu_seconds(run))
    least = {name: min(values) for name, values in times.items()}
    seconds = sum(video.duration for video in videos)
    return {
        "file": videos[0].path(root).resolve().stem,
        "videos": len(videos),
        "seconds of each": round(videos[0].duration, 1),
        "scan / bare": round(least["scan"] / least["bare"], 3),
        "frames a second": round(seconds * videos[0].fps / least["scan"]),
        "frames a second, bare": round(seconds * videos[0].fps / least["bare"]),
        **{f"{name} s": round(value, 2) for name, value in least.items()},
    }


def speedup(path: Path, root: Path) -> float:
    """Measure how much faster all cores scan copies of a file than one does, by the clock."""
    copies, seconds = linked([path] * 2 * CORES, root, 50), []
    for threads in (1, CORES):
        started = time.perf_counter()
        scan(copies, root, threads)
        seconds.append(time.perf_counter() - started)
    return round(seconds[0] / seconds[1], 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--seconds", nargs="+", type=int, default=[20, 120, 720])
    parser.add_argument("--count", nargs="+", type=int, default=[1, 10], help="videos")
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=["640x360"],
        metavar="WxH",
        help="of all lengths; or several, and a length for each",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", action="store_true", help="measure threads too")
    options = parser.parse_args()
    result = {**machine(), "files": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "P01").mkdir()
        paths = options.videos
        sizes = options.sizes * (len(options.seconds) if len(options.sizes) == 1 else 1)
        for seconds, size in [] if paths else zip(options.seconds, sizes, strict=True):
            paths = [*paths, root / f"{size}_{seconds}.mp4"]
            long_video(paths[-1], seconds, tuple(map(int, size.split("x"))))
        for path in paths:
            for count in options.count:
                videos = linked([path] * count, root, 1)
                result["files"].append(compare(videos, root, options.repeats))
                print(result["files"][-1], flush=True)
        if options.threads:
            result["all cores / one core"] = speedup(paths[0], root)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
