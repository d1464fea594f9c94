"""Measure what it costs to read a clip from an archive of many long files, in several ways.

    python benchmarks/archive.py [FOLDER] [--files 64] [--minutes 20] [--clips 40] [--only ours]

Makes FOLDER: files of 640x360 with sound, 59.94 and 50 fps in turn, a key frame every 250, filmed
from a photograph and repeated by copying the stream, so that each has the headers of a file of that
length (64 of 20 minutes take 8 GB). Beside them are their copies as `videos: proxy: {}` makes them
(links to two files) and the frame indexes. Segments are drawn as in training: any file, any place,
lengths distributed like EPIC-100's.

Each way reads the same frames in a process of its own, which may take 6 GB. The ways take turns,
clip by clip, so that all see the machine's load. Full-size frames must have equal checksums.
"Ours" reads packets by their places in the file, and opens each file first, as the first epoch
does. Decord keeps one file open. The floor decodes the same
packets from memory and converts nothing. "Training size" is scaled, cropped, flipped and formatted.
Bytes are those of /proc/self/io; "KB beyond" counts those that are read beyond the packets from the
key frame to the last wanted one. Prints a Markdown table and one JSON line.
"""

import argparse
import hashlib
import json
import multiprocessing
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from archive_files import make_archive
from mmaction.registry import TRANSFORMS
from mmengine.registry import init_default_scope
from tables import machine, markdown

import epic100.mmaction  # noqa: F401
from epic100.video.index import index_path, load_index

CLIP, INTERVAL, WARM_UP = 13, 6, 2
# The logarithm of a segment's seconds has this mean and this deviation.
LENGTHS = np.log(1.96), 0.9
# How many files stay open.
KEPT = 8
# The process of a way may take this many bytes.
MOST_MEMORY = 6 << 30
DENSE = {
    "type": "SampleFrames",
    "clip_len": CLIP,
    "frame_interval": INTERVAL,
    "out_of_bound_opt": "repeat_last",
}
SEGMENT = {"type": "UniformSample", "clip_len": CLIP}
CROPPED = [
    {
        "type": "DecodeSegment",
        "short_side": (182, 228),
        "crop": "random",
        "size": 160,
        "flip_ratio": 0.5,
    }
]
FORMAT = {"type": "FormatShape", "input_format": "NCTHW"}
THEIRS = [
    {"type": "RandomRescale", "scale_range": (182, 228)},
    {"type": "RandomCrop", "size": 160},
    {"type": "Flip", "flip_ratio": 0.5},
]
FULL = [{"type": "DecodeSegment"}]


@dataclass(frozen=True)
class Clip:
    """A segment of a file, in frames, and the frames of it that are read."""

    path: str
    start: int
    length: int
    frames: list[int]

    def sample(self) -> dict[str, Any]:
        """Make the sample that a pipeline gets before the frames are read."""
        return {
            "filename": self.path,
            "narration_id": "a_segment",
            "start_index": self.start,
            "total_frames": self.length,
            "modality": "RGB",
            "num_clips": 1,
            "frame_interval": INTERVAL,
            "clip_len": CLIP,
        }


Read = Callable[[Clip], np.ndarray | list[np.ndarray] | None]


def by_steps(first: Any, others: list[Any]) -> Read:
    """Return a function that reads clips by steps of a pipeline; `first` opens the file."""

    def read(clip: Clip) -> np.ndarray | list[np.ndarray]:
        sample = first.transform(clip.sample()) | {"frame_inds": np.array(clip.frames)}
        for step in others:
            sample = step.transform(sample)
        return sample["imgs"]

    return read


def ours(scan: Path, paths: list[str], steps: list[dict]) -> Read:
    """Return a reader by the steps of this library."""
    opening = {"type": "OpenSegment", "index_dir": str(scan), "keep_open": KEPT}
    opened, *others = [TRANSFORMS.build(step) for step in (opening, *steps)]
    # The first epoch of a training opens each file, so the figures leave this cost out.
    for path in paths:
        opened.transform(Clip(path, 0, 1, []).sample())
    return by_steps(opened, others)


def mmaction2(reader: str, steps: list[dict]) -> Read:
    """Return a reader by MMAction2's steps `Decord` or `PyAV`, which open a file for each clip."""
    threads = {"num_threads": 1} if reader == "Decord" else {}
    pipeline = ({"type": f"{reader}Init", **threads}, {"type": f"{reader}Decode"}, *steps)
    first, *others = [TRANSFORMS.build(step) for step in pipeline]
    return by_steps(first, others)


def decord_kept() -> Read:
    """Return a reader by decord, with one file open."""
    import decord

    # One file, since two take 5 GB.
    open_file = lru_cache(1)(partial(decord.VideoReader, ctx=decord.cpu(0), num_threads=1))
    return lambda clip: open_file(clip.path).get_batch(clip.frames).asnumpy()


