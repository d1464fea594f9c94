"""What a clip costs out of an archive of many long files, by the way it is read.

    python benchmarks/archive.py [FOLDER] [--files 8] [--minutes 20] [--clips 40]

Makes FOLDER: files of 640x360 with sound, 59.94 and 50 fps in turn, a key frame every 250, filmed
from a photograph and repeated by copying the stream, so that each has the headers of a file of that
length. Beside them are their copies as `videos: proxy: {}` makes them, the frame indexes, and short
clips cut and encoded in EPIC's lengths. The default is 8 of
up to 64 files. Segments are drawn as in training: any file, any place, lengths distributed like
EPIC-100's.

Each way reads the same frames in a process of its own, and its full-size frames must have equal
checksums. The floor decodes the same packets from memory and converts nothing. Opens are those that
the kernel reports of the files of FOLDER (inotify); bytes and read calls are of /proc/self/io. The
"Containers opened" keeps one file open: of eight files, seven clips of eight open another one. The
last column is wall time after the kernel was told to drop these files from its cache
(POSIX_FADV_DONTNEED), which on a virtual disk does not empty the host's cache. Prints a Markdown
table and one JSON line.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from archive_files import Opened, drop_from_cache, make_archive
from mmaction.registry import TRANSFORMS
from mmengine.registry import init_default_scope

import epic100.mmaction  # noqa: F401
from epic100.video.index_file import index_path, load_index

CLIP, INTERVAL, WARM_UP = 13, 6, 2
DENSE = {"type": "SampleFrames", "clip_len": CLIP, "frame_interval": INTERVAL,
         "out_of_bound_opt": "repeat_last"}  # fmt: skip
SEGMENT = {"type": "UniformSample", "clip_len": CLIP}
CROPPED = [{"type": "DecodeSegment", "short_side": (182, 228), "crop": "random", "size": 160,
            "flip_ratio": 0.5}]  # fmt: skip
SCALED = [{"type": "DecodeSegment", "short_side": (182, 228)},
          {"type": "RandomCrop", "size": 160}, {"type": "Flip", "flip_ratio": 0.5}]  # fmt: skip
FORMAT = {"type": "FormatShape", "input_format": "NCTHW"}
FULL = [{"type": "DecodeSegment"}]


@dataclass(frozen=True)
class Clip:
    """A segment of a file and the frames that are read of it."""

    path: str
    start: int
    length: int
    frames: list[int]

    def sample(self) -> dict[str, Any]:
        """What the pipeline knows of it before its frames are read."""
        return {"filename": self.path, "narration_id": "a_segment", "start_index": self.start,
                "total_frames": self.length, "modality": "RGB", "num_clips": 1,
                "frame_interval": INTERVAL, "clip_len": CLIP}  # fmt: skip


Read = Callable[[Clip], np.ndarray | None]


def ours(scan: Path, paths: list[str], keep_open: int, steps: list[dict]) -> Read:
    """The pipeline's own steps."""
    opening = {"type": "OpenSegment", "index_dir": str(scan), "keep_open": keep_open}
    opened, *others = [TRANSFORMS.build(step) for step in (opening, *steps)]
    opened.load_indexes(paths)  # as the dataset does before its workers start

    def read(clip: Clip) -> np.ndarray:
        sample = opened.transform(clip.sample()) | {"frame_inds": np.array(clip.frames)}
        for step in others:
            sample = step.transform(sample)
        return np.stack(sample["imgs"]) if isinstance(sample["imgs"], list) else sample["imgs"]

    return read


def stock() -> Read:
    """MMAction2's own reader: a file is read whole for every clip."""
    init = TRANSFORMS.build({"type": "DecordInit", "num_threads": 1})
    decode = TRANSFORMS.build({"type": "DecordDecode"})

    def read(clip: Clip) -> np.ndarray:
        sample = init.transform({"filename": clip.path}) | {"frame_inds": np.array(clip.frames)}
        return np.stack(decode.transform(sample)["imgs"])

    return read


def decord_kept() -> Read:
    """decord with all files open."""
    import decord

    readers: dict[str, Any] = {}

    def read(clip: Clip) -> np.ndarray:
        if clip.path not in readers:
            readers[clip.path] = decord.VideoReader(clip.path, ctx=decord.cpu(0), num_threads=1)
        return readers[clip.path].get_batch(clip.frames).asnumpy()

    return read


