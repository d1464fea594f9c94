"""One spoilt bit in an MP4's tables or parameter sets: the file opens, decodes and looks sound."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from epic100.base.disk import WatchedFile
from epic100.minikitchen.damage import coded_data
from epic100.scan.parameter_checks import spoilt_sets
from epic100.scan.worker import inspect
from epic100.video.containers import read_clock
from epic100.video.index import build_index
from support.damage import flip, overwrite, place_of
from support.decoder_stand_in import FRAMES as SHORT
from support.tricky_videos import RATE, encode, put_box

FRAMES = 240
PROMISE = {"seconds": float(FRAMES / RATE), "fps": float(RATE)}
WEIGHTED_BIPRED = 17  # bit of the PPS; its value is 2, and 3 is reserved


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("clock") / "v.MP4", FRAMES)


@pytest.fixture
def flipped(original, tmp_path):
    """Makes a copy with one bit of a box's content flipped."""
    return lambda box, bit: flip(original, place_of(original, box), bit, tmp_path / "v.MP4")


def clock_of(path: Path):
    file = WatchedFile(path)
    return read_clock(file.size, file.read_at, 1)


def test_a_clock_of_wide_numbers_is_read_alike(original, tmp_path):
    """As of files with times after 2040 or of long recordings: version 1 of each box."""
    data, (start, _) = bytearray(original.read_bytes()), coded_data(original, "moov")
    for box, fields, around in (
        (b"mvhd", "QQIQ", b"moov"),
        (b"tkhd", "QQIIQ", b"moov trak"),
        (b"mdhd", "QQIQ", b"moov trak mdia"),
        (b"elst", "IQQ", b"moov trak edts"),
    ):
        at = data.index(box, start) + 4
        stop = at - 8 + int.from_bytes(data[at - 8 : at - 4])
        narrow = 4 + 4 * len(fields)
        numbers = struct.unpack(f">{len(fields)}I", data[at + 4 : at + narrow])
        content = b"\1\0\0\0" + struct.pack(">" + fields, *numbers) + data[at + narrow : stop]
        put_box(data, box, content, around, start)
    wide = tmp_path / "v.MP4"
    wide.write_bytes(data)
    assert clock_of(wide) == clock_of(original) and clock_of(wide).samples == FRAMES
    assert inspect(wide, "v", quick=True, **PROMISE)[0].status == "ok"


@pytest.mark.parametrize(
    ("box", "bits"),
    [
        ("stts", range(64, 128)),  # count and step of the first entry
        ("mdhd", range(96, 128)),  # units a second
        ("elst", range(64, 128)),  # how long it shows, and where it begins
    ],
)
def test_no_bit_of_a_clock_moves_or_hides_pictures_unseen(box, bits, original, flipped):
    index = build_index(original)
    silent, found = [], 0
    for bit in bits:
        row, own = inspect(flipped(box, bit), "v", quick=True, **PROMISE)
        found += row.status != "ok"
        if row.status == "ok":  # then within half a picture of what it was
            moved = np.abs(own.times[: index.frames] - index.times[: own.frames]).max()
            if own.frames != index.frames or moved > 0.5 / RATE:
                silent.append(bit)
    assert not silent
    assert found > len(bits) / 4


@pytest.mark.parametrize(
    ("box", "bit", "promise", "words"),
    [
        # 1001 becomes 489: both witnesses are named.
        ("stts", 118, PROMISE, "clock is contradicted: its 239 pictures last .*the sheet's 8.01 s"),
        # From the wrong number on, of the 11th entry, all pictures are shown in another order.
        ("ctts", 64 + 10 * 64 + 31, {}, f"delays for {FRAMES} pictures"),
    ],
)
def test_a_contradicted_clock_damages_all_pictures(box, bit, promise, words, flipped):
    row, _ = inspect(flipped(box, bit), "v", **promise)
    assert (row.status, row.damaged) == ("damaged", [(0, row.pictures)])
    assert re.search(words, row.reason)


