"""A video of another length than the sheet says is a finding, and no damage."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epic100.scan.damage import FAR_SECONDS, clock_finding
from support.damage import flip, place_of
from support.packets import drop_packets, repeat_group, rewrite
from support.scanned import index_of, inspect
from support.tricky_videos import RATE, encode

# The videos of these tests last 240 / 29.97 = 8.01 seconds.
FRAMES = 240
SECONDS = float(FRAMES / RATE)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clock") / "v.MP4", FRAMES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("box", "bits"),
    [
        pytest.param("stts", range(64, 128), id="count and duration of the first samples"),
        pytest.param("mdhd", range(96, 128), id="units of time per second"),
        pytest.param("elst", range(64, 128), id="duration and start of the edit"),
    ],
)
def test_each_flipped_time_bit_is_reported(box, bits, original, tmp_path):
    index = index_of(original)
    unreported, reported_count = [], 0
    for bit in bits:
        flipped = flip(original, place_of(original, box), bit, tmp_path / "v.MP4")
        row, new_index = inspect(flipped, "v")
        if row.status != "ok" or clock_finding(row, new_index, SECONDS, float(RATE)):
            reported_count += 1
            continue
        shared = min(new_index.frames, index.frames)
        moved_seconds = np.abs(new_index.times[:shared] - index.times[:shared]).max()
        hidden_seconds = (index.frames - new_index.frames) / RATE
        if max(moved_seconds, hidden_seconds) > FAR_SECONDS:
            unreported.append(bit)
    assert not unreported
    # The high bits of each number change it by far. So at least a fifth of all bits is reported.
    assert reported_count > len(bits) / 5


@pytest.mark.parametrize(
    ("header_seconds", "sheet_seconds", "finding"),
    [
        pytest.param(
            SECONDS,
            13.0,
            "its frames last 8.01 s, its header says 8.01 s, the sheet says 13.00 s",
            id="other length in the sheet",
        ),
        pytest.param(
            9.0,
            0.0,
            "its frames last 8.01 s, its header says 9.00 s",
            id="other length in the header and none in the sheet",
        ),
        pytest.param(9.0, SECONDS, "", id="other length in the header, but not in the sheet"),
        pytest.param(SECONDS, SECONDS + 0.4, "", id="less than half a second of difference"),
        pytest.param(SECONDS, 0.0, "", id="no length in the sheet"),
    ],
)
def test_a_finding_states_the_lengths_if_they_differ(
    header_seconds, sheet_seconds, finding, original
):
    row, index = inspect(original, "v")
    row = replace(row, stated=header_seconds)
    assert clock_finding(row, index, sheet_seconds) == finding


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(partial(rewrite, change=lambda packets: packets[60:]), id="trimmed"),
        pytest.param(partial(drop_packets, seed=5, count=20, close=True), id="lost without a gap"),
        pytest.param(partial(repeat_group, seed=2), id="a repeated group"),
    ],
)
def test_another_length_than_the_sheet_s_is_found(change, tmp_path):
    path = encode(tmp_path / "v.MP4", FRAMES)
    change(path)
    row, index = inspect(path, "v")
    assert "the sheet says 8.01 s" in clock_finding(row, index, SECONDS, float(RATE))


@pytest.mark.parametrize(
    "movflags",
    [
        pytest.param("faststart", id="index first"),
        pytest.param("frag_keyframe+empty_moov", id="fragmented"),
    ],
)
def test_a_truncated_file_is_found_if_longer(movflags, tmp_path):
    path = encode(tmp_path / "v.MP4", FRAMES, movflags=movflags)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    row, index = inspect(path, "v")
    assert row.status == "damaged"
    assert "truncated: " in row.reason
    assert clock_finding(row, index, SECONDS) == ""
    # About 60 % of 8 s are in the file, which is more than 2 s.
    assert clock_finding(row, index, seconds=2.0) != ""
