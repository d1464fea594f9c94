"""Scans sound but odd videos of many kinds: each must be `ok`, and each frame readable.

    python benchmarks/odd_files.py [--only NAME]

Each file is scanned without a sheet, and with its true rate and length. Then every fifth frame is
read in random order from one reader, and compared with one pass from the start of the file.

false alarm   the scan marks something, or does not read the file
refusal       a frame is not read, or is another picture

The last line printed is one JSON object.
"""

import argparse
import collections
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import coded_data
from epic100.video.index import build_index
from epic100.video.reader import VideoReader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.packets import rewrite
from support.scanned import inspect
from support.tricky_videos import (
    cut_end,
    cut_start,
    encode,
    join,
    pictures,
    sound_videos,
    two_entries,
    uneven_times,
)

# A file has so many pictures.
COUNT = 48
SIZES = ((96, 64), (160, 90), (62, 46))


def files(folder: Path, only: str) -> Iterator[tuple[str, Path]]:
    """(kind, path) of each file."""
    for number, (kind, make) in enumerate([*_encodes(), *_copies()]):
        if only not in kind:
            continue
        own = folder / str(number)
        own.mkdir()
        try:
            yield kind, make(own)
        except (av.error.FFmpegError, ValueError, EpicError) as error:
            print(f"not made: {kind}: {error}", file=sys.stderr)
    if only in "as in the tests":
        (folder / "tests").mkdir()
        for path in sound_videos(folder / "tests").values():
            yield "as in the tests", path


def _mp4(folder: Path, count: int = COUNT, **options) -> Path:
    return encode(folder / "v.MP4", count, **options)


def _encodes():
    """(kind, maker) of what an encoder sets."""
    for fps in (23.976, 24, 25, 29.97, 48, 50, 59.94, 60, 100, 120, 240):
        times = [round(i * 30000 / fps) for i in range(COUNT)]
        for size in SIZES:
            yield "rates", partial(_mp4, times=times, size=size)
    for frames in (0, 1, 2, 4, 8):
        for more in ({}, {"b-pyramid": "strict"}, {"open-gop": 1}):
            yield "B-frames", partial(_mp4, bframes=frames, **more)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        times = np.cumsum(rng.integers(300 + 50 * seed, 3000, COUNT)).tolist()
        yield "variable rate", partial(_mp4, times=times)
    yield "variable rate", partial(_mp4, times=uneven_times(COUNT))
    for bframes in (0, 3):
        for at in (5, 20, 30, 40):
            times = [i * 1001 + 40000 * (i >= at) for i in range(COUNT)]
            yield "pauses", partial(_mp4, times=times, bframes=bframes, keyint=30)
        times = [i * 1001 + 40000 * (i >= 20) for i in range(COUNT)]
        yield "pauses", partial(_mp4, times=times, codec="libx265", x265={"bframes": bframes})
    for start in (1, 1001, 15000, 90000):
        yield "late starts", partial(_mp4, times=[start + 1001 * i for i in range(COUNT)])
    for size in ((16, 16), (34, 50), (98, 62), (102, 58), (640, 16), (18, 320)):
        yield "sizes", partial(_mp4, size=size)
    for name in ("yuv422p", "yuv444p", "yuv420p10le", "yuvj420p", "gray"):
        yield "colours", partial(_mp4, pix_fmt=name)
    for more in ({"tff": 1}, {"bff": 1}, {"tff": 1, "bframes": 0}, {"fake-interlaced": 1}):
        yield "interlaced", partial(_mp4, size=(160, 96), **more)
    for more in ({"cabac": 0}, {"cabac": 0, "bframes": 0}, {"cabac": 0, "slices": 4}):
        yield "CAVLC", partial(_mp4, **more)
    for slices in (2, 4, 8):
        yield "slices", partial(_mp4, slices=slices, size=(160, 144))
    for keyint in (1, 2, 5, 1000):
        yield "groups", partial(_mp4, keyint=keyint)
    for more in (
        {"ref": 1},
        {"ref": 8},
        {"weightp": 0},
        {"weightp": 2, "weightb": 1},
        {"8x8dct": 0},
        {"no-deblock": 1},
        {"constrained-intra": 1},
        {"intra-refresh": 1, "bframes": 0},
        {"chroma-qp-offset": 6},
        {"fullrange": "on"},
        {"pic-struct": 1},
        {"sar": "4/3"},
        {"nal-hrd": "vbr", "vbv-maxrate": 900, "vbv-bufsize": 900},
        {"cqm": "jvt"},
        {"repeat-headers": 1, "aud": 1},
        {"direct": "temporal"},
        {"qp": 0},
    ):
        yield "settings of x264", partial(_mp4, **more)
    for codec, suffix in (
        ("mpeg4", "MP4"),
        ("mjpeg", "mov"),
        ("libvpx-vp9", "MP4"),
        ("libsvtav1", "MP4"),
        ("prores", "mov"),
        ("ffv1", "mkv"),
        ("libvpx", "webm"),
    ):
        pix_fmt = {"mjpeg": "yuvj420p", "prores": "yuv422p10le"}.get(codec, "yuv420p")
        yield "other coders", partial(_coder, codec, suffix, pix_fmt)
    for more in ({"bframes": 0}, {"bframes": 4}, {"keyint": 10}, {"open-gop": 1, "keyint": 12}):
        yield "HEVC", partial(_mp4, codec="libx265", x265=more)
    for seed, source in enumerate(("still", "dark", "noise")):
        yield "contents", partial(_content, source, seed)


