"""What a scan does not mark, the reader gives: in any order, from a reader that is kept."""

import random
from pathlib import Path

import numpy as np
import pytest

from epic100.video.reader import VideoReader
from support.damage import marked, number_at, overwrite, packets_of, place_of
from support.packets import decoded, rewrite
from support.scanned import inspect
from support.tricky_videos import PYRAMID, encode, parts_of, show_parts, two_entries


def late_sync(source: Path, out: Path) -> Path:
    """Its table of key frames begins one picture late."""
    place = place_of(source, "stss") + 8
    return overwrite(source, place, number_at(source, place) + 1, out)


def broken_b(source: Path, out: Path) -> Path:
    """One picture that leads a key frame of an open group does not decode."""
    packets = packets_of(source)
    key = [n for n, p in enumerate(packets) if p.is_keyframe][1]
    victim = next(p for p in packets[key + 1 :] if p.pts < packets[key].pts)
    no_type = bytes([bytes(victim)[4] | 0x1F])
    return overwrite(source, victim.pos + 4, no_type + b"\xff" * (victim.size - 5), out)


KINDS = {
    "a late table of key frames": lambda a, b, out: late_sync(a, out / "v.MP4"),
    "first packets lost": lambda a, b, out: rewrite(a, lambda packets: packets[5:], out / "v.MP4"),
    "cropped from the left": lambda a, b, out: encode(
        out / "v.MP4", 120, **PYRAMID, **{"crop-rect": "4,0,0,0"}
    ),
    "a broken picture that leads": lambda a, b, out: broken_b(b, out / "v.MP4"),
    "two edits and a gap": lambda a, b, out: show_parts(
        a, [(0, 40), (None, 40), (80, 40)], out / "v.MP4"
    ),
    "two sample entries": lambda a, b, out: two_entries(
        parts_of(out, {}, {"ref": 1, "qp": 20, "bframes": 0}), out / "v.MP4"
    ),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("originals")
    closed = encode(folder / "closed.MP4", 120, **{"b-pyramid": "normal"})
    return closed, encode(folder / "open.MP4", 120, **{"open-gop": 1, "b-pyramid": "normal"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_marked_can_be_read(kind, originals, tmp_path):
    path = KINDS[kind](*originals, tmp_path)
    row, index = inspect(path, "v")
    assert row.readable, row.reason
    sound = sorted({*range(index.frames)} - marked(row))
    assert len(sound) >= (120 if kind == "two sample entries" else 50)
    expected, reader = decoded(path), VideoReader(path, index)
    random.Random(0).shuffle(sound)
    for frame in sound:
        (picture,) = reader.get_frames([frame])
        assert np.array_equal(picture, expected[int(index.pts[frame])]), frame
