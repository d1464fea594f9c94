"""A participant's scan: its table, what is kept of it, and faults that are no video's."""

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import truncate, zero_block
from epic100.settings import ScanLimits
from epic100.video.index import build_index
from epic100.video.index_file import load_index
from epic100.video.jobs import keep, kept
from epic100.video.scan_table import read_scan_table
from support.decoder_stand_in import SECONDS, House
from support.packets import rewrite
from support.this_process import records_of

pytestmark = pytest.mark.slow

SMALL = ScanLimits(memory_mib=512)


@pytest.fixture
def house(tmp_path, short_video):
    """A function that makes a participant with this number of sound videos."""
    return lambda count, video=short_video: House(tmp_path, video, count)


def test_the_table_has_a_row_a_video_and_the_index_beside_it_its_pictures(house):
    lab = house(2)
    # A link to a file of another name is that video too; so is a file in fragments.
    elsewhere = lab.paths[0].rename(lab.folder / "elsewhere.mp4")
    lab.paths[0].symlink_to(elsewhere)
    rewrite(lab.paths[1], movflags="frag_keyframe+empty_moov")
    rows = lab.scan(threads=2)
    assert [(row.status, row.reason, row.frames) for row in rows] == [("ok", "", 90)] * 2
    assert read_scan_table(lab.table) == [replace(row, fps=round(row.fps, 6)) for row in rows]
    for number, name in enumerate(("P01_01", "P01_02")):
        own, built = load_index(lab.index, name), build_index(lab.paths[number])
        assert np.array_equal(own.packets, built.packets) and own.stream == built.stream
    with pytest.raises(EpicError, match=r"P01\.index\.npz: no frame index of P01_99.* -R "):
        load_index(lab.index, "P01_99")


@pytest.mark.parametrize(
    ("order", "limits", "reason"),
    [
        ("get:SIGSEGV", SMALL, "reading it crashed (SIGSEGV)"),
        (
            "creep",
            # This limit grows with the length in the sheet.
            ScanLimits(min_seconds=0.5, seconds_per_second=0.2),
            f"not read within {0.5 + 0.2 * SECONDS:g} s",
        ),
    ],
)
def test_whatever_a_decoder_does_ends_as_a_row_beside_the_others(order, limits, reason, house):
    lab = house(2)
    lab.order(0, order)
    bad, good = lab.scan(limits=limits)
    assert (bad.status, bad.reason, bad.damaged) == ("unreadable", reason, [])
    assert good.status == "ok"
    assert f"P01_01: unreadable: {reason}" in lab.lines
    assert lab.lines[-1] == "2 videos: 1 ok, 1 unreadable; 2 of them decoded now"
    lab.runs()
    assert [row.status for row in lab.scan()] == ["ok", "ok"]
    # A video that could not be read is tried again.
    assert lab.runs() == ["P01_01"]


def test_videos_are_scanned_side_by_side(house):
    lab = house(4)
    for number in range(4):
        lab.order(number, "meet:4")
    assert [row.status for row in lab.scan(threads=4)] == ["ok"] * 4


def test_files_that_are_no_files_are_distinguished(house):
    lab = house(5)
    paths = lab.paths
    for path in paths[:4]:
        path.unlink()
    paths[1].mkdir()
    paths[2].symlink_to("gone.MP4")
    os.mkfifo(paths[3])
    rows = lab.scan(limits=SMALL)
    assert [(row.status, row.reason) for row in rows] == [
        ("missing", f"no file {paths[0]}"),
        ("unreadable", "cannot open: a directory"),
        ("unreadable", "cannot open: broken link to gone.MP4"),
        ("unreadable", "cannot open: not a regular file"),
        ("ok", ""),
    ]
    assert lab.runs() == ["P01_05"]
    assert lab.lines == [
        *(f"{row.video_id}: {row.status}: {row.reason}" for row in rows[:4]),
        "5 videos: 1 ok, 3 unreadable, 1 missing; 1 of them decoded now",
    ]


def test_every_video_that_is_not_sound_gets_one_line_and_others_none(house, sound):
    lab = house(5)
    truncate(lab.paths[1], 0.6)
    zero_block(lab.paths[2], 0.5, 500)
    lab.paths[3].write_bytes(sound["mpeg4"].read_bytes())
    lab.videos[0] = replace(lab.videos[0], duration=SECONDS + 2)
    lab.paths[4].write_bytes(sound["matroska"].read_bytes())
    for number in (3, 4):
        lab.videos[number] = replace(lab.videos[number], duration=4.004)
    first, truncated, _, mpeg4, _ = lab.scan()
    said = "its pictures last 3.00 s, its header says 3.00 s, the sheet says 5.00 s"
    assert (first.status, first.reason, first.finding) == ("ok", "", said)
    assert (first.judged, mpeg4.judged) == ("full", "decoder only")
    damaged = sum(stop - start for start, stop in truncated.damaged)
    assert lab.lines.pop(0) == (
        f"P01_01: {said}; its segments are held back until the config says "
        "`videos: accept: [P01_01]`"
    )
    assert lab.lines[0].startswith(f"P01_02: damaged, {damaged} of 90 frames: truncated: ")
    assert lab.lines[1].startswith("P01_03: damaged, ")
    alone = "1 videos are judged by their decoder only, which misses some spoilt bits: P01_04"
    assert lab.lines[2] == alone and lab.lines[4].startswith("5 videos: ")
    assert re.fullmatch(r"1 videos are read through their container, .*: P01_05", lab.lines[3])
    assert len(lab.lines) == 5 and "\n" not in "".join(lab.lines)


