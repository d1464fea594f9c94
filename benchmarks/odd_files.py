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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from archive_files import record, repeat
from tables import markdown

from epic100.base.errors import EpicError
from epic100.video.index import build_index
from epic100.video.reader import VideoReader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.damage import number_at, overwrite, place_of
from support.packets import decoded, rewrite
from support.scanned import inspect
from support.tricky_videos import (
    QUARTERS,
    cut_end,
    cut_start,
    draw_frames,
    encode,
    join,
    turn,
    undamaged_videos,
    uneven_times,
)

# Number of frames of a file. Their times are in 1/30000 s.
COUNT = 48


def made(folder: Path, suffix: str = "MP4", count: int = COUNT, **options: Any) -> Path:
    """Encode a file; `options` are those of `encode`."""
    return encode(folder / f"v.{suffix}", count, **options)


def steady(step: float, start: int = 0) -> dict[str, list[int]]:
    """Times with equal steps."""
    return {"times": [start + round(i * step) for i in range(COUNT)]}


def paused(at: int) -> dict[str, list[int]]:
    """Times with a pause before a picture."""
    return {"times": [i * 1001 + 40000 * (i >= at) for i in range(COUNT)]}


def drawn(seed: int) -> dict[str, list[int]]:
    """Times with random steps."""
    steps = np.random.default_rng(seed).integers(300 + 50 * seed, 3000, COUNT)
    return {"times": np.cumsum(steps).tolist()}


FIRST = next(draw_frames(1))
NOISE = [*np.random.default_rng(2).integers(0, 255, (COUNT, *FIRST.shape), np.uint8)]
# These options of `made`, by kind, are what an encoder or its muxer sets.
ENCODED: dict[str, list[dict[str, Any]]] = {
    "rates": [
        {"size": size, **steady(30000 / fps)}
        for fps in (23.976, 24, 25, 29.97, 48, 50, 59.94, 60, 100, 120, 240)
        for size in ((96, 64), (160, 90), (62, 46))
    ],
    "B-frames": [
        {"bframes": frames, **more}
        for frames in (0, 1, 2, 4, 8)
        for more in ({}, {"b-pyramid": "strict"}, {"open-gop": 1})
    ],
    "variable rate": [*map(drawn, range(8)), {"times": uneven_times(COUNT)}],
    "pauses": [
        *({"bframes": b, "keyint": 30, **paused(at)} for b in (0, 3) for at in (5, 20, 30, 40)),
        *({"codec": "libx265", "x265": {"bframes": b}, **paused(20)} for b in (0, 3)),
    ],
    "late starts": [steady(1001, start) for start in (1, 1001, 15000, 90000)],
    "sizes": [
        {"size": size} for size in ((16, 16), (34, 50), (98, 62), (102, 58), (640, 16), (18, 320))
    ],
    "colours": [
        {"pix_fmt": name} for name in ("yuv422p", "yuv444p", "yuv420p10le", "yuvj420p", "gray")
    ],
    "interlaced": [
        {"size": (160, 96), **more}
        for more in ({"tff": 1}, {"bff": 1}, {"tff": 1, "bframes": 0}, {"fake-interlaced": 1})
    ],
    "CAVLC": [{"cabac": 0}, {"cabac": 0, "bframes": 0}, {"cabac": 0, "slices": 4}],
    "slices": [{"slices": slices, "size": (160, 144)} for slices in (2, 4, 8)],
    "groups": [{"keyint": keyint} for keyint in (1, 2, 5, 1000)],
    "settings of x264": [
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
    ],
    "other coders": [
        {"codec": "mpeg4"},
        {"codec": "mjpeg", "suffix": "mov", "pix_fmt": "yuvj420p"},
        {"codec": "libvpx-vp9"},
        {"codec": "libsvtav1"},
        {"codec": "prores", "suffix": "mov", "pix_fmt": "yuv422p10le"},
    ],
    "HEVC": [
        {"codec": "libx265", "x265": more}
        for more in ({"bframes": 0}, {"bframes": 4}, {"keyint": 10}, {"open-gop": 1, "keyint": 12})
    ],
    "contents": [
        {"source": source} for source in ([FIRST] * COUNT, [np.zeros_like(FIRST)] * COUNT, NOISE)
    ],
    "forms of MP4": [
        {"movflags": flags}
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
        )
    ],
    "units of time": [{"unit": unit, **steady(1200)} for unit in (25, 30, 600, 1000, 90000)],
}