def to_training_size(make: Callable[[], Read]) -> Read:
    """Let MMAction2 scale, crop and flip the frames that another library reads."""
    read, steps = make(), [TRANSFORMS.build(step) for step in (*THEIRS, FORMAT)]

    def cropped(clip: Clip) -> np.ndarray:
        frames = list(read(clip))
        sample = clip.sample() | {"imgs": frames, "img_shape": frames[0].shape[:2]}
        for step in steps:
            sample = step.transform(sample)
        return sample["imgs"]

    return cropped


class Floor:
    """Decodes the packets of clips from memory; they are read before the clock starts."""

    def __init__(self, scan: Path):
        self._scan = scan
        self._groups: dict[int, list] = {}
        self._decoders: dict[str, Any] = {}

    def load(self, clip: Clip) -> int:
        """Read the packets of a clip, up to the last wanted picture, and count their bytes."""
        path = Path(clip.path)
        index = load_index(index_path(self._scan, path.parent.name), path.stem)
        pts = index.pts[np.unique(clip.frames)]
        keys = np.maximum(np.searchsorted(index.key_pts, pts, side="right") - 1, 0)
        groups = []
        with av.open(clip.path) as container:
            stream = container.streams.video[0]
            if clip.path not in self._decoders:
                decoder = av.CodecContext.create(stream.codec_context.name, "r")
                decoder.extradata = stream.codec_context.extradata
                decoder.thread_type, decoder.thread_count = "NONE", 1
                self._decoders[clip.path] = decoder
            for key in np.unique(keys).tolist():
                times, packets = set(pts[keys == key].tolist()), []
                left = set(times)
                container.seek(int(index.key_pts[key]), stream=stream)
                for packet in container.demux(stream):
                    if packet.size and (packets or packet.pts == index.key_pts[key]):
                        packets.append(packet)
                        left.discard(packet.pts)
                        if not left:
                            break
                groups.append((times, packets))
        self._groups[id(clip)] = groups
        return sum(packet.size for _, packets in groups for packet in packets)

    def __call__(self, clip: Clip) -> None:
        """Decode the packets of a clip, without pictures that nothing needs, as our reader does."""
        decoder = self._decoders[clip.path]
        for times, packets in self._groups.pop(id(clip)):
            decoder.flush_buffers()
            for packet in packets:
                decoder.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
                decoder.decode(packet)
            decoder.decode(None)


def draw(folder: Path, kind: str, step: dict, count: int) -> list[Clip]:
    """Draw clips of random segments, the same frames for originals and copies."""
    rng, files = np.random.default_rng(3), json.loads((folder / "files.json").read_text())
    clips = []
    np.random.seed(3)
    sampler = TRANSFORMS.build(step)
    for _ in range(count):
        name, rate, frames = files["archive"][rng.integers(len(files["archive"]))]
        length = min(int(np.clip(rng.lognormal(*LENGTHS), 0.3, 60) * rate), frames)
        start = int(rng.integers(frames - length + 1))
        sample = {"total_frames": length, "start_index": start, "avg_fps": rate}
        taken = sampler.transform(sample)["frame_inds"].tolist()
        clips.append(Clip(str(folder / kind / name), start, length, taken))
    return clips


class Reader:
    """A fork of this process, before anything is decoded here, that reads clips when asked."""

    def __init__(self, make: Callable[[], Read], clips: list[Clip]):
        processes = multiprocessing.get_context("fork")
        self._pipe, other = processes.Pipe()
        self._process = processes.Process(target=_child, args=(other, make, clips))
        self._process.start()
        other.close()
        # It is the text of an import error, or empty if all modules are there.
        self.missing = self._pipe.recv()

    def read(self, number: int) -> dict:
        """Read a clip, and return its costs as `measure` does."""
        self._pipe.send(number)
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        if not self.missing:
            self._pipe.send(None)
        self._process.join()


def _child(pipe: Any, make: Callable[[], Read], clips: list[Clip]) -> None:
    cv2.setNumThreads(0)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    try:
        read = make()
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send("")
    for number in iter(pipe.recv, None):
        pipe.send(measure(read, clips[number]))


def measure(read: Read, clip: Clip) -> dict:
    """Read a clip, and measure CPU time in ms, bytes read and peak memory; also its checksum.

    The floor also gives the bytes of its packets, as `size`.
    """
    size = read.load(clip) if isinstance(read, Floor) else 0
    # Reading /proc counts as a read too.
    overhead = -_bytes() + _bytes()
    before, began = _bytes(), time.process_time()
    frames = read(clip)
    cpu = time.process_time() - began
    count = _bytes() - before - overhead
    checksum = ""
    if frames is not None:
        checksum = hashlib.sha256(np.ascontiguousarray(frames)).hexdigest()[:12]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"cpu_ms": 1e3 * cpu, "bytes": count, "size": size, "sum": checksum, "peak_mb": peak}


def _bytes() -> int:
    """Return the bytes that this process has read so far, also from the cache."""
    return int(Path("/proc/self/io").read_text().split()[1])


