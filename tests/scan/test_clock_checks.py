"""One spoilt bit in an MP4's tables of times: its file opens, decodes and looks sound."""

from pathlib import Path

import numpy as np
import pytest

from epic100.minikitchen.damage import coded_data
from epic100.scan.worker import inspect
from epic100.video.index import build_index
from epic100.video.mp4_clock import read_clock
from epic100.video.watched_file import WatchedFile
from support.tricky_videos import RATE, cut_end, cut_start, encode

FRAMES = 240
SECONDS = float(FRAMES / RATE)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clock") / "v.MP4", FRAMES)


def flipped(path: Path, box: str, bit: int, out: Path) -> Path:
    """The file with one bit of a box's content flipped, counted from behind its name."""
    data = bytearray(path.read_bytes())
    at = data.index(box.encode(), *coded_data(path, "moov")) + 4
    data[at + bit // 8] ^= 0x80 >> (bit % 8)
    out.write_bytes(data)
    return out


def test_the_clock_of_a_file_is_read_from_each_of_its_places(original):
    file = WatchedFile(original)
    clock = read_clock(file.size, file.read_at, 1)
    assert clock.counted == clock.delayed == clock.samples == FRAMES
    assert clock.ticks * clock.tick == pytest.approx(SECONDS, abs=1e-6)
    assert clock.stated_ticks == clock.ticks
    assert clock.track_seconds == pytest.approx(SECONDS, abs=1e-3)
    ((shown, start),) = clock.edits
    assert shown == pytest.approx(SECONDS, abs=1e-3) and start == clock.first
    assert read_clock(file.size, file.read_at, 2) is None


@pytest.mark.parametrize(
    ("box", "bits"),
    [
        ("stts", range(64, 128)),  # count and step of the first entry
        ("mdhd", range(96, 128)),  # units a second
        ("elst", range(64, 128)),  # how long it shows, and where it begins
    ],
)
def test_no_bit_of_a_clock_moves_or_hides_pictures_unseen(box, bits, original, tmp_path):
    index = build_index(original)
    silent, found = [], 0
    for bit in bits:
        path = flipped(original, box, bit, tmp_path / "v.MP4")
        row, own = inspect(path, "v", quick=True, seconds=SECONDS, fps=float(RATE))
        found += row.status != "ok"
        if row.status == "ok":  # then within half a picture of what it was
            moved = np.abs(own.times[: index.frames] - index.times[: own.frames]).max()
            if own.frames != index.frames or moved > 0.5 / RATE:
                silent.append(bit)
    assert not silent
    assert found > len(bits) / 4


def test_a_contradicted_clock_damages_all_pictures_and_names_both_witnesses(original, tmp_path):
    path = flipped(original, "stts", 118, tmp_path / "v.MP4")  # 1001 becomes 489
    row, _ = inspect(path, "v", seconds=SECONDS, fps=float(RATE))
    assert row.status == "damaged"
    assert row.damaged == [(0, row.pictures)]
    assert "its clock is contradicted: its 239 pictures last" in row.reason
    assert "the sheet's 8.01 s" in row.reason


def test_a_table_of_delays_of_another_number_of_pictures_is_found(original, tmp_path):
    """From the wrong number on, all pictures are shown in another order."""
    path = flipped(original, "ctts", 64 + 10 * 64 + 31, tmp_path / "v.MP4")  # of the 11th entry
    row, _ = inspect(path, "v", quick=True)
    assert row.damaged == [(0, row.pictures)]
    assert f"delays for {FRAMES} pictures" in row.reason


def test_a_track_whose_header_is_not_found_has_far_too_few_pictures(original, tmp_path):
    # FFmpeg then takes thousandths for the unit, and the few pictures that it finds last as long.
    path = tmp_path / "v.MP4"
    path.write_bytes(original.read_bytes().replace(b"mdhd", b"Mdhd"))
    row, _ = inspect(path, "v", seconds=SECONDS, fps=float(RATE))
    assert row.status == "damaged"
    assert f"of the sheet's {FRAMES} pictures" in row.reason


def test_sound_files_with_odd_clocks_stay_sound(original, tmp_path, sound):
    whole = encode(tmp_path / "whole.MP4", FRAMES)
    cut = cut_start(whole, tmp_path / "cut.MP4", 45)
    short = cut_end(whole, 0.6)
    rates = [sound[name] for name in ("variable_rate", "two_rates", "paused", "late_start")]
    for path in (cut, short, *rates):
        index = build_index(path)
        lasts = float(index.times[-1] + 1 / index.fps)
        for promise in ({}, {"seconds": lasts, "fps": index.frames / lasts}):
            row, _ = inspect(path, "v", quick=True, **promise)
            assert "contradicted" not in row.reason, (path.name, promise, row.reason, index.frames)


def test_copies_at_another_rate_than_the_sheet_s_are_sound(original):
    row, _ = inspect(original, "v", quick=True, seconds=SECONDS, fps=2 * float(RATE))
    assert row.status == "ok"


def test_pictures_that_all_share_one_time_are_no_crash(original, tmp_path):
    path = flipped(original, "mdhd", 96, tmp_path / "v.MP4")
    inspect(path, "v", seconds=SECONDS, fps=float(RATE))
    data = bytearray(original.read_bytes())
    at = data.index(b"stts", *coded_data(original, "moov")) + 4
    data[at + 12 : at + 16] = bytes(4)
    path.write_bytes(data)
    row, _ = inspect(path, "v", seconds=SECONDS, fps=float(RATE))
    assert row.status == "damaged"
