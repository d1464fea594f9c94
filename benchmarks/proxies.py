"""What copies of a video cost, and what they gain when clips are read from them.

    python benchmarks/proxies.py [VIDEO ...] [--minutes 2] [--size 640 360] [--clips 60]

Without a video it makes one of 640x360 at 59.94 fps, 4.5 MB a minute, a key frame every 250, whose
camera moves all of the picture. Every copy is made as the rule proxy makes it, checks included, on
one core. Clips of 13 frames begin at the same random places in all files and are read in turn, 6
frames apart at the file's own size, 6 and 12 apart at 205 pixels, among what training scales to.
PSNR: luma as the copy was made, and RGB as training sees it, both files read at 205 pixels. The
last line is one JSON object; its hours (of one core) and GB for the 100 h of EPIC-KITCHENS-100 are
extrapolated from the file at hand.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from epic100.proxy import ProxySettings, write_proxy
from epic100.video.index import build_index
from epic100.video.reader import VideoReader
from epic100.video.window import scaled_size

CLIP, WARM_UP = 13, 3
READINGS = {"ms": (6, False), "ms_205": (6, True), "ms_205_apart": (12, True)}
SHORT_SIDE = 205
EPIC_HOURS = 100.03
ORIGINAL = "original"
DEFAULT = ProxySettings()
WAYS = {
    f"{s.height} px, gop {s.gop}, crf {s.crf:g}": s
    for s in (
        DEFAULT,
        *(replace(DEFAULT, gop=gop) for gop in (6, 25, 50)),
        *(replace(DEFAULT, crf=crf) for crf in (17, 23)),
        replace(DEFAULT, height=224),
    )
}


def decibel(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR of uint8 pictures."""
    error = np.square(first.astype(np.float32) - second).mean()
    return float(10 * np.log10(255**2 / error))


def quality(original: VideoReader, copy: VideoReader) -> float:
    """PSNR in RGB of 100 pictures, both read at the size that training scales to."""
    frames = np.random.default_rng(1).choice(original.index.frames, 100, replace=False).tolist()
    size = scaled_size(copy.size, SHORT_SIDE)
    return decibel(copy.get_frames(frames, size), original.get_frames(frames, size))


def clip_times(readers: dict[str, VideoReader], clips: int, interval: int, scaled: bool) -> dict:
    """ms a clip by file, all files in turn."""
    last = readers[ORIGINAL].index.frames - CLIP * interval
    starts = np.random.default_rng(0).integers(0, last, clips + WARM_UP).tolist()
    spent = dict.fromkeys(readers, 0.0)
    for number, start in enumerate(starts):
        frames = range(start, start + CLIP * interval, interval)
        for way, reader in readers.items():
            size = scaled_size(reader.size, SHORT_SIDE) if scaled else None
            began = time.perf_counter()
            reader.get_frames(frames, size)
            if number >= WARM_UP:
                spent[way] += time.perf_counter() - began
    return {way: 1e3 * value / clips for way, value in spent.items()}


def measure(path: Path, folder: Path, clips: int) -> dict[str, dict]:
    """All figures of one file and its copies, by way."""
    index = build_index(path)
    seconds = float(index.times[-1])
    found: dict[str, dict] = {ORIGINAL: {"mb": path.stat().st_size / 1e6}}
    readers = {ORIGINAL: VideoReader(path, index)}
    for way, settings in WAYS.items():
        copy = folder / f"{way}.MP4"
        began = time.perf_counter()
        made, own = write_proxy(path, copy, settings, index)
        spent = time.perf_counter() - began
        readers[way] = VideoReader(copy, own)
        size = copy.stat().st_size
        found[way] = {
            "times_real_time": seconds / spent,
            "mb": size / 1e6,
            "mb_of_original": size / path.stat().st_size,
            "psnr_rgb": quality(readers[ORIGINAL], readers[way]),
            "psnr_luma": made.psnr,
            "epic_core_hours": EPIC_HOURS * spent / seconds,
            "epic_gb": EPIC_HOURS * 3600 * size / seconds / 1e9,
        }
    for name, (interval, scaled) in READINGS.items():
        times = clip_times(readers, clips, interval, scaled)
        for way, spent in times.items():
            found[way][name] = spent
            found[way][f"{name}_gain"] = times[ORIGINAL] / spent
    return found


def show(path: Path, found: dict[str, dict]) -> None:
    """A table for people."""
    width, height = VideoReader(path).size[::-1]
    print(f"\n{path.name}, {width}x{height}, {found[ORIGINAL]['mb']:.1f} MB")
    heads = {
        "times_real_time": "x realtime", "mb_of_original": "MB/orig.", "psnr_luma": "PSNR Y",
        "psnr_rgb": "PSNR RGB", "ms": "ms/clip", "ms_gain": "gain", "ms_205": "at 205 px",
        "ms_205_gain": "gain", "ms_205_apart": "12 apart", "ms_205_apart_gain": "gain",
        "epic_core_hours": "EPIC hours", "epic_gb": "EPIC GB",
    }  # fmt: skip
    print(f"{'':<24}" + "".join(f"{head:>12}" for head in heads.values()))
    for way, one in found.items():
        cells = (f"{one[key]:>12.2f}" if key in one else f"{'':>12}" for key in heads)
        print(f"{way:<24}" + "".join(cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--size", nargs=2, type=int, default=(640, 360), help="width and height")
    parser.add_argument("--clips", type=int, default=60)
    options = parser.parse_args()
    result: dict = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.videos:
            from camera_video import write_camera_video

            options.videos = [folder / "camera.MP4"]
            write_camera_video(options.videos[0], options.minutes, tuple(options.size))
        for path in options.videos:
            found = measure(path, folder, options.clips)
            show(path, found)
            result[path.name] = {
                way: {key: round(value, 3) for key, value in one.items()}
                for way, one in found.items()
            }
    result["date"] = time.strftime("%Y-%m-%d")
    result["versions"] = f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"
    print(json.dumps(result))


if __name__ == "__main__":
    main()
