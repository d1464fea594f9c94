"""What copies of a video cost, and what a clip costs that is read from them.

    python benchmarks/proxies.py [VIDEO ...] [--ways 256/30/5/18 ...] [--minutes 2] [--clips 60]

Without a video it films a photograph, as `archive.py` does: 640x360 at 59.94 fps, a key frame every
250, all of the picture moves. A way is height/gop/b_frames/crf, and options of x264 that copies do
not have, such as /cabac=1. Every copy is made as the rule proxy makes it, checks included, on one
core.

Clips have 13 frames: dense (6 apart), or over a whole segment of 2 to 60 s, whose lengths are
distributed like EPIC-100's. They begin at the same random places in all files, which are read in
turn by the pipeline's own steps: pictures of the file's own size, and at training size (cropped
first). The floor decodes the same packets from memory and converts nothing. kB beyond: bytes read
(/proc/self/io) but for those from each key frame to the last wanted packet.

PSNR: luma as the copy was made. Times are CPU time. The last line is one JSON object; its hours (of
one core) and GB for the 100 h of EPIC-KITCHENS-100 are extrapolated from the file at hand.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from archive import (
    CLIP,
    CROPPED,
    DENSE,
    FORMAT,
    FULL,
    INTERVAL,
    WARM_UP,
    Clip,
    Floor,
    Read,
    bytes_read,
    ours,
)  # fmt: skip
from archive_files import film_photograph
from mmaction.registry import TRANSFORMS
from mmengine.registry import init_default_scope

import epic100.mmaction  # noqa: F401
from epic100.proxy.encoder import write_proxy
from epic100.settings import ProxySettings
from epic100.video.index import VideoIndex, build_index
from epic100.video.index_file import write_indexes

EPIC_HOURS = 100.03
ORIGINAL = "original"
WAYS = (
    "256/12/0/20", "256/30/5/18", "256/30/5/19", "256/30/0/20", "256/30/3/19", "256/30/7/19",
    "256/12/5/19", "256/60/5/19", "224/30/5/19", "256/30/5/19/cabac=1", "256/30/5/19/b-adapt=1",
)  # fmt: skip


@dataclass(frozen=True)
class Way(ProxySettings):
    """Settings of a copy, and further ones of x264, which takes the last of two values."""

    more: str = ""

    @classmethod
    def of(cls, text: str) -> "Way":
        """Parse height/gop/b_frames/crf and what follows."""
        height, gop, b_frames, crf, *more = text.split("/")
        return cls(int(height), int(gop), float(crf), int(b_frames), ":".join(more))

    def options(self) -> dict[str, str]:
        """Options of libx264."""
        options = super().options()
        if self.more:
            options["x264-params"] += f":{self.more}"
        return options


def draw(index: VideoIndex, step: dict, count: int) -> list[tuple[int, int, list[int]]]:
    """Start and length of random segments, and the frames that are read of them."""
    rng, sampler = np.random.default_rng(3), TRANSFORMS.build(step)
    np.random.seed(3)
    clips = []
    for _ in range(count + WARM_UP):
        seconds = 0.0
        while not 2 <= seconds <= min(60, 0.9 * index.times[-1]):
            seconds = rng.lognormal(np.log(1.96), 0.9)
        length = CLIP * INTERVAL if step is DENSE else int(seconds * index.fps)
        start = int(rng.integers(index.frames - length + 1))
        sample = {"total_frames": length, "start_index": start, "avg_fps": index.fps}
        clips.append((start, length, sampler.transform(sample)["frame_inds"].tolist()))
    return clips


def spent_on(read: Read, clip: Clip) -> tuple[np.ndarray, np.ndarray | None]:
    """CPU ms and bytes read, and the frames."""
    np.random.seed(clip.start)
    before, began = bytes_read(), time.process_time()
    frames = read(clip)
    spent = np.array([1e3 * (time.process_time() - began), 0.0])
    spent[1] = bytes_read() - before
    return spent, frames


def measure(path: Path, ways: list[str], folder: Path, clips: int) -> dict[str, dict]:
    """All figures of one file and its copies, by way."""
    index = build_index(path)
    (folder / "P01").mkdir()
    found: dict[str, dict] = {ORIGINAL: {}}
    files, indexes = {ORIGINAL: folder / "P01/original.MP4"}, {"original": index}
    files[ORIGINAL].symlink_to(path.resolve())
    for way in ways:
        files[way] = copy = folder / "P01" / f"{way.replace('/', '_')}.MP4"
        began = time.process_time()
        made, indexes[copy.stem] = write_proxy(path, copy, Way.of(way), index)
        spent = time.process_time() - began
        seconds, size = float(index.times[-1]), copy.stat().st_size
        found[way] = {
            "hours": EPIC_HOURS * spent / seconds,
            "gb": EPIC_HOURS * 3600 * size / seconds / 1e9,
        }
        print(f"{way}: {found[way]}", flush=True)
    write_indexes(indexes, folder / "P01.index.npz")
    for kind, step in (("dense", DENSE), ("whole", {"type": "UniformSample", "clip_len": CLIP})):
        drawn = draw(index, step, clips)
        paths = [str(file) for file in files.values()]
        read_own, read_small = (ours(folder, paths, 8, s) for s in (FULL, [*CROPPED, FORMAT]))
        floor, total = Floor(folder), {way: np.zeros(4) for way in files}
        for number, (start, length, frames) in enumerate(drawn):
            for way, file in files.items():
                clip = Clip(str(file), start, length, frames)
                own = floor.load(clip)
                least, _ = spent_on(floor, clip)
                whole, _ = spent_on(read_own, clip)
                small, _ = spent_on(read_small, clip)
                if number >= WARM_UP:
                    total[way] += (least[0], whole[0], small[0], small[1] - own)
        for way, values in total.items():
            names = ("floor", "own size", "training", "beyond")
            values[3] /= 1e3
            found[way] |= {f"{kind}, {n}": v for n, v in zip(names, values / clips, strict=True)}
    return found


def table(path: Path, found: dict[str, dict]) -> str:
    """The figures as Markdown."""
    heads = list(found[next(reversed(found))])
    lines = [f"\n{path.name}\n", f"| height/gop/b/crf | {' | '.join(heads)} |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    for way, one in found.items():
        cells = (f"{one[head]:.1f}" if head in one else "" for head in heads)
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--size", nargs=2, type=int, default=(640, 360), help="width and height")
    parser.add_argument("--clips", type=int, default=60)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    init_default_scope("mmaction")
    result: dict = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.videos:
            options.videos = [folder / "camera.MP4"]
            film_photograph(options.videos[0], options.minutes, tuple(options.size))
        for number, path in enumerate(options.videos):
            (folder / str(number)).mkdir()
            found = measure(path, list(options.ways), folder / str(number), options.clips)
            print(table(path, found), flush=True)
            result[path.name] = {
                way: {key: round(value, 3) for key, value in one.items()}
                for way, one in found.items()
            }
    result |= {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0]}
    result["versions"] = f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"
    print(json.dumps(result))


if __name__ == "__main__":
    main()
