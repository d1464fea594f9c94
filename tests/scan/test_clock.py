"""A file whose length is not what it or the sheet says is a finding as a whole, and no damage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epic100.scan.clock import clock_finding
from epic100.video.index import build_index
from support.damage import flip, place_of
from support.packets import drop_packets, repeat_group, rewrite
from support.scanned import inspect
from support.tricky_videos import RATE, encode

FRAMES = 240
SECONDS = float(FRAMES / RATE)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clock") / "v.MP4", FRAMES)


@pytest.fixture
def flipped(original, tmp_path):
    """A function that copies a video with one bit of a box's content flipped."""
    return lambda box, bit: flip(original, place_of(original, box), bit, tmp_path / "v.MP4")


def finding(path: Path, seconds: float = SECONDS) -> str:
    row, index = inspect(path, "v", quick=True)
    return clock_finding(row, index, seconds, float(RATE))


@pytest.mark.parametrize(
    ("box", "bits"),
    [
        # These bits are the count and the step of the first entry.
        ("stts", range(64, 128)),
        # These bits are the units of a second.
        ("mdhd", range(96, 128)),
        # These bits say how long the film shows, and where it begins.
        ("elst", range(64, 128)),
    ],
)
def test_no_bit_of_a_clock_moves_or_hides_pictures_unseen(box, bits, original, flipped):
    index = build_index(original)
    silent, found = [], 0
    for bit in bits:
        row, own = inspect(flipped(box, bit), "v", quick=True)
        if row.status != "ok" or clock_finding(row, own, SECONDS, float(RATE)):
            found += 1
            continue
        most = min(own.frames, index.frames)
        moved = np.abs(own.times[:most] - index.times[:most]).max()
        if index.frames - own.frames > 0.5 * RATE or moved > 0.5:
            silent.append(bit)
    assert not silent
    assert found > len(bits) / 5


def test_the_lengths_that_differ_are_named(original):
    said = "its pictures last 8.01 s, its header says 8.01 s, the sheet says 13.00 s"
    assert finding(original, 13.0) == said
    assert finding(original, SECONDS + 0.4) == finding(original, 0.0) == ""
    row, index = inspect(original, "v", quick=True)
    said = "its pictures last 8.01 s, its header says 9.00 s"
    assert clock_finding(replace(row, stated=9.0), index, 0.0) == said


CHANGES = {
    "trimmed": lambda path: rewrite(path, lambda packets: packets[60:]),
    "pictures lost without a gap": lambda path: drop_packets(path, 5, 20, close=True),
    "a repeated group": lambda path: repeat_group(path, 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_film_that_is_shorter_or_longer_than_the_sheet_is_a_finding(change, tmp_path):
    path = encode(tmp_path / "v.MP4", FRAMES)
    assert finding(path) == ""
    CHANGES[change](path)
    assert "the sheet says 8.01 s" in finding(path)


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_a_cut_file_is_damaged_and_no_finding_besides(movflags, tmp_path):
    path = encode(tmp_path / "v.MP4", FRAMES, movflags=movflags)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    row, index = inspect(path, "v")
    assert row.status == "damaged" and "truncated: " in row.reason
    assert clock_finding(row, index, SECONDS) == ""
    assert clock_finding(row, index, 2.0) != "", "it is longer than the sheet says"
