"""Sound files that look odd: what a scan must not call damage."""

import numpy as np
import pytest

from epic100.minikitchen.packet_damage import drop_packets
from epic100.scan.worker import inspect
from support.tricky_videos import encode

PAUSE = [i * 1001 + (90000 if i > 57 else 0) for i in range(120)]


def test_a_pause_of_a_coder_that_numbers_its_pictures_is_none(tmp_path):
    """Order count type 2, as coders without B-frames use it."""
    path = encode(tmp_path / "v.MP4", 120, times=PAUSE, bframes=0)
    row, _ = inspect(path, "v")
    assert (row.status, row.damaged) == ("ok", [])
    assert row.reason == "hint: 1 pauses, no picture lost"


def test_lost_pictures_of_such_a_coder_are_found_all_the_same(tmp_path):
    for close in (False, True):
        path = encode(tmp_path / "v.MP4", 120, bframes=0)
        drop_packets(path, 3, 5, close=close)
        row, _ = inspect(path, "v", seconds=120 * 1001 / 30000)
        assert row.status == "damaged"
        assert "break the numbering" in row.reason


def test_a_pause_in_hevc_is_none_and_lost_pictures_are_found(tmp_path):
    """Its pictures name those that they depend on, so the decoder knows of lost ones."""
    path = encode(tmp_path / "v.MP4", 120, times=PAUSE, codec="libx265", x265={"keyint": 60})
    row, _ = inspect(path, "v")
    assert (row.status, row.reason) == ("ok", "hint: 1 pauses, no picture lost")
    for count, seed in ((1, 1), (4, 2), (12, 3)):
        path = encode(tmp_path / "v.MP4", 120, codec="libx265", x265={"keyint": 60})
        drop_packets(path, seed, count)
        assert inspect(path, "v")[0].status == "damaged"


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_a_step_that_a_coarse_unit_of_time_rounds_up_is_no_gap(codec, tmp_path):
    times = [i * 1000 + 1000 * (i // 40) for i in range(120)]  # of 1/30000 s, below in 1/30
    path = encode(tmp_path / "v.MP4", 120, times=times, codec=codec, unit=30)
    row, index = inspect(path, "v")
    assert set((index.pts[1:] - index.pts[:-1]).tolist()) == {1, 2}
    assert "gaps" not in row.reason and row.status == "ok", row.reason


def test_a_malformed_note_beside_a_picture_is_no_damage(tmp_path):
    path = encode(tmp_path / "v.MP4", 60)
    data = bytearray(path.read_bytes())
    at = data.index(b"x264 - core") - 16 - 3  # kind and length of the SEI message
    data[at + 1] = 0x01  # picture timing, which this stream has no settings for
    data[at + 2] = 0x02
    path.write_bytes(data)
    row, _ = inspect(path, "v")
    assert row.status == "ok", row.reason


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_a_pause_of_a_coder_without_numbers_costs_its_group_only(codec, pix_fmt, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, times=PAUSE, codec=codec, pix_fmt=pix_fmt)
    row, index = inspect(path, "v")
    after = np.searchsorted(index.pts, index.key_pts)
    assert row.damaged == [(58, 58 + 1 if 58 in after else int(after[after > 58][0]))]
