"""The files of benchmarks/archive.py, and what the kernel reports of them."""

import ctypes
import itertools
import json
import math
import os
import shutil
import statistics
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np
from camera_video import write_camera_video

from epic100.proxy.encoder import write_proxy
from epic100.settings import ProxySettings
from epic100.video.index import build_index
from epic100.video.index_file import write_indexes

RATES = (Fraction(60000, 1001), Fraction(50))
SOUND = 48000  # samples a second
LENGTHS = math.log(1.96), 0.9  # of segments: mean and deviation of the logarithm of seconds
CUT_CLIPS, LONGEST_CUT = 12, 12  # seconds; the longest are held in memory
IN_ACCESS, IN_CLOSE, IN_OPEN = 0x1, 0x18, 0x20


def make_archive(folder: Path, files: int, minutes: float, size: tuple[int, int]) -> None:
    """Write the originals, their copies, indexes and cut clips, and their names as files.json."""
    if not 1 <= files <= 64:
        raise SystemExit(f"--files is {files}; expected 1 to 64")
    made = [folder / part for part in ("original/P01", "copy/P01", "cut/P01", "filmed")]
    for part in made:
        part.mkdir(parents=True, exist_ok=True)
    cut = []
    for number, rate in enumerate(RATES[: min(files, 2)]):
        camera, small = folder / f"filmed/{number}.MP4", folder / f"filmed/{number}.copy.MP4"
        sound = folder / f"filmed/{number}.sound.MP4"
        film_photograph(camera, min(minutes, 1), size, rate)
        write_proxy(camera, small, ProxySettings())
        _record(sound, min(minutes, 1) * 60)
        times = max(1, round(minutes))
        first = f"P01_{number + 1:03d}"
        repeat([camera, sound], folder / f"original/P01/{first}.MP4", times)
        repeat([small], folder / f"copy/P01/{first}.MP4", times)
        for name in (f"P01_{n + 1:03d}" for n in range(number, files, 2)):
            if name != first:
                originals, copies = folder / "original/P01", folder / "copy/P01"
                shutil.copyfile(originals / f"{first}.MP4", originals / f"{name}.MP4")
                os.link(copies / f"{first}.MP4", copies / f"{name}.MP4")
        cut += _cut(camera, folder, float(rate), CUT_CLIPS // 2)
    lengths = write_scan(folder, files)
    names = [
        (f"P01/P01_{n + 1:03d}.MP4", float(RATES[n % 2]), lengths[n % len(lengths)])
        for n in range(files)
    ]
    os.sync()
    (folder / "files.json").write_text(json.dumps({"archive": names, "cut": cut}))


def film_photograph(
    path: Path, minutes: float, size: tuple[int, int], rate: Fraction = RATES[0]
) -> None:
    """As `write_camera_video`, of a photograph."""
    photo = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"))
    scene = cv2.resize(photo, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_CUBIC)[..., ::-1]
    write_camera_video(path, minutes, size, rate, np.ascontiguousarray(scene))


def write_scan(folder: Path, files: int) -> list[int]:
    """Write the frame indexes as a scan does, with and without packets' places; return lengths."""
    for kind in ("original", "copy"):
        made = [build_index(path) for path in sorted((folder / kind / "P01").glob("*"))[:2]]
        indexes = {f"P01_{n + 1:03d}": made[n % len(made)] for n in range(files)}
        for name in (kind, f"{kind}-container"):
            (folder / "scan" / name).mkdir(parents=True, exist_ok=True)
        write_indexes(indexes, folder / "scan" / kind / "P01.index.npz")
        without = {name: replace(index, direct=False) for name, index in indexes.items()}
        write_indexes(without, folder / "scan" / f"{kind}-container" / "P01.index.npz")
    return [index.frames for index in made]


@dataclass(frozen=True)
class Coded:
    """A packet, where it stands in its stream, and the number of that stream."""

    stream: int
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_key: bool
    data: bytes


def repeat(sources: list[Path], target: Path, times: int) -> None:
    """Copy the first streams of files into one file, so often, one turn after the other."""
    with av.open(str(target), "w", format="mp4") as out:
        streams, packets, lengths = [], [], []
        for number, source in enumerate(sources):
            with av.open(str(source)) as container:
                stream = container.streams[0]
                streams.append(out.add_stream_from_template(stream))
                own = [
                    Coded(number, p.pts, p.dts, p.duration, p.time_base, p.is_keyframe, bytes(p))
                    for p in container.demux(stream)
                    if p.size
                ]
            lengths.append(sum(p.duration for p in own))
            packets += own
        packets.sort(key=lambda p: p.dts * p.time_base)
        for turn in range(times):
            for p in packets:
                packet, later = av.Packet(p.data), turn * lengths[p.stream]
                packet.pts, packet.dts, packet.duration = p.pts + later, p.dts + later, p.duration
                packet.time_base, packet.is_keyframe = p.time_base, p.is_key
                packet.stream = streams[p.stream]
                out.mux_one(packet)


def _record(path: Path, seconds: float) -> None:
    """Stereo noise as AAC."""
    rng = np.random.default_rng(5)
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=SOUND, layout="stereo", bit_rate=64000)
        for _ in range(max(1, int(seconds * SOUND / 1024))):
            noise = rng.normal(0, 0.05, (2, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
            frame.sample_rate = SOUND
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _cut(source: Path, folder: Path, rate: float, count: int) -> Iterator[tuple[str, float, int]]:
    """Cut clips out and encode each by itself by libx264's defaults, as `ffmpeg -ss -to` does.

    Their lengths are quantiles of EPIC-100's.
    """
    rng, lengths = np.random.default_rng(9), statistics.NormalDist(*LENGTHS)
    with av.open(str(source)) as container:
        pictures = list(itertools.islice(container.decode(video=0), round(LONGEST_CUT * rate)))
    for number in range(count):
        seconds = math.exp(lengths.inv_cdf((number + 0.5) / count))
        length = max(1, min(int(seconds * rate), len(pictures)))
        start = int(rng.integers(len(pictures) - length + 1))
        name = f"P01/{round(rate)}_{number:02d}.MP4"
        with av.open(str(folder / "cut" / name), "w", format="mp4") as out:
            stream = out.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
            stream.width, stream.height = pictures[0].width, pictures[0].height
            stream.pix_fmt = "yuv420p"
            for shown, picture in enumerate(pictures[start : start + length]):
                picture.pts, picture.time_base = shown, Fraction(1) / stream.codec_context.framerate
                out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
        yield name, rate, length


def drop_from_cache(folder: Path) -> None:
    """Ask the kernel to forget the files of a folder; it does for what is on the disk already."""
    for path in folder.rglob("*.MP4"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class Opened:
    """Counts how often files below a folder are opened, by inotify.

    Equal events that follow each other are one; reading and closing are watched too, so that they
    are between two opens.
    """

    def __init__(self, folder: Path):
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        for part in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            watched = IN_ACCESS | IN_CLOSE | IN_OPEN
            if libc.inotify_add_watch(self._descriptor, os.fsencode(part), watched) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch", str(part))

    def count(self) -> int:
        """Opens since the last call."""
        opens = 0
        while True:
            try:
                events = os.read(self._descriptor, 1 << 20)
            except BlockingIOError:
                return opens
            place = 0
            while place < len(events):
                _, mask, _, length = struct.unpack_from("iIII", events, place)
                opens += bool(mask & IN_OPEN) and not mask & 0x40000000  # not of folders
                place += 16 + length