def compare(folder: Path, count: int, only: str = "") -> dict[str, dict]:
    """Measure the floors and the ways whose name has `only`, each with the same clips."""
    init_default_scope("mmaction")
    files = json.loads((folder / "files.json").read_text())["archive"]
    ways: dict[str, tuple[str, dict, Callable[[], Read]]] = {}
    for version in ("original", "copy"):
        scan = folder / "scan" / version
        paths = [str(folder / version / name) for name, _, _ in files]
        ways[f"{version}: floor"] = version, DENSE, partial(Floor, scan)
        ways[f"{version}: floor, whole segment"] = version, SEGMENT, partial(Floor, scan)
        for name, step, steps in (
            ("ours", DENSE, FULL),
            ("ours, training size", DENSE, [*CROPPED, FORMAT]),
            ("ours, whole segment", SEGMENT, [*CROPPED, FORMAT]),
        ):
            ways[f"{version}: {name}"] = version, step, partial(ours, scan, paths, steps)
    ways |= {
        "original: decord, kept": ("original", DENSE, decord_kept),
        "original: MMAction2 stock": ("original", DENSE, partial(mmaction2, "Decord", [])),
    }
    trained = partial(to_training_size, decord_kept)
    ways["original: decord, training size"] = "original", DENSE, trained
    ways = {name: way for name, way in ways.items() if re.search(f"floor|{only}", name)}
    rows: dict[str, list[dict]] = {name: [] for name in ways}
    readers = {
        name: Reader(make, draw(folder, version, step, count))
        for name, (version, step, make) in ways.items()
    }
    for number in range(-WARM_UP, count):
        for name, reader in readers.items():
            # These ways need a second for each clip of a long file, so they read fewer.
            slow = name.startswith(("original: decord", "original: MMAction2 stock"))
            if reader.missing or number >= (max(3, count // 3) if slow else count):
                continue
            row = reader.read(number)
            if number >= 0:
                rows[name].append(row)
        print("clip", number, file=sys.stderr)
    for reader in readers.values():
        reader.close()
    _require_equal_frames(rows)
    return {name: _figures(some, rows[_floor_of(name)]) for name, some in rows.items()}


def _figures(rows: list[dict], floor: list[dict]) -> dict:
    if not rows:
        return {"missing": True}

    def mean(key: str, of: list[dict] = rows) -> float:
        return statistics.fmean(row[key] for row in of)

    return {
        "cpu_ms": mean("cpu_ms"),
        "of_floor": mean("cpu_ms") / mean("cpu_ms", floor),
        "mb": mean("bytes") / 1e6,
        "beyond_kb": (mean("bytes") - mean("size", floor[: len(rows)])) / 1e3,
        "peak_mb": max(row["peak_mb"] for row in rows),
    }


def _floor_of(name: str) -> str:
    version = "copy" if name.startswith("copy") else "original"
    return f"{version}: floor" + ", whole segment" * name.endswith("whole segment")


def _require_equal_frames(rows: dict[str, list[dict]]) -> None:
    others = {"original": ["decord, kept", "MMAction2 stock"], "copy": []}
    for version, more in others.items():
        ours = [row["sum"] for row in rows.get(f"{version}: ours", [])]
        for way in more:
            sums = [row["sum"] for row in rows.get(f"{version}: {way}", [])]
            assert sums == ours[: len(sums)], f"{version}, {way}: other frames"


def table(figures: dict[str, dict]) -> str:
    """Write the figures as a Markdown table."""
    rows = []
    for name, row in figures.items():
        if "missing" in row:
            rows.append((name, "not installed", *[None] * 4))
            continue
        beyond = None if "floor" in name else f"{row['beyond_kb']:.0f}"
        cpu, share = f"{row['cpu_ms']:.1f}", f"{row['of_floor']:.2f}"
        rows.append((name, cpu, share, beyond, f"{row['mb']:.2f}", f"{row['peak_mb']:.0f}"))
    return markdown("read | CPU ms | of the floor | KB beyond | MB read | peak MB", rows)


def arguments(about: str) -> argparse.ArgumentParser:
    """Make a parser of the arguments that `archive_of` needs."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--size", nargs=2, type=int, default=(640, 360), help="width and height")
    parser.add_argument("--clips", type=int, default=40)
    return parser


@contextmanager
def archive_of(given: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder of the archive, which is made unless it exists."""
    with tempfile.TemporaryDirectory() as name:
        folder = (given.folder or Path(name)).resolve()
        if not (folder / "files.json").exists():
            make_archive(folder, given.files, given.minutes, tuple(given.size))
        yield folder


def main() -> None:
    """Make the archive, unless it exists, and compare."""
    parser = arguments(__doc__)
    parser.add_argument("--only", default="", help="a pattern of the ways beside the floors")
    options = parser.parse_args()
    with archive_of(options) as folder:
        figures = compare(folder, options.clips, options.only)
    print(table(figures))
    print(json.dumps({"clips": options.clips, **machine(), "ways": figures}))


if __name__ == "__main__":
    main()