def torchcodec_kept() -> Read:
    """torchcodec with all files open."""
    from torchcodec.decoders import VideoDecoder

    readers: dict[str, Any] = {}

    def read(clip: Clip) -> np.ndarray:
        if clip.path not in readers:
            readers[clip.path] = VideoDecoder(clip.path, dimension_order="NHWC",
                                              num_ffmpeg_threads=1)  # fmt: skip
        return readers[clip.path].get_frames_at(indices=clip.frames).data.numpy()

    return read


class Floor:
    """Decodes the packets of clips from memory; they are read before the clock starts."""

    def __init__(self, scan: Path):
        self._scan = scan
        self._groups: dict[int, list] = {}
        self._decoders: dict[str, Any] = {}

    def load(self, clip: Clip) -> int:
        """Read its packets, from each key frame to the last wanted picture; return their bytes."""
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
                wanted, packets = set(pts[keys == key].tolist()), []
                left = set(wanted)
                container.seek(int(index.key_pts[key]), stream=stream)
                for packet in container.demux(stream):
                    if packet.size and (packets or packet.pts == index.key_pts[key]):
                        packets.append(packet)
                        left.discard(packet.pts)
                        if not left:
                            break
                groups.append((wanted, packets))
        self._groups[id(clip)] = groups
        return sum(packet.size for _, packets in groups for packet in packets)

    def __call__(self, clip: Clip) -> None:
        """Decode them, without the pictures that nothing needs, as the reader does."""
        decoder = self._decoders[clip.path]
        for wanted, packets in self._groups.pop(id(clip)):
            decoder.flush_buffers()
            for packet in packets:
                decoder.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                decoder.decode(packet)
            decoder.decode(None)


def draw(folder: Path, kind: str, step: dict, count: int) -> list[Clip]:
    """Clips of random segments, the same frames for originals and copies."""
    rng, files = np.random.default_rng(3), json.loads((folder / "files.json").read_text())
    names = files["cut" if kind == "cut" else "archive"]
    clips = []
    np.random.seed(3)
    sampler = TRANSFORMS.build(step)
    for _ in range(count + WARM_UP):
        name, rate, frames = names[int(rng.integers(len(names)))]
        length = int(np.clip(rng.lognormal(np.log(1.96), 0.9), 0.3, 60) * rate)
        length = frames if kind == "cut" else min(length, frames)
        start = int(rng.integers(frames - length + 1))
        sample = {"total_frames": length, "start_index": start, "avg_fps": rate}
        taken = sampler.transform(sample)["frame_inds"].tolist()
        clips.append(Clip(str(folder / kind / name), start, length, taken))
    return clips


def measure(folder: Path, make: Callable[[], Read], clips: list[Clip], cold: bool) -> dict:
    """What a clip costs, in this process: ms, opens, MB and calls that read."""
    try:
        read = make()
    except ImportError as error:
        return {"missing": str(error)}
    digest, wall, cpu, opened = hashlib.sha256(), [], 0.0, Opened(folder)
    spent, own = np.zeros(2), -_io() + _io()  # reading /proc is a read too
    for number, clip in enumerate(clips):
        if isinstance(read, Floor):
            read.load(clip)
        if cold:
            drop_from_cache(folder)
        if number == WARM_UP:
            cpu, spent = 0.0, np.zeros(2)
            wall.clear()
        opened.count()
        before, began, began_cpu = _io(), time.perf_counter(), time.process_time()
        frames = read(clip)
        wall.append(time.perf_counter() - began)
        cpu += time.process_time() - began_cpu
        spent += _io() - before - own
        opened.add(number >= WARM_UP)
        if frames is not None:
            digest.update(np.ascontiguousarray(frames))
    count = len(wall)
    return {
        "ms": 1e3 * sum(wall) / count, "cpu_ms": 1e3 * cpu / count, "opens": opened.total / count,
        "mb": spent[0] / count / 1e6, "reads": spent[1] / count, "sum": digest.hexdigest()[:12],
    }  # fmt: skip


def bytes_read() -> float:
    """Bytes that this process has read so far, from the cache too."""
    return float(_io()[0])