@pytest.mark.parametrize(
    ("box", "at", "new", "words"),
    [
        # FFmpeg takes thousandths for the unit, and the few pictures that it finds last as long.
        ("mdhd", -4, b"M", f"of the sheet's {FRAMES} pictures"),
        ("stts", 12, 0, "share their time"),
    ],
    ids=["a track without its header", "one time for all"],
)
def test_tables_that_leave_few_pictures_or_one_time_are_damage(
    box, at, new, words, original, tmp_path
):
    path = overwrite(original, place_of(original, box) + at, new, tmp_path / "v.MP4")
    row, _ = inspect(path, "v", **PROMISE)
    assert row.status == "damaged" and words in row.reason


@pytest.mark.parametrize("times, status", [(2, "ok"), (7.5, "ok"), (8.5, "damaged")])
def test_a_copy_has_an_eighth_of_the_sheet_s_pictures_or_more(times, status, original):
    row, _ = inspect(original, "v", quick=True, **PROMISE | {"fps": times * float(RATE)})
    assert row.status == status


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[bytes]:
    """Of one camera: the same settings, other pictures."""
    folder = tmp_path_factory.mktemp("films")
    return [encode(folder / f"{n}.MP4", SHORT, seed=n).read_bytes() for n in range(4)]


@pytest.fixture
def participant(house, films):
    """A participant of so many films; in one of them a bit of a parameter set is flipped."""

    def make(count: int, number: int, kind: str, bit: int):
        lab = house(count)
        for path, film in zip(lab.paths, films, strict=False):
            path.write_bytes(film)
        path = lab.paths[number]
        at = path.read_bytes().index(b"avcC", *coded_data(path, "moov")) + 10
        size = int.from_bytes(films[number][at : at + 2], "big")
        flip(path, at + 2 + (size + 3 if kind == "PPS" else 0), bit)
        return lab

    return make


@pytest.mark.parametrize("spoilt", [("PPS", 16), ("PPS", 20), ("SPS", 71), ("SPS", 93)])
def test_a_spoilt_bit_is_found_by_the_participant_s_other_videos(spoilt, films, participant):
    lab = participant(4, 1, *spoilt)
    first, bad, *others = lab.scan()
    assert [row.status for row in (first, *others)] == ["ok"] * 3
    assert bad.status in ("damaged", "unreadable")
    assert bad.status == "unreadable" or bad.damaged == [(0, bad.pictures)]
    if bad.status == "damaged":
        words = "its parameter sets are spoilt: 1 bit differs from those of 3 other videos"
        assert words in bad.reason
    lab.paths[1].write_bytes(films[1])
    assert lab.scan()[1].status == "ok"  # and nothing of it is kept


def test_videos_of_several_settings_are_sound(participant):
    lab = participant(4, 3, "PPS", 16)
    encode(lab.paths[3], SHORT, cabac=0, ref=1)
    assert {row.status for row in lab.scan()} == {"ok"}


def test_one_other_video_is_no_witness(participant):
    rows = participant(2, 1, "PPS", 22).scan()  # constrained_intra_pred
    assert "parameter sets" not in rows[0].reason + rows[1].reason


@pytest.mark.parametrize(("kind", "bit"), [("SPS", 67), ("SPS", 93), ("PPS", WEIGHTED_BIPRED + 1)])
def test_a_set_that_ends_amiss_or_has_a_reserved_value_is_found_alone(kind, bit, participant):
    (row,) = participant(1, 0, kind, bit).scan()
    assert (row.status, row.damaged) == ("damaged", [(0, SHORT)])
    assert "its parameter sets are spoilt: one does not end where it must" in row.reason


def test_no_set_of_a_sound_file_ends_amiss(sound):
    alone = {name: spoilt_sets({name: build_index(path)}) for name, path in sound.items()}
    assert not [name for name, found in alone.items() if found]
