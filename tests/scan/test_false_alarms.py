"""Undamaged files of all kinds, some of which look damaged: the scan must call them ok."""

import numpy as np
import pytest

from epic100.scan.clock import clock_finding
from epic100.video.reader import VideoReader
from support.damage import overwrite
from support.packets import drop_packets
from support.scanned import inspect
from support.tricky_videos import cut_start, encode, parts_of, show_parts, two_entries

# Presentation times of 120 pictures in 1/30000 s. After picture 57 the camera pauses for 3 s.
TIMES_WITH_PAUSE = [i * 1001 + (90000 if i > 57 else 0) for i in range(120)]


@pytest.mark.slow
@pytest.mark.parametrize("quick", [False, True], ids=["full scan", "quick look"])
def test_an_undamaged_file_of_each_kind_is_ok(sound, quick):
    for name, path in sound.items():
        row, index = inspect(path, name, quick=quick)
        assert (row.status, row.damaged) == ("ok", []), row
        assert row.pictures == index.frames > 0, name
        if quick:
            assert row.judged == "quick", name
            assert row.reason.startswith("quick look: "), name
        else:
            # Without CABAC, a flipped bit may change a picture and break no syntax.
            has_cabac = name not in ("cavlc", "hevc", "mpeg4")
            assert row.judged == ("full" if has_cabac else "decoder only"), name
            assert (row.reason, row.frames) == ("", row.pictures), name
        seconds = float(index.times[-1] + 1 / (index.fps or 30))
        assert not clock_finding(row, index, seconds), name


def test_a_file_with_one_sample_entry_without_cabac_is_judged_by_the_decoder_only(tmp_path):
    parts = parts_of(tmp_path, {"cabac": 1}, {"cabac": 0})
    row, _ = inspect(two_entries(parts, tmp_path / "v.MP4"), "v")
    assert (row.status, row.judged) == ("ok", "decoder only")


def test_leading_pictures_of_a_cut_open_group_are_damaged_only_if_they_are_shown(sound, tmp_path):
    hidden, _ = inspect(sound["cut_at_open_key"], "v")
    assert hidden.status == "ok"
    # The same cut without the edit list, which shows the leading pictures too.
    path = cut_start(sound["open_gop"], tmp_path / "shown.MP4", 60, hide=False)
    shown, _ = inspect(path, "v")
    assert shown.status == "damaged"
    ((start, stop),) = shown.damaged
    # At most three B-pictures lead a key frame.
    assert start == 0 and 1 <= stop <= 3


of_codecs_that_number_pictures = pytest.mark.parametrize(
    "options",
    [
        pytest.param({"bframes": 0}, id="H.264 with order count type 2"),
        pytest.param({"codec": "libx265", "x265": {"keyint": 60}}, id="HEVC"),
    ],
)


@of_codecs_that_number_pictures
def test_a_pause_without_lost_pictures_is_no_damage_where_pictures_are_numbered(options, tmp_path):
    """HEVC's pictures name those that they depend on, so the decoder knows of lost ones."""
    row, _ = inspect(encode(tmp_path / "v.MP4", 120, times=TIMES_WITH_PAUSE, **options), "v")
    assert (row.status, row.damaged) == ("ok", [])


@of_codecs_that_number_pictures
@pytest.mark.parametrize("close", [False, True], ids=["a gap in time", "the gap closed"])
def test_lost_pictures_are_damage_where_pictures_are_numbered(close, options, tmp_path):
    path = encode(tmp_path / "v.MP4", 120, **options)
    drop_packets(path, seed=3, count=5, close=close)
    row, _ = inspect(path, "v")
    assert row.status == "damaged"


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_a_step_that_a_coarse_time_base_rounds_up_is_no_gap(codec, tmp_path):
    # The pictures are 1/30 s apart, and every 40th step is twice as long. A file in units of 1/30 s
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


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="H.264"),
        pytest.param({"open-gop": 1, "b-pyramid": "normal"}, id="H.264 with open groups"),
        pytest.param({"codec": "mpeg4"}, id="MPEG-4 part 2"),
        pytest.param({"codec": "libx265", "x265": {"keyint": 30}}, id="HEVC"),
    ],
)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(0, 40), (80, 40)], id="the middle left out"),
        pytest.param([(60, 60), (0, 60)], id="halves exchanged"),
        pytest.param([(0, 60), (0, 60)], id="first half twice"),
        pytest.param([(0, 60), (30, 60)], id="overlapping"),
        pytest.param([(10, 33), (77, 20), (100, 15)], id="three parts"),
    ],
)
def test_parts_that_an_edit_list_shows_in_any_order_are_ok(options, parts, tmp_path):
    """Each part is its first picture and its number of pictures."""
    path = encode(tmp_path / "v.MP4", 120, **options)
    whole = VideoReader(path).get_frames(range(120))
    edited = show_parts(path, parts, tmp_path / "parts.MP4")
    row, index = inspect(edited, "v")
    assert (row.status, row.damaged) == ("ok", [])
    wanted = [frame for first, count in parts for frame in range(first, first + count)]
    # The edit list counts milliseconds, so each part may gain or lose a picture.
    assert len(wanted) - 3 <= row.frames == row.pictures <= len(wanted) + 1
    read = VideoReader(edited, index).get_frames(range(row.frames))
    numbers = [int(np.flatnonzero((whole == picture).all(axis=(1, 2, 3)))[0]) for picture in read]
    assert len(set(wanted) ^ set(numbers)) <= 5
    assert (np.diff(numbers) != 1).sum() == len(parts) - 1


@pytest.mark.parametrize(("codec", "pix_fmt"), [("mpeg4", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_a_pause_of_a_codec_without_numbers_is_damage_up_to_the_next_key_frame(
    codec, pix_fmt, tmp_path
):
    path = encode(tmp_path / "v.MP4", 120, times=TIMES_WITH_PAUSE, codec=codec, pix_fmt=pix_fmt)
    row, index = inspect(path, "v")
    keys = np.searchsorted(index.pts, index.key_pts)
    # Picture 58 is the first after the pause. A key frame there is damaged alone.
    stop = 59 if 58 in keys else int(keys[keys > 58][0])
    assert row.damaged == [(58, stop)]
