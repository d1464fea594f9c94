"""Damaged films: what a scan finds in each is as in golden.json, by the rules alone.

39 small films of H.264, with and without B-frames, with open and closed groups of frames, are each
damaged in one way: flipped bits, zeros, a cut end or lost packets. That a scan marks every wrong
frame is tested in tests/scan/test_worker.py.
"""

import hashlib
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from behaviour.golden import require_golden, states
from support.checkout import run_snakemake
from support.packets import CodedFrame, rewrite, write_film

pytestmark = pytest.mark.slow
# It determines the places of the damage.
SEED = 1
# This is the width and height of all films in pixels.
SIZE = (96, 64)
RATE = Fraction(60000, 1001)
# This is the number of frames of each film.
LENGTH = 160
# One thread and plain C give the same bytes each time, and a fixed quantizer needs no estimates.
X264 = {
    "qp": 24,
    "keyint": 25,
    "bframes": 3,
    "ref": 3,
    "threads": 1,
    **dict.fromkeys(("b-adapt", "scenecut", "asm", "mbtree", "rc-lookahead"), 0),
}


def draw_frames(count: int, seed: int, size: tuple[int, int] = SIZE) -> Iterable[np.ndarray]:
    """Draw frames of grainy blocks that drift, uint8 [height, width, 3], no two alike."""
    rng = np.random.default_rng(seed)
    width, height = size
    blocks = rng.integers(0, 200, (height // 8, width, 3), np.uint8)
    wide = blocks.repeat(8, axis=0).repeat(8, axis=1)
    for number in range(count):
        grain = rng.integers(0, 12, (height, width, 1), np.uint8)
        left = 2 * number % (wide.shape[1] - width)
        yield wide[:, left : left + width] + grain


def encode(path: Path, **x264: int | str) -> Path:
    """Encode `LENGTH` frames, with settings of libx264 beside those of `X264`."""
    settings = X264 | {name.replace("_", "-"): value for name, value in x264.items()}
    coder = {"x264-params": ":".join(f"{k}={v}" for k, v in settings.items())}
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_frames(LENGTH, seed=0)
    return write_film(
        path, drawn, SIZE, RATE, range(LENGTH), 1 / RATE, "libx264", container="mp4", coder=coder
    )


# Each type of H.264 film has settings of libx264. With 27 frames in a group, two B-frames are shown
# before the key frame of each open group.
H264 = {
    "b_frames": {},
    "open_groups": {"open_gop": 1, "b_pyramid": "normal", "keyint": 27},
    "no_b_frames": {"bframes": 0},
}


def _frames_in(data: bytes) -> tuple[int, int]:
    """Find the bytes [start, stop) of an MP4 file that hold coded frames.

    They begin after the name of the box `mdat`. They end where the box `moov` begins, four bytes
    before its name, or at the end of the file if `moov` comes first.
    """
    start = data.index(b"mdat") + 4
    index = data.rindex(b"moov") - 4
    return start, index if index > start else len(data)


def flipped(path: Path, rng: np.random.Generator, bits: int) -> None:
    """Flip bits at random places of the coded frames."""
    data = bytearray(path.read_bytes())
    start, stop = _frames_in(data)
    for bit in rng.choice(8 * (stop - start), bits, replace=False).tolist():
        byte, bit_in_byte = divmod(bit, 8)
        data[start + byte] ^= 1 << bit_in_byte
    path.write_bytes(data)


def zeroed(path: Path, rng: np.random.Generator, size: int) -> None:
    """Put zeros over a block of the coded frames."""
    data = bytearray(path.read_bytes())
    start, stop = _frames_in(data)
    first = int(rng.integers(start, stop - size))
    data[first : first + size] = bytes(size)
    path.write_bytes(data)


def cut(path: Path, rng: np.random.Generator, movflags: str) -> None:
    """Rewrite the file with these flags of the MP4 muxer, and cut a random share of its end off."""
    data = rewrite(path, movflags=movflags).read_bytes()
    path.write_bytes(data[: int(rng.uniform(0.3, 0.95) * len(data))])


def lost(path: Path, rng: np.random.Generator, count: int) -> None:
    """Leave `count` packets out, or for 0 a complete group of frames; the rest keep their times."""

    def change(packets: list[CodedFrame]) -> list[CodedFrame]:
        keys = [number for number, p in enumerate(packets) if p.is_key]
        first = int(rng.integers(1, len(packets) - 20))
        group = int(rng.integers(1, len(keys) - 1))
        start, stop = (first, first + count) if count else keys[group : group + 2]
        return packets[:start] + packets[stop:]

    rewrite(path, change)


# Each type of damage has a function of the file and a generator of random numbers.
DAMAGES: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "1_bit": partial(flipped, bits=1),
    "3_bits": partial(flipped, bits=3),
    "10_bits": partial(flipped, bits=10),
    "50_bits": partial(flipped, bits=50),
    "16_zeros": partial(zeroed, size=16),
    "512_zeros": partial(zeroed, size=512),
    "4096_zeros": partial(zeroed, size=4096),
    "cut_index_last": partial(cut, movflags="0"),
    "cut_index_first": partial(cut, movflags="faststart"),
    "cut_fragments": partial(cut, movflags="frag_keyframe+empty_moov"),
    "1_lost": partial(lost, count=1),
    "6_lost": partial(lost, count=6),
    "group_lost": partial(lost, count=0),
}


def test_the_scan_finds_what_golden_json_says(tmp_path):
    lines = ["video_id\tparticipant_id\tsplit\tfps\tduration"]
    paths = {}
    for participant, (film_type, options) in zip(("P02", "P03", "P04"), H264.items(), strict=True):
        original = encode(tmp_path / f"{film_type}.MP4", **options).read_bytes()
        for name, damage in DAMAGES.items():
            film = f"{film_type}-{name}"
            paths[film] = tmp_path / f"videos/{participant}/{film}.MP4"
            paths[film].parent.mkdir(parents=True, exist_ok=True)
            paths[film].write_bytes(original)
            damage(paths[film], np.random.default_rng([SEED, *film.encode()]))
            lines.append(f"{film}\t{participant}\ttrain\t{float(RATE)}\t{float(LENGTH / RATE)}")
    (tmp_path / "sheet.tsv").write_text("\n".join(lines) + "\n")
    config = {"videos": {"root": "videos", "sheet": "sheet.tsv"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    tables = [f"results/scan/{name}.tsv" for name in ("P02", "P03", "P04")]
    where = ["--directory", str(tmp_path), "--configfile", str(tmp_path / "config.yaml")]
    run_snakemake(*tables, *where)

    rows = states(tmp_path / "results")
    digest, results = hashlib.sha256(), {}
    for film, path in paths.items():
        row = rows[film]
        assert bool(row["reason"]) == (row["status"] != "ok")
        digest.update(path.read_bytes())
        hints = "; ".join(part for part in row["reason"].split("; ") if part.startswith("hint"))
        cells = (row["status"], row["pictures"], row["damaged"] or "-", hints)
        results[film] = " ".join(cells).strip()
    require_golden("damage", results, digest.hexdigest())