def _io() -> np.ndarray:
    """Bytes read and calls that read, of this process so far, from the cache too."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return np.array([int(lines["rchar"]), int(lines["syscr"])], float)


def _child(send: Any, *arguments: Any) -> None:
    cv2.setNumThreads(0)
    send.send(measure(*arguments))


def in_its_own_process(*arguments: Any) -> dict:
    """`measure` in a fork of this process, which has decoded nothing yet."""
    processes = multiprocessing.get_context("fork")
    receive, send = processes.Pipe(duplex=False)
    child = processes.Process(target=_child, args=(send, *arguments))
    child.start()
    send.close()
    found = receive.recv()
    child.join()
    return found


def compare(folder: Path, count: int, cold: int) -> dict[str, dict]:
    """All ways, each with the same clips; `cold` clips of each with an empty cache."""
    init_default_scope("mmaction")
    files = json.loads((folder / "files.json").read_text())["archive"]
    ways: dict[str, tuple[str, dict, Callable[[], Read]]] = {}
    for kind in ("original", "copy"):
        scan, old = folder / "scan" / kind, folder / "scan" / f"{kind}-container"
        paths = [str(folder / kind / name) for name, _, _ in files]
        ways[f"{kind}: floor"] = kind, DENSE, partial(Floor, scan)
        for name, where, kept, step, steps in (
            ("ours", scan, 8, DENSE, FULL),
            ("ours, containers kept", old, len(files), DENSE, FULL),
            ("ours, containers opened", old, 1, DENSE, FULL),
            ("ours, crop first", scan, 8, DENSE, [*CROPPED, FORMAT]),
            ("ours, scale first", scan, 8, DENSE, [*SCALED, FORMAT]),
            ("ours, whole segment", scan, 8, SEGMENT, [*CROPPED, FORMAT]),
        ):
            ways[f"{kind}: {name}"] = kind, step, partial(ours, where, paths, kept, steps)
        ways[f"{kind}: floor, whole segment"] = kind, SEGMENT, partial(Floor, scan)
    ways |= {
        "original: decord, all kept": ("original", DENSE, decord_kept),
        "original: torchcodec, all kept": ("original", DENSE, torchcodec_kept),
        "original: MMAction2 stock": ("original", DENSE, stock),
        "cut clips: MMAction2 stock": ("cut", DENSE, stock),
    }
    found = {}
    for name, (kind, step, make) in ways.items():
        # Stock needs a second and a gigabyte a clip of a long file.
        clips = draw(folder, kind, step, count if make is not stock else max(3, count // 3))
        found[name] = in_its_own_process(folder, make, clips, False)
        if cold and "missing" not in found[name]:
            few = in_its_own_process(folder, make, clips[: cold + WARM_UP], True)
            found[name]["cold_ms"] = few["ms"]
    _require_equal_frames(found)
    return found


def _require_equal_frames(found: dict[str, dict]) -> None:
    for kind in ("original", "copy"):
        whole = ("ours", "ours, containers kept", "ours, containers opened", "decord, all kept")
        rows = {way: found.get(f"{kind}: {way}", {}).get("sum") for way in whole}
        assert len(set(rows.values()) - {None}) == 1, f"other frames: {rows}"


def table(found: dict[str, dict]) -> str:
    """The figures as Markdown."""
    lines = ["| read | ms | CPU ms | of the floor | opens | MB read | read calls | ms, cold |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in found.items():
        if "missing" in row:
            lines.append(f"| {name} | not installed | | | | | | |")
            continue
        kind = "copy" if name.startswith("copy") else "original"
        way = "floor, whole segment" if name.endswith("whole segment") else "floor"
        floor = found[f"{kind}: {way}"]["cpu_ms"]
        cold = f"{row['cold_ms']:.1f}" if "cold_ms" in row else ""
        lines.append(
            f"| {name} | {row['ms']:.1f} | {row['cpu_ms']:.1f} | {row['cpu_ms'] / floor:.2f} "
            f"| {row['opens']:.2f} | {row['mb']:.2f} | {row['reads']:.0f} | {cold} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make the archive, unless it is there, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--size", nargs=2, type=int, default=(640, 360), help="width and height")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--cold", type=int, default=10, help="clips with an empty cache")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (given.folder or Path(name)).resolve()
        if not (folder / "files.json").exists():
            make_archive(folder, given.files, given.minutes, tuple(given.size))
        found = compare(folder, given.clips, given.cold)
    print(table(found))
    load = [round(value, 1) for value in os.getloadavg()]
    about = {"clips": given.clips, "cores": os.cpu_count(), "load": load,
             "date": time.strftime("%Y-%m-%d"), "pyav": av.__version__}  # fmt: skip
    print(json.dumps(about | {"ways": found}))


if __name__ == "__main__":
    main()