def in_container(folder: Path, suffix: str, bframes: int) -> Path:
    """Write the same packets to a container of another suffix."""
    return rewrite(made(folder, bframes=bframes), out=folder / f"o.{suffix}")


def cut_at(folder: Path, frames: int) -> Path:
    """Make a file whose first frames an edit list hides."""
    return cut_start(made(folder, count=90), folder / "cut.MP4", frames)


def turned(folder: Path, quarter: int) -> Path:
    """Make a file that players turn by so many times 90 degrees."""
    turn(path := made(folder), QUARTERS[quarter])
    return path


def with_sound(folder: Path, rate: int) -> Path:
    """Make a file with sound of `rate` samples a second."""
    record(folder / "sound.MP4", COUNT / 30, rate)
    repeat([made(folder), folder / "sound.MP4"], folder / "both.MP4", 1)
    return folder / "both.MP4"


def joined(folder: Path, count: int) -> Path:
    """Join `count` files one after the other."""
    videos = [encode(folder / f"{n}.MP4", COUNT, seed=n, repeat_headers=1) for n in range(count)]
    return join(videos, folder / "v.MP4")


def late_keys(folder: Path) -> Path:
    """Make a file whose table of key frames begins a picture late."""
    path = rewrite(made(folder))
    offset = place_of(path, "stss") + 8
    return overwrite(path, offset, number_at(path, offset) + 1)


# These makers, by kind, change what a container or an editor does.
CHANGED: dict[str, list[Callable[[Path], Path]]] = {
    **{
        f"container {suffix}": [partial(in_container, suffix=suffix, bframes=b) for b in (0, 3)]
        for suffix in ("mov", "m4v", "3gp")
    },
    "cut starts": [partial(cut_at, frames=frames) for frames in (1, 7, 13, 20, 29, 31)],
    "cut ends": [lambda f, share=share: cut_end(made(f), share) for share in (0.3, 0.6, 0.9)],
    "rotations": [partial(turned, quarter=quarter) for quarter in (1, 2, 3)],
    "with sound": [partial(with_sound, rate=rate) for rate in (8000, 16000, 48000)],
    "joined": [partial(joined, count=count) for count in (2, 3, 5)],
    "late table of key frames": [late_keys],
}


def files(folder: Path, only: str) -> Iterator[tuple[str, Path]]:
    """Make each file whose kind has `only` in its name; yield the kind and the path."""
    makers = [(kind, partial(made, **row)) for kind, rows in ENCODED.items() for row in rows]
    makers += [(kind, make) for kind, rows in CHANGED.items() for make in rows]
    for number, (kind, make) in enumerate(makers):
        if only not in kind:
            continue
        (folder / str(number)).mkdir()
        try:
            yield kind, make(folder / str(number))
        except (av.error.FFmpegError, ValueError, EpicError) as error:
            print(f"not made: {kind}: {error}", file=sys.stderr)
    if only in "as in the tests":
        (folder / "tests").mkdir()
        for path in undamaged_videos(folder / "tests").values():
            yield "as in the tests", path


def defect(path: Path) -> str:
    """Scan and read an undamaged file, and return what is wrong with the result, or ""."""
    row, index = inspect(path, "v")
    if row.status != "ok" or row.damaged or index is None:
        return f"false alarm: {row.status}: {row.reason}"
    built = build_index(path)
    row, _ = inspect(path, "v", fps=built.fps, seconds=built.times[-1] + 1 / (built.fps or 1))
    if row.status != "ok" or row.damaged:
        return f"false alarm, with a sheet: {row.status}: {row.reason}"
    expected, reader = decoded(path), VideoReader(path, index)
    frames = list(range(0, index.frames, 5))
    random.Random(0).shuffle(frames)
    try:
        for frame in frames:
            (picture,) = reader.get_frames([frame])
            # Readers show a picture as players do; a decoder gives it as it is stored.
            stored = np.rot90(picture, index.stream.turns)
            if not np.array_equal(stored, expected.get(int(index.pts[frame]))):
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
            if why := defect(path):
                bad.append(f"{kind}, file {sum(counts.values())}: {why}")
                print(bad[-1], flush=True)
    print(markdown("kind | files", counts.items()))
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
