"""Undamaged files of all types, some of which look damaged: the scan must call them ok."""

import numpy as np
import pytest

from epic100.scan.damage import clock_finding
from support.damage import overwrite
from support.packets import drop_packets
from support.scanned import inspect
from support.tricky_videos import cut_start, encode

# Presentation times of 120 frames in 1/30000 s. After frame 57 the camera pauses for 3 s.
TIMES_WITH_PAUSE = [i * 1001 + (90000 if i > 57 else 0) for i in range(120)]


@pytest.mark.slow
def test_an_undamaged_file_of_each_type_is_ok(undamaged):
    for name, path in undamaged.items():
        row, index = inspect(path, name)
        assert (row.status, row.damaged) == ("ok", []), row
        assert row.pictures == index.frames > 0, name
        # Without CABAC, a flipped bit may change a frame and break no syntax.
        has_cabac = name not in ("cavlc", "hevc", "mpeg4")
        assert row.judged == ("full" if has_cabac else "decoder only"), name
        assert (row.reason, row.frames) == ("", row.pictures), name
        seconds = float(index.times[-1] + 1 / (index.fps or 30))
        assert not clock_finding(row, index, seconds), name


def test_cut_open_groups_count_only_if_shown(undamaged, tmp_path):
    hidden, _ = inspect(undamaged["cut_at_open_key"], "v")
    assert hidden.status == "ok"
    # The same cut without the edit list, which shows the leading frames too.
    path = cut_start(undamaged["open_gop"], tmp_path / "shown.MP4", 60, hide=False)
    shown, _ = inspect(path, "v")
    assert shown.status == "damaged"
    ((start, stop),) = shown.damaged
    # At most three B-frames lead a key frame.
    assert start == 0 and 1 <= stop <= 3


of_codecs_that_number_frames = pytest.mark.parametrize(
    "options",
    [
        pytest.param({"bframes": 0}, id="H.264 with order count type 2"),
        pytest.param({"codec": "libx265", "x265": {"keyint": 60}}, id="HEVC"),
    ],
)


@of_codecs_that_number_frames
def test_a_numbered_pause_is_no_damage(options, tmp_path):
    """HEVC's frames name those that they depend on, so the decoder knows of lost ones."""
    row, _ = inspect(encode(tmp_path / "v.MP4", 120, times=TIMES_WITH_PAUSE, **options), "v")
    assert (row.status, row.damaged) == ("ok", [])


@of_codecs_that_number_frames
@pytest.mark.parametrize("close", [False, True], ids=["a gap in time", "the gap closed"])
def test_lost_frames_are_damage_where_frames_are_numbered(close, options, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, **options)
    drop_packets(path, seed=3, count=5, close=close)
    row, _ = inspect(path, "v")
    assert row.status == "damaged"


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_a_rounded_step_is_no_gap(codec, tmp_path):
    # The frames are 1/30 s apart, and every 40th step is twice as long. A file in units of 1/30 s
    # has steps of one and two units.
    times = [i * 1000 + 1000 * (i // 40) for i in range(120)]
    path = encode(tmp_path / "v.MP4", 120, times=times, codec=codec, unit=30)
    row, index = inspect(path, "v")
    assert set(np.diff(index.pts).tolist()) == {1, 2}
    assert (row.status, row.reason) == ("ok", "")


@pytest.mark.parametrize(
    ("text", "distance", "malformed"),
    [
        # The SEI message of x264 states its length in the 3 bytes before its UUID, which has 16. It
        # states 256 bytes now, so the rest of its text is read as malformed messages.
        pytest.param(b"x264 - core", -16 - 3 + 1, b"\1\2", id="SEI message"),
        # Old cameras write text tags such as "Küche" in Latin-1. FFmpeg names itself in such a tag.
        pytest.param(b"Lavf", 0, "Kü".encode("latin-1"), id="text tag that is not UTF-8"),
    ],
)
def test_malformed_metadata_are_no_damage(text, distance, malformed, tmp_path):
    """The bytes at a distance from a text in the file are overwritten."""
    path = encode(tmp_path / "v.MP4", 60)
    overwrite(path, path.read_bytes().index(text) + distance, malformed)
    row, _ = inspect(path, "v")
    assert row.status == "ok", row.reason


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_an_unnumbered_pause_damages_to_the_key_frame(codec, pix_fmt, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, times=TIMES_WITH_PAUSE, codec=codec, pix_fmt=pix_fmt)
    row, index = inspect(path, "v")
    keys = np.searchsorted(index.pts, index.key_pts)
    # Frame 58 is the first after the pause. A key frame there is damaged alone.
    stop = 59 if 58 in keys else int(keys[keys > 58][0])
    assert row.damaged == [(58, stop)]
