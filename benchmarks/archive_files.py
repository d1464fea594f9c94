"""Make videos, archives of long files and folders to train in, for the benchmarks."""

import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np

from epic100.settings.data import ProxySettings
from epic100.video.build_index import build_index
from epic100.video.copy_encoder import write_proxy
from epic100.video.index import write_indexes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.packets import CodedFrame, later, write_film

RATES = (Fraction(60000, 1001), Fraction(50))
# Each folder to train in has videos of one size; None makes small copies of the videos before.
SOURCES: dict[str, tuple[int, int] | None] = {"640x360": (640, 360), "small copies": None}
VIDEOS, PAIRS = 12, 40


def film_photograph(
    path: Path, minutes: float, size: tuple[int, int], rate: Fraction = RATES[0]
) -> None:
    """Film a photograph with a wandering, turning, noisy camera: all of the picture moves.

    H.264 by libx264's defaults, with a key frame every 250 and three B-frames.
    """
    pictures = _photographed(size, [i / float(rate) for i in range(round(minutes * 60 * rate))])
    coder = {"crf": "19", "preset": "medium", "g": "250"}
    write_film(path, pictures, size, rate, itertools.count(), 1 / rate, coder=coder)


def _photographed(size: tuple[int, int], times: list[float]) -> Iterator[np.ndarray]:
    """Draw the pictures of the camera at these seconds."""
    photo = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"))
    scene = cv2.resize(photo, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_CUBIC)[..., ::-1]
    scene, rng = np.ascontiguousarray(scene), np.random.default_rng(7)
    for t in times:
        angle = 4 * np.sin(0.7 * t) + 1.5 * np.sin(3.1 * t)
        move = cv2.getRotationMatrix2D((size[0], size[1]), angle, 1 + 0.1 * np.sin(0.4 * t))
        move[0, 2] -= size[0] / 2 + 60 * np.sin(0.9 * t) + 8 * np.sin(7 * t)
        move[1, 2] -= size[1] / 2 + 40 * np.sin(0.6 * t + 1) + 6 * np.sin(9 * t)
        picture = cv2.warpAffine(scene, move, size, borderMode=cv2.BORDER_REFLECT)
        noise = rng.integers(-3, 4, picture.shape, dtype=np.int16)
        yield np.clip(picture + noise, 0, 255).astype(np.uint8)


def repeated(packets: list[CodedFrame], count: int) -> list[CodedFrame]:
    """Repeat the packets of a video up to `count`, each turn after the one before."""
    times = sorted(packet.pts for packet in packets)
    length = times[-1] - times[0] + int(np.median(np.diff(times)))
    turns = [later(packets, turn * length) for turn in range(-(-count // len(packets)))]
    return [packet for turn in turns for packet in turn][:count]


def make_archive(folder: Path, files: int, minutes: float, size: tuple[int, int]) -> None:
    """Write the originals, their copies and indexes, and their names as files.json."""
    if not 1 <= files <= 64:
        raise SystemExit(f"--files is {files}; expected 1 to 64")
    for subfolder in ("original/P01", "copy/P01", "filmed"):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    for number, rate in enumerate(RATES[: min(files, 2)]):
        camera, small = folder / f"filmed/{number}.MP4", folder / f"filmed/{number}.copy.MP4"
        sound = folder / f"filmed/{number}.sound.MP4"
        film_photograph(camera, min(minutes, 1), size, rate)
        write_proxy(camera, small, ProxySettings())
        record(sound, min(minutes, 1) * 60)
        times = max(1, round(minutes))
        first = f"P01_{number + 1:03d}"
        repeat([camera, sound], folder / f"original/P01/{first}.MP4", times)
        repeat([small], folder / f"copy/P01/{first}.MP4", times)
        for name in (f"P01_{n + 1:03d}" for n in range(number, files, 2)):
            if name != first:
                originals, copies = folder / "original/P01", folder / "copy/P01"
                shutil.copyfile(originals / f"{first}.MP4", originals / f"{name}.MP4")
                os.link(copies / f"{first}.MP4", copies / f"{name}.MP4")
    lengths = write_scan(folder, files)
    names = [
        (f"P01/P01_{n + 1:03d}.MP4", float(RATES[n % 2]), lengths[n % len(lengths)])
        for n in range(files)
    ]
    (folder / "files.json").write_text(json.dumps({"archive": names}))


def write_scan(folder: Path, files: int) -> list[int]:
    """Write the frame indexes; return the lengths of the files in frames."""
    for version in ("original", "copy"):
        built = [build_index(path) for path in sorted((folder / version / "P01").glob("*"))[:2]]
        indexes = {f"P01_{n + 1:03d}": built[n % len(built)] for n in range(files)}
        (folder / "scan" / version).mkdir(parents=True, exist_ok=True)
        write_indexes(indexes, folder / "scan" / version / "P01.index.npz")
    return [index.frames for index in built]


@dataclass(frozen=True)
class Coded:
    """A packet, its times, and the number of its stream."""

    stream: int
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_key: bool
    data: bytes


def repeat(sources: list[Path], target: Path, times: int) -> None:
    """Copy the first streams of files into one file, `times` times one after the other."""
    with av.open(str(target), "w", format="mp4") as out:
        streams, packets, lengths = [], [], []
        for number, source in enumerate(sources):
            with av.open(str(source)) as container:
                stream = container.streams[0]
                streams.append(out.add_stream_from_template(stream))
                coded = [
                    Coded(number, p.pts, p.dts, p.duration, p.time_base, p.is_keyframe, bytes(p))
                    for p in container.demux(stream)
                    if p.size
                ]
            lengths.append(sum(p.duration for p in coded))
            packets += coded
        packets.sort(key=lambda p: p.dts * p.time_base)
        for turn in range(times):
            for p in packets:
                packet, shift = av.Packet(p.data), turn * lengths[p.stream]
                packet.pts, packet.dts, packet.duration = p.pts + shift, p.dts + shift, p.duration
                packet.time_base, packet.is_keyframe = p.time_base, p.is_key
                packet.stream = streams[p.stream]
                out.mux_one(packet)


def record(path: Path, seconds: float, rate: int = 48000) -> None:
    """Record stereo noise as AAC, with `rate` samples a second."""
    rng = np.random.default_rng(5)
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=rate, layout="stereo", bit_rate=64000)
        for _ in range(max(1, int(seconds * rate / 1024))):
            noise = rng.normal(0, 0.05, (2, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
            frame.sample_rate = rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def make_kitchens(
    folder: Path, sources: dict[str, tuple[int, int] | None], seconds: float
) -> dict[str, Path]:
    """Make a folder to train in for each source, with one video under twelve names."""
    kitchens: dict[str, Path] = {}
    film = folder / "none.MP4"
    for source, size in sources.items():
        before, film = film, folder / f"{source}.MP4"
        if size is None:
            write_proxy(before, film, ProxySettings(), build_index(before))
        else:
            film_photograph(film, seconds / 60, size)
        kitchens[source] = _kitchen(folder / source, film, int(20 * seconds))
    return kitchens


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
