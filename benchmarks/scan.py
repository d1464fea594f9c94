"""How fast the scan is beside a bare decode loop over the same files, in the same run.

    python benchmarks/scan.py [--minutes 20] [--repeats 2] [video ...]

Without files it makes one of 640x360 at 59.94 fps: a minute of mini kitchen, over and over. Each
figure is the least of the repeats, in seconds of wall time, processes' starts included on both
sides. Threads are measured on one copy a core of a fifth of it. The last line printed is one JSON
object. Other work on the machine spoils the figure on threads first: look at `load`.
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
from pathlib import Path

import av
import numpy as np

from epic100.minikitchen import write_video
from epic100.minikitchen.packet_damage import CodedPicture, rewrite
from epic100.scan import scan_participant
from epic100.video.index import build_index
from epic100.video.scan_table import OK
from epic100.video.sheet import Video

FPS = 60000 / 1001
BARE = """
import sys, av
with av.open(sys.argv[1]) as container:
    stream = container.streams.best("video")
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    frames = 0
    for frame in container.decode(stream):
        frames += 1
"""


def long_video(path: Path, minutes: int) -> None:
    """A minute of mini kitchen, its packets repeated with later times."""
    write_video(Video("P01_01", "P01", "train", FPS, 60.0), path, seed=1, size=(640, 360))

    def repeat(packets: list[CodedPicture]) -> list[CodedPicture]:
        step = int(np.median(np.diff(sorted(p.pts for p in packets))))
        length = step * len(packets)
        return [
            CodedPicture(p.data, p.pts + i * length, p.dts + i * length, p.is_key)
            for i in range(minutes)
            for p in packets
        ]

    rewrite(path, repeat)


def bare(paths: list[Path]) -> float:
    """Seconds to decode all files in bare loops, one process a file, one after the other."""
    started = time.perf_counter()
    for path in paths:
        subprocess.run([sys.executable, "-c", BARE, str(path)], check=True)
    return time.perf_counter() - started


def scan(videos: list[Video], root: Path, threads: int, quick: bool = False) -> float:
    """Seconds to scan the videos from nothing, with `threads` at once."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        started = time.perf_counter()
        rows = scan_participant(
            videos, root, Path(folder) / "P01.tsv", Path(folder) / "P01.index.npz",
            threads=threads, quick=quick,
        )  # fmt: skip
        seconds = time.perf_counter() - started
    bad = [row for row in rows if row.status != OK]
    if bad:
        print(f"note: {bad[0]}")
    return seconds


def linked(paths: list[Path], root: Path, first: int) -> list[Video]:
    """The files as videos P01_{first} and so on, by links below `root`."""
    videos = []
    for number, path in enumerate(paths):
        index = build_index(path)
        name = f"P01_{first + number:02d}"
        video = Video(name, "P01", "train", index.fps, index.frames / index.fps)
        video.path(root).symlink_to(path.resolve())
        videos.append(video)
    return videos


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "P01").mkdir()
        cores = len(os.sched_getaffinity(0))
        shorter = options.videos
        if not options.videos:
            options.videos, shorter = [root / "long.mp4"], [root / "short.mp4"]
            long_video(options.videos[0], options.minutes)
            long_video(shorter[0], max(options.minutes // 5, 1))
        indexes = [build_index(path) for path in options.videos]
        frames = sum(index.frames for index in indexes)
        seconds = sum(float(index.times[-1]) for index in indexes)
        once = linked(options.videos, root, 1)
        copies = linked(shorter * cores, root, 50)
        times: dict[str, list[float]] = {}
        load = os.getloadavg()[0]
        for _ in range(options.repeats):
            for name, run in (
                ("bare", lambda: bare([v.path(root) for v in once])),
                ("scan", lambda: scan(once, root, 1)),
                ("quick", lambda: scan(once, root, 1, quick=True)),
                ("copies_one_thread", lambda: scan(copies, root, 1)),
                ("copies_all_cores", lambda: scan(copies, root, cores)),
            ):
                times.setdefault(name, []).append(run())
    least = {name: min(values) for name, values in times.items()}
    result = {
        "scan_over_bare": round(least["scan"] / least["bare"], 3),
        "speedup_over_cores": round(least["copies_one_thread"] / least["copies_all_cores"], 2),
        "cores": cores,
        "quick_times_faster": round(least["scan"] / least["quick"], 1),
        "quick_times_faster_than_bare": round(least["bare"] / least["quick"], 1),
        "frames_per_second": round(frames / least["scan"]),
        "times_real_time": round(seconds / least["scan"], 1),
        "frames": frames,
        "seconds": {name: round(value, 2) for name, value in least.items()},
        "load": round(load, 1),
        "date": time.strftime("%Y-%m-%d"),
        "versions": f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}",
    }
    print(f"{frames} frames, {seconds:.0f} s of video, {cores} cores, {result['versions']}")
    print(f"scan {least['scan']:.2f} s, bare loop {least['bare']:.2f} s: "
          f"{result['scan_over_bare']} times")  # fmt: skip
    print(f"{cores} threads: {result['speedup_over_cores']} times as fast as one")
    print(f"quick look: {result['quick_times_faster']} times as fast as a scan")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
