"""Sound files of all kinds, some of which look odd: what a scan must not call damage."""

import numpy as np
import pytest

from epic100.scan.clock import clock_finding
from epic100.video.reader import VideoReader
from support.damage import overwrite
from support.packets import drop_packets
from support.scanned import inspect
from support.tricky_videos import (
    cut_start,
    encode,
    parts_of,
    show_parts,
    two_entries,
)

PAUSE = [i * 1001 + (90000 if i > 57 else 0) for i in range(120)]

NOT_ARITHMETIC = {"cavlc", "hevc", "mpeg4"}


@pytest.mark.slow
@pytest.mark.parametrize("quick", [False, True])
def test_no_sound_file_is_called_damaged_and_every_picture_decodes(sound, quick):
    assert len(sound) > 35
    for name, path in sound.items():
        row, index = inspect(path, name, quick=quick)
        judged = "decoder only" if name in NOT_ARITHMETIC else "full"
        assert (row.status, row.damaged) == ("ok", []), row
        assert row.judged == ("quick" if quick else judged), name
        assert row.reason.startswith("quick look: ") if quick else row.reason == "", name
        assert row.pictures == index.frames > 0, name
        assert quick or row.frames == row.pictures, name
        lasts = float(index.times[-1] + 1 / (index.fps or 30))
        assert not clock_finding(row, index, 0.0) and not clock_finding(row, index, lasts), name


def test_a_part_without_arithmetic_coding_is_judged_by_the_decoder_only(tmp_path):
    parts = parts_of(tmp_path, {"cabac": 1}, {"cabac": 0})
    row, _ = inspect(two_entries(parts, tmp_path / "v.MP4"), "v")
    assert (row.status, row.judged) == ("ok", "decoder only")


def test_pictures_that_lead_a_cut_in_an_open_group_are_damaged_only_if_they_are_shown(
    sound, tmp_path
):
    assert inspect(sound["cut_at_open_key"], "v")[0].status == "ok"
    # The same cut, but the index says that the leading pictures are to be seen.
    path = cut_start(sound["open_gop"], tmp_path / "shown.MP4", 60, hide=False)
    row, _ = inspect(path, "v")
    assert row.status == "damaged"
    ((start, stop),) = row.damaged
    assert start == 0 and 1 <= stop <= 3


@pytest.mark.parametrize(
    "options",
    [{"bframes": 0}, {"codec": "libx265", "x265": {"keyint": 60}}],
    ids=["order count type 2, as coders without B-frames use it", "HEVC"],
)
def test_a_pause_of_a_coder_that_numbers_its_pictures_is_none(options, tmp_path):
    """HEVC's pictures name those that they depend on, so the decoder knows of lost ones."""
    row, _ = inspect(encode(tmp_path / "v.MP4", 120, times=PAUSE, **options), "v")
    assert (row.status, row.damaged) == ("ok", [])
    for count, seed, close in ((5, 3, False), (5, 3, True), (1, 1, False), (12, 3, False)):
        path = encode(tmp_path / "v.MP4", 120, **options)
        drop_packets(path, seed, count, close=close)
        row, _ = inspect(path, "v")
        assert row.status == "damaged"
        assert "codec" in options or "break the numbering" in row.reason


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_a_step_that_a_coarse_unit_of_time_rounds_up_is_no_gap(codec, tmp_path):
    # The times are in 1/30000 s, but the file counts in 1/30 s.
    times = [i * 1000 + 1000 * (i // 40) for i in range(120)]
    path = encode(tmp_path / "v.MP4", 120, times=times, codec=codec, unit=30)
    row, index = inspect(path, "v")
    assert set(np.diff(index.pts).tolist()) == {1, 2}
    assert "gaps" not in row.reason and row.status == "ok", row.reason


def test_a_malformed_note_beside_a_picture_is_no_damage(tmp_path):
    path = encode(tmp_path / "v.MP4", 60)
    # The SEI message of x264 states its length in the 3 bytes before its UUID, which has 16.
    at = path.read_bytes().index(b"x264 - core") - 16 - 3
    # It states 256 bytes now, so the rest of its text is read as malformed messages.
    overwrite(path, at + 1, b"\1\2")
    row, _ = inspect(path, "v")
    assert row.status == "ok", row.reason


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"open-gop": 1, "b-pyramid": "normal"},
        {"codec": "mpeg4"},
        {"codec": "libx265", "x265": {"keyint": 30}},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "parts",
    [
        [(0, 40), (80, 40)],
        [(60, 60), (0, 60)],
        [(0, 60), (0, 60)],
        [(0, 60), (30, 60)],
        [(10, 33), (77, 20), (100, 15)],
    ],
    ids=str,
)
def test_parts_that_an_edit_list_shows_in_any_order_are_sound(options, parts, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, **options)
    whole = VideoReader(path).get_frames(range(120))
    row, index = inspect(show_parts(path, parts, tmp_path / "parts.MP4"), "v")
    assert (row.status, row.damaged) == ("ok", [])
    wanted = [frame for first, count in parts for frame in range(first, first + count)]
    # The edit list counts milliseconds.
    assert len(wanted) - 3 <= row.frames == row.pictures <= len(wanted) + 1
    found = VideoReader(tmp_path / "parts.MP4", index).get_frames(range(row.frames))
    numbers = [int(np.flatnonzero((whole == picture).all(axis=(1, 2, 3)))[0]) for picture in found]
    assert len(set(wanted) ^ set(numbers)) <= 5
    assert (np.diff(numbers) != 1).sum() == len(parts) - 1


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_a_pause_of_a_coder_without_numbers_costs_its_group_only(codec, pix_fmt, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, times=PAUSE, codec=codec, pix_fmt=pix_fmt)
    row, index = inspect(path, "v")
    after = np.searchsorted(index.pts, index.key_pts)
    assert row.damaged == [(58, 58 + 1 if 58 in after else int(after[after > 58][0]))]
