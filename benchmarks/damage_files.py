"""The undamaged files of `benchmarks/damage.py`, each of one coding.

A file's name begins with the coding, so that a trial tells it.
"""

import os
import sys
from functools import partial
from pathlib import Path

from epic100.minikitchen import write_video
from epic100.video.index import build_index
from epic100.video.sheet import Video

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.packets import rewrite
from support.tricky_videos import encode

# An encoded file has so many pictures; of a given file, the first seconds are taken.
COUNT = 180
GIVEN_SECONDS = 30.0
# The scan reads the slices and the numbers of these codings.
FULL = ("CABAC", "CABAC, interlaced")
_KITCHEN = ((60000 / 1001, (160, 90)), (50.0, (320, 180)), (30000 / 1001, (160, 90)))
_ENCODED = {
    "CABAC 3": {"open-gop": 1, "b-pyramid": "normal", "ref": 4},
    "CABAC 4": {"pix_fmt": "yuv420p10le"},
    "CABAC, interlaced 0": {"tff": 1},
    "CABAC, interlaced 1": {"bff": 1, "bframes": 0},
    "CAVLC 0": {"cabac": 0},
    "CAVLC 1": {"cabac": 0, "bframes": 0, "slices": 3},
    "HEVC 0": {"codec": "libx265", "x265": {"keyint": 30}},
    "VP9 0": {"codec": "libvpx-vp9"},
    "AV1 0": {"codec": "libsvtav1"},
    "MPEG-4 0": {"codec": "mpeg4"},
    "MJPEG 0": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


def coding_of(name: str) -> str:
    """The coding of a file by its name, for example "CABAC" of "CABAC 3.MP4"."""
    return name.rpartition(" ")[0]


def originals(folder: Path, given: list[Path], only: str = "") -> list[Path]:
    """Write the files, and the first half minute of given ones.

    Args:
        folder: Where they are written.
        given: Videos to take too; they count as CABAC.
        only: Only codings whose name holds this.
    """
    made = []
    for number, (fps, size) in enumerate(_KITCHEN):
        path = folder / f"CABAC {number}.MP4"
        if only in coding_of(path.name):
            write_video(Video("P01_01", "P01", "train", fps, 480 / fps), path, number, size=size)
            made.append(path)
    for number, (name, settings) in enumerate(_ENCODED.items()):
        if only in coding_of(f"{name}.MP4"):
            made.append(
                encode(folder / f"{name}.MP4", COUNT, size=(160, 96), seed=number, **settings)
            )
    if hasattr(os, "sched_setscheduler"):
        # SVT-AV1, run by root, gives its threads and this one a real-time priority for good.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    for number, path in enumerate(given):
        copy = folder / f"CABAC {path.stem}{number}.MP4"
        rewrite(path, partial(_first, path=path), copy)
        made.append(copy)
    return made


def _first(packets, path: Path):
    index = build_index(path)
    end = index.pts[0] + GIVEN_SECONDS / float(index.time_base)
    keys = [i for i, p in enumerate(packets) if p.is_key and p.pts <= end]
    stop = len(packets) if index.times[-1] <= GIVEN_SECONDS else keys[-1] or len(packets)
    return packets[:stop]