def test_progress_tells_videos_speed_and_time_left(house, monkeypatch):
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", 0.0)
    lab = house(3)
    with records_of("epic100.base.log") as lines:
        lab.scan(threads=1)
    assert any("0/3 videos" in line and "x real time" in line for line in lines)
    assert any("2/3 videos" in line for line in lines)
    assert lines[-1].startswith("scan P01: 270 frames in ")
    with records_of("epic100.base.log") as lines:
        lab.scan()
    assert not lines, "nothing is decoded, so nobody has to wait"


DECODER_FAULTS = {
    "get:SIGKILL": "ended from outside",
    "find_no_folder": "No such file or directory",
    "give_up:0": "left no result",
    "touch": "changed while it was scanned",
    "replace": "changed while it was scanned",
    "cut": "changed while it was scanned",
}


@pytest.mark.parametrize("fault, words", DECODER_FAULTS.items())
def test_a_fault_ends_the_scan_once_all_others_are_done_and_leaves_no_trace(fault, words, house):
    lab = house(3)
    lab.order(0, fault)
    message = rf"P01\.tsv: not written, .* P01_01: .*{words}.* run again"
    with pytest.raises(EpicError, match=message):
        lab.scan()
    assert not lab.table.exists()
    lab.runs()
    rows = lab.scan()
    # The row is about the file as it is now.
    expected = "damaged" if fault == "cut" else "ok"
    assert [row.status for row in rows] == [expected, "ok", "ok"]
    assert lab.runs() == ["P01_01"]


@pytest.fixture(params=["in place", "elsewhere"])
def scanned(request, house, tmp_path) -> House:
    """A scanned participant with one damaged video, or the same with copies of the files."""
    lab = house(2)
    zero_block(lab.paths[1], 0.5, 500)
    lab.rows = lab.scan(threads=2)
    assert [row.status for row in lab.rows] == ["ok", "damaged"] and lab.runs() == lab.kept()
    if request.param == "in place":
        return lab
    copies = House(tmp_path / "new", b"", 2)
    copies.__dict__ |= {name: vars(lab)[name] for name in ("table", "index", "cache", "rows")}
    copies.lines = lab.lines
    for old, new in zip(lab.paths, copies.paths, strict=True):
        shutil.copyfile(old, new)
    return copies


def test_a_second_scan_decodes_nothing_and_says_the_same_also_of_files_that_were_moved(scanned):
    lines, table = scanned.lines, scanned.table.read_bytes()
    for _ in range(2):
        assert scanned.scan() == scanned.rows and scanned.runs() == []
        assert scanned.table.read_bytes() == table
        *said, last = (line for line in scanned.lines if "its result is kept" not in line)
        assert said == lines[:-1]
        assert last == "2 videos: 1 ok, 1 damaged; 0 of them decoded now"
        for path in scanned.paths:
            os.utime(path, (1, 1))


def forget_a_column(path) -> None:
    """As a scan left it before the table had that column."""
    facts, index = kept(path)
    del facts["row"]["judged"]
    keep(path, facts, index)


CHANGES = {
    "file of the same size": lambda lab: zero_block(lab.paths[0], 0.5, 500),
    "result that is cut": lambda lab: os.truncate(lab.cache / "P01_01.npz", 100),
    "result of another kind": lambda lab: (lab.cache / "P01_01.npz").write_bytes(b"[]"),
    "column": lambda lab: forget_a_column(lab.cache / "P01_01.npz"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_file_or_row_of_the_sheet_or_a_spoilt_result_means_another_scan(change, scanned):
    CHANGES[change](scanned)
    first, second = scanned.scan()
    assert first.status == ("damaged" if "file" in change else "ok")
    assert second == scanned.rows[1] and scanned.runs() == ["P01_01"]
    assert scanned.kept() == ["P01_01", "P01_02"]


def test_another_version_of_the_scan_means_another_scan(scanned, monkeypatch):
    monkeypatch.setattr("epic100.scan.participant.VERSION", 10**6)
    assert scanned.scan() == scanned.rows and scanned.runs() == scanned.kept()


def test_a_quick_look_is_never_taken_for_a_scan_but_a_scan_serves_as_one(house):
    lab = house(1)
    (row,) = lab.scan(quick=True)
    assert row.reason == "quick look: 3 of 90 pictures decoded"
    assert lab.scan(quick=True) == [row] and lab.runs() == ["P01_01"]
    (full,) = lab.scan()
    assert (full.status, full.reason) == ("ok", "") and lab.runs() == ["P01_01"]
    assert lab.scan(quick=True) == [full] and lab.runs() == []
    assert lab.kept() == ["P01_01"]
