"""What a clip of 13 frames costs out of a full-length video, by the way it is read.

    python benchmarks/read_clips.py [VIDEO ...] [--clips 60] [--minutes 20]

Without a video it makes one of 640x360 at 59.94 fps, 90 MB in 20 minutes, a key frame every 250.
All ways read the same random clips, 13 frames x 6, in turn, each in processes of its own, and their
frames must have equal checksums (but for copies, which hold other pictures). The floor is a bare
PyAV loop, kept open: seek to the key frame before, decode up to the last wanted frame, convert
nothing. "reading MB" is what reading took on top of the imports. The last line is one JSON object.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

CLIP, INTERVAL = 13, 6
WARM_UP = 2
STOCK, FLOOR, OURS, COPY = "MMAction2 stock", "floor", "ours", "ours, copy"
WAYS = (STOCK, "decord, new reader", "decord, kept open", FLOOR, OURS)


def reader_of(way: str, path: str):
    """A function from frame numbers to frames [13, H, W, 3] (None of the floor), files open."""
    if way == STOCK:
        from mmaction.datasets.transforms import DecordDecode, DecordInit

        import epic100.mmaction  # noqa: F401

        init, decode = DecordInit(num_threads=1), DecordDecode()
        return lambda frames: np.stack(
            decode(init({"filename": path}) | {"frame_inds": np.array(frames)})["imgs"]
        )
    if way.startswith("decord"):
        import decord

        def opened():
            return decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)

        kept = opened()
        new = way == "decord, new reader"
        return lambda frames: (opened() if new else kept).get_batch(frames).asnumpy()
    from epic100.video.index import build_index
    from epic100.video.reader import VideoReader

    reader = VideoReader(path, build_index(path))
    return reader.get_frames if way != FLOOR else bare(path, reader.index)


def bare(path: str, index):
    """The least that any reader of this file must do: decode from the key frame before."""
    import av

    container = av.open(path)
    stream = container.streams.best("video")
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1

    def read(frames) -> None:
        first, last = index.pts[frames[0]], index.pts[frames[-1]]
        key = max(int(np.searchsorted(index.key_pts, first, side="right")) - 1, 0)
        container.seek(int(index.key_pts[key]), stream=stream)
        for frame in container.decode(stream):
            if frame.pts >= last:
                return

    return read


def measure(way: str, path: str, starts: list[int]) -> dict:
    """ms a clip (wall and CPU), checksum and peak memory in MB, of this process."""
    import torch  # noqa: F401  (every loader's worker has it)

    read = reader_of(way, path)
    imported = psutil.Process().memory_info().rss / 1e6
    clips = [list(range(s, s + CLIP * INTERVAL, INTERVAL)) for s in starts]
    for clip in clips[:WARM_UP]:
        read(clip)
    digest, wall, cpu = hashlib.sha256(), 0.0, 0.0
    for clip in clips[WARM_UP:]:
        began, began_cpu = time.perf_counter(), time.process_time()
        frames = read(clip)
        wall += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        if frames is not None:
            digest.update(np.ascontiguousarray(frames))
    count = len(clips) - WARM_UP
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"ms": 1e3 * wall / count, "cpu_ms": 1e3 * cpu / count, "sum": digest.hexdigest()[:12],
            "peak_mb": peak, "reading_mb": peak - imported}  # fmt: skip


def run(way: str, path: Path, starts: list[int], processes: int) -> dict:
    """`measure` in so many processes at once; the mean of their times, the largest peak."""
    command = [sys.executable, __file__, "--measure", way, str(path), json.dumps(starts)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    found = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    assert len({one["sum"] for one in found}) == 1
    return {
        "ms": float(np.mean([one["ms"] for one in found])),
        "cpu_ms": float(np.mean([one["cpu_ms"] for one in found])),
        "peak_mb": max(one["peak_mb"] for one in found),
        "reading_mb": max(one["reading_mb"] for one in found),
        "sum": found[0]["sum"],
    }


def copy_of(path: Path, folder: Path) -> Path:
    """A copy as the rule proxy makes it, with its default settings."""
    from epic100.proxy import ProxySettings, write_proxy

    copy = folder / f"{path.stem}.copy.MP4"
    write_proxy(path, copy, ProxySettings())
    return copy


def table(path: Path, starts: list[int], processes: int, copy: Path | None) -> dict:
    """All ways over one file, printed; the figures by way."""
    found = {way: run(way, path, starts, processes) for way in WAYS}
    sums = {found[way]["sum"] for way in WAYS if way != FLOOR}
    assert len(sums) == 1, f"other frames: {found}"
    if copy:
        found[COPY] = run(OURS, copy, starts, processes)
    stock, floor = found[STOCK]["ms"], found[FLOOR]["ms"]
    print(f"\n{path.name}, {path.stat().st_size / 1e6:.0f} MB, {processes} at once")
    heads = ("ms/clip", "CPU ms", "peak MB", "reading MB", "x stock", "/ floor")
    print(f"{'way':<20}" + "".join(f"{head:>11}" for head in heads))
    for way, one in found.items():
        cells = (one["ms"], one["cpu_ms"], one["peak_mb"], one["reading_mb"])
        ratio = f"{stock / one['ms']:>11.1f}{one['ms'] / floor:>11.2f}"
        print(f"{way:<20}" + "".join(f"{cell:>11.1f}" for cell in cells) + ratio)
    return found


def growth(folder: Path, clips: int) -> float:
    """ms a clip of a 40-minute file over those of a 2-minute one."""
    from camera_video import write_camera_video

    spent = {}
    for minutes in (2, 40):
        path = folder / f"{minutes}min.MP4"
        write_camera_video(path, minutes)
        spent[minutes] = run(OURS, path, random_starts(path, clips), 1)["ms"]
        path.unlink()
    print(f"\n40 minutes against 2: {spent[40]:.1f} / {spent[2]:.1f} ms a clip")
    return spent[40] / spent[2]


def random_starts(path: Path, clips: int) -> list[int]:
    """First frames of random clips, the same for the same file."""
    from epic100.video.index import build_index

    last = build_index(path).frames - CLIP * INTERVAL
    return np.random.default_rng(0).integers(0, last, clips + WARM_UP).tolist()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, path, starts = options.measure
        print(json.dumps(measure(way, path, json.loads(starts))))
        return
    import av
    import decord

    ratios: dict = {"date": time.strftime("%Y-%m-%d"), "versions": f"PyAV {av.__version__}, "
                    f"FFmpeg {av.ffmpeg_version_info}, decord {decord.__version__}"}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.videos:
            from camera_video import write_camera_video

            options.videos = [folder / "camera.MP4"]
            write_camera_video(options.videos[0], options.minutes)
        for path in options.videos:
            starts, copy = random_starts(path, options.clips), copy_of(path, folder)
            for processes in (1, 2):
                found = table(path, starts, processes, copy)
                stock, ours = found[STOCK], found[OURS]
                ratios[f"{path.name} x {processes}"] = {
                    "times_faster_than_stock": round(stock["ms"] / ours["ms"], 2),
                    "cpu_times_faster_than_stock": round(stock["cpu_ms"] / ours["cpu_ms"], 2),
                    "cpu_over_floor": round(ours["cpu_ms"] / found[FLOOR]["cpu_ms"], 3),
                    "over_floor": round(ours["ms"] / found[FLOOR]["ms"], 3),
                    "copy_times_faster_than_stock": round(stock["ms"] / found[COPY]["ms"], 2),
                    "memory_of_stock": round(ours["peak_mb"] / stock["peak_mb"], 3),
                    "reading_memory_of_stock": round(ours["reading_mb"] / stock["reading_mb"], 3),
                }
        ratios["ms_40_minutes_over_2"] = round(growth(folder, options.clips), 3)
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