def _copies():
    """(kind, maker) of what a container or an editor changes."""
    for suffix, kind in (
        ("mkv", ""),
        ("mov", ""),
        ("m4v", "mp4"),
        ("ts", "mpegts"),
        ("3gp", ""),
    ):
        for bframes in (0, 3):
            yield f"container {suffix}", partial(_container, suffix, kind, bframes)
    for flags in (
        "faststart",
        "frag_keyframe+empty_moov",
        "frag_every_frame+empty_moov",
        "frag_keyframe+default_base_moof+delay_moov",
        "negative_cts_offsets",
        "frag_keyframe+separate_moof+empty_moov",
        "dash",
        "cmaf",
        "rtphint",
    ):
        yield "forms of MP4", partial(_mp4, movflags=flags)
    for unit in (25, 30, 600, 1000, 90000):
        times = [i * 30000 // 25 for i in range(COUNT)]
        yield "units of time", partial(_mp4, times=times, unit=unit)
    for frames in (1, 7, 13, 20, 29, 31):
        yield "cut starts", partial(_cut, frames)
    for share in (0.3, 0.6, 0.9):
        yield "cut ends", partial(_cut_end, share)
    for quarter in (1, 2, 3):
        yield "rotations", partial(_rotated, quarter)
    for rate in (8000, 16000, 48000):
        yield "with sound", partial(_with_sound, rate)
    for count in (2, 3, 5):
        yield "joined", partial(_joined, count)
    for more in ({"ref": 1}, {"cabac": 0, "bframes": 0}, {"weightp": 2, "qp": 20}):
        yield "several sample entries", partial(_entries, more)
    yield "late table of key frames", _late_keys


def _coder(codec: str, suffix: str, pix_fmt: str, folder: Path) -> Path:
    return encode(folder / f"v.{suffix}", COUNT, codec=codec, pix_fmt=pix_fmt)


def _content(name: str, seed: int, folder: Path) -> Path:
    first = next(pictures(1))
    rng = np.random.default_rng(seed)
    source = {
        "still": [first] * COUNT,
        "dark": [np.zeros_like(first)] * COUNT,
        "noise": [rng.integers(0, 255, first.shape, np.uint8) for _ in range(COUNT)],
    }[name]
    return encode(folder / "v.MP4", COUNT, source=source)


def _container(suffix: str, kind: str, bframes: int, folder: Path) -> Path:
    source, out = encode(folder / "o.MP4", COUNT, bframes=bframes), folder / f"v.{suffix}"
    with av.open(str(source)) as old, av.open(str(out), "w", format=kind or None) as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    return out


def _cut(frames: int, folder: Path) -> Path:
    return cut_start(_mp4(folder, 90), folder / "cut.MP4", frames)


def _cut_end(share: float, folder: Path) -> Path:
    return cut_end(_mp4(folder), share)


def _rotated(quarter: int, folder: Path) -> Path:
    path = _mp4(folder)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd", *coded_data(path, "moov")) + 4 + 40
    one, back = (1 << 16).to_bytes(4, "big"), ((1 << 32) - (1 << 16)).to_bytes(4, "big")
    none = bytes(4)
    a, b, c, d = {
        1: (none, one, back, none),
        2: (back, none, none, back),
        3: (none, back, one, none),
    }[quarter]
    data[at : at + 20] = a + b + none + c + d
    path.write_bytes(data)
    return path


def _with_sound(rate: int, folder: Path) -> Path:
    path = folder / "v.MP4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="mono")
        wave = (np.sin(np.arange(rate * COUNT // 30) * 0.1) * 0.2).astype(np.float32)[None]
        tone = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        tone.sample_rate = rate
        for picture in pictures(COUNT):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(sound.encode(tone))
        container.mux(sound.encode(None))
        container.mux(video.encode(None))
    return path


def _joined(count: int, folder: Path) -> Path:
    parts = [encode(folder / f"part{n}.MP4", COUNT, seed=n, repeat_headers=1) for n in range(count)]
    return join(parts, folder / "v.MP4")


def _entries(more: dict, folder: Path) -> Path:
    parts = [encode(folder / "a.MP4", COUNT), encode(folder / "b.MP4", COUNT, seed=1, **more)]
    return two_entries(parts, folder / "v.MP4")


def _late_keys(folder: Path) -> Path:
    path = _mp4(folder)
    rewrite(path, lambda packets: packets)
    data = bytearray(path.read_bytes())
    at = data.index(b"stss", *coded_data(path, "moov")) + 12
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + 1).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def sequential(path: Path) -> dict[int, np.ndarray]:
    """Pictures by time, from one pass."""
    found = {}
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        for packet in container.demux(stream):
            for frame in packet.decode():
                found[frame.pts] = frame.to_ndarray(format="rgb24")
    return found


def fault(path: Path) -> str:
    """What the scan or the reader says against this file, or ""."""
    row, index = inspect(path, "v")
    if row.status != "ok" or row.damaged or index is None:
        return f"false alarm: {row.status}: {row.reason}"
    built = build_index(path)
    row, _ = inspect(path, "v", fps=built.fps, seconds=built.times[-1] + 1 / (built.fps or 1))
    if row.status != "ok" or row.damaged:
        return f"false alarm, with a sheet: {row.status}: {row.reason}"
    expected, reader = sequential(path), VideoReader(path, index)
    frames = list(range(0, index.frames, 5))
    random.Random(0).shuffle(frames)
    try:
        for frame in frames:
            (picture,) = reader.get_frames([frame])
            # Readers show a picture as players do; a decoder gives it as it is stored.
            stored = np.rot90(picture, index.stream.turns)
            if not np.array_equal(stored, expected[int(index.pts[frame])]):
                return f"refusal: frame {frame} is another picture"
    except EpicError as error:
        return f"refusal: {error}"
    finally:
        reader.close()
    return ""


def main() -> None:
    """Make and check all files, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    options = parser.parse_args()
    av.logging.set_level(None)
    started, counts, bad = time.monotonic(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as name:
        for kind, path in files(Path(name), options.only):
            counts[kind] += 1
            if found := fault(path):
                bad.append(f"{kind}, file {sum(counts.values())}: {found}")
                print(bad[-1], flush=True)
    for kind, count in counts.items():
        print(f"{kind:26} {count:3}")
    print(f"{time.strftime('%Y-%m-%d')}, {time.monotonic() - started:.0f} s")
    print(
        json.dumps(
            {
                "files": sum(counts.values()),
                "kinds": len(counts),
                "false_alarms": sum("false alarm" in line for line in bad),
                "refusals": sum("refusal" in line for line in bad),
            }
        )
    )


if __name__ == "__main__":
    main()
