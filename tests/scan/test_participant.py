"""The scan of a participant: its table, its log, its kept results, and errors of the machine."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import truncate, zero_block
from epic100.settings.data import SECONDS_PER_SECOND, ScanLimits
from epic100.video.index import load_index, read_stored_result, store_result
from epic100.video.scan_table import read_scan_table
from support.decoder_stand_in import SECONDS, ShortVideos
from support.packets import rewrite
from support.scanned import index_of
from support.this_process import records_of

pytestmark = pytest.mark.slow


@pytest.fixture
def make_videos(tmp_path, short_video):
    """A function that makes a participant with this number of equal videos, each of 90 frames."""
    return lambda count: ShortVideos(tmp_path, short_video, count)


def test_a_scan_writes_rows_and_indexes(make_videos):
    lab = make_videos(2)
    # The first video is a link to a file of another name, the second one is fragmented.
    elsewhere = lab.paths[0].rename(lab.folder / "elsewhere.mp4")
    lab.paths[0].symlink_to(elsewhere)
    rewrite(lab.paths[1], movflags="frag_keyframe+empty_moov")
    rows = lab.scan(threads=2)
    assert [(row.status, row.reason, row.frames) for row in rows] == [("ok", "", 90)] * 2
    # The table has rates to 6 digits.
    assert read_scan_table(lab.table) == [replace(row, fps=round(row.fps, 6)) for row in rows]
    for path, name in zip(lab.paths, ("P01_01", "P01_02"), strict=True):
        written, built = load_index(lab.index, name), index_of(path)
        assert np.array_equal(written.packets, built.packets)
        assert written.stream == built.stream
    with pytest.raises(EpicError, match=r"P01\.index\.npz: no frame index of P01_99.* -R "):
        load_index(lab.index, "P01_99")


@pytest.mark.parametrize(
    ("order", "limits", "reason"),
    [
        pytest.param(
            "get:SIGSEGV",
            ScanLimits(memory_mib=512),
            "reading it crashed (SIGSEGV)",
            id="it crashes",
        ),
        pytest.param(
            "creep:1",  # It sleeps nearly always, so that a check finds it asleep.
            ScanLimits(min_seconds=0.5),
            # The limit grows with the length in the sheet.
            f"not read within {0.5 + SECONDS_PER_SECOND * SECONDS:g} s",
            id="it is too slow",
        ),
    ],
)
def test_a_failing_decoder_means_unreadable_after_retries(
    order, limits, reason, make_videos, monkeypatch
):
    # The slow one is looked at after this many times its limit.
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", 2)
    lab = make_videos(2)
    lab.order(0, order)
    bad, good = lab.scan(limits=limits)
    assert (bad.status, bad.reason, bad.damaged) == ("unreadable", reason, [])
    assert good.status == "ok"
    assert f"P01_01: unreadable: {reason}" in lab.lines
    assert lab.lines[-1] == "2 videos: 1 ok, 1 unreadable; 2 of them decoded now"
    lab.runs()
    assert [row.status for row in lab.scan()] == ["ok", "ok"]
    assert lab.runs() == ["P01_01"]


def test_threads_decide_how_many_are_scanned_together(make_videos):
    lab = make_videos(4)
    for number in range(4):
        # This order waits until four videos are being scanned.
        lab.order(number, "meet:4")
    assert [row.status for row in lab.scan(threads=4)] == ["ok"] * 4


def test_missing_videos_and_irregular_files_differ(make_videos):
    lab = make_videos(5)
    missing, directory, link, fifo, _ = lab.paths
    for path in (missing, directory, link, fifo):
        path.unlink()
    directory.mkdir()
    link.symlink_to("gone.MP4")
    os.mkfifo(fifo)
    rows = lab.scan()
    assert [(row.status, row.reason) for row in rows] == [
        ("missing", f"no file {missing}"),
        ("unreadable", "cannot open: a directory"),
        ("unreadable", "cannot open: broken link to gone.MP4"),
        ("unreadable", "cannot open: not a regular file"),
        ("ok", ""),
    ]
    assert lab.runs() == ["P01_05"]
    assert lab.lines[-1] == "5 videos: 1 ok, 3 unreadable, 1 missing; 1 of them decoded now"


def test_the_log_has_videos_that_are_not_ok(make_videos, undamaged):
    lab = make_videos(5)
    # The sheet has a wrong length of P01_01. P01_02 is cut, and P01_03 has lost a block of bytes.
    lab.videos[0] = replace(lab.videos[0], duration=SECONDS + 2)
    truncate(lab.paths[1], 0.6)
    zero_block(lab.paths[2], 0.5, 500)
    # The bits of MPEG-4 part 2 are not checked one by one. The file has 120 frames at 29.97
    # frames per second, which last 4.004 s.
    lab.paths[3].write_bytes(undamaged["mpeg4"].read_bytes())
    lab.videos[3] = replace(lab.videos[3], duration=4.004)
    # A film of another type is told as such.
    lab.paths[4].write_bytes(b"\x1a\x45\xdf\xa3" * 99)
    lab.scan()
    patterns = [
        r"P01_01: its frames last 3\.00 s, its header says 3\.00 s, the sheet says 5\.00 s; "
        r"its segments are held back until the config says `videos: accept: \[P01_01\]`",
        r"P01_02: damaged, \d+ of 90 frames: truncated: .*",
        r"P01_03: damaged, .*",
        r"P01_05: unreadable: cannot open: it is Matroska or WebM; expected MP4 or MOV; make one: "
        r"`ffmpeg -i FILE -an -sn -c copy NEW\.mp4`",
        r"1 videos are judged by their decoder only, which misses some spoilt bits: P01_04",
        r"5 videos: .*",
    ]
    for line, pattern in zip(lab.lines, patterns, strict=True):
        assert re.fullmatch(pattern, line)


def test_the_progress_states_videos_and_speed(make_videos, monkeypatch):
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", 0.0)
    lab = make_videos(3)
    with records_of("epic100.base.log") as lines:
        lab.scan(threads=1)
    assert any("0/3 videos" in line and "x real time" in line for line in lines)
    assert any("2/3 videos" in line for line in lines)
    assert lines[-1].startswith("scan P01: 270 frames in ")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("get:SIGKILL", "ended from outside"),
        ("find_no_folder", "No such file or directory"),
        ("give_up:0", "left no result"),
        ("touch", "changed while it was scanned"),
        ("replace", "changed while it was scanned"),
        ("cut", "changed while it was scanned"),
    ],
)
def test_a_machine_s_error_fails_the_scan_last(order, words, make_videos):
    lab = make_videos(2)
    lab.order(0, order)
    message = rf"P01\.tsv: not written, .* P01_01: .*{words}.* run again"
    with pytest.raises(EpicError, match=message):
        lab.scan()
    assert not lab.table.exists()
    lab.runs()
    rows = lab.scan()
    # The row is about the file as it is now, and the order "cut" truncated it.
    expected = "damaged" if order == "cut" else "ok"
    assert [row.status for row in rows] == [expected, "ok"]
    assert lab.runs() == ["P01_01"]


@pytest.fixture
def scanned(make_videos) -> ShortVideos:
    """A scanned participant: P01_01 is ok, and P01_02 is damaged."""
    lab = make_videos(2)
    zero_block(lab.paths[1], 0.5, 500)
    lab.rows = lab.scan(threads=2)
    assert [row.status for row in lab.rows] == ["ok", "damaged"]
    assert lab.runs() == lab.kept()
    return lab


def move_behind_a_link(path) -> None:
    """Move a file to another path, with a symbolic link in its place."""
    moved = path.rename(path.with_suffix(".moved"))
    path.symlink_to(moved)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: None, id="unchanged"),
        pytest.param(lambda path: os.utime(path, (1, 1)), id="another modification time"),
        pytest.param(move_behind_a_link, id="another path"),
    ],
)
def test_a_second_scan_decodes_nothing(change, scanned):
    lines, table = scanned.lines, scanned.table.read_bytes()
    for path in scanned.paths:
        change(path)
    assert scanned.scan() == scanned.rows
    assert scanned.runs() == []
    assert scanned.table.read_bytes() == table
    said = [line for line in scanned.lines if "its result is kept" not in line]
    assert said == [*lines[:-1], "2 videos: 1 ok, 1 damaged; 0 of them decoded now"]


def edit_result(lab, edit) -> None:
    """Change the JSON of the kept result of P01_01 by a function."""
    path = lab.cache / "P01_01.npz"
    facts, index = read_stored_result(path)
    edit(facts)
    store_result(path, facts, index)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param(
            lambda lab: zero_block(lab.paths[0], 0.5, 500), "damaged", id="video of the same size"
        ),
        pytest.param(
            lambda lab: os.truncate(lab.cache / "P01_01.npz", 100), "ok", id="truncated result"
        ),
        pytest.param(
            lambda lab: edit_result(lab, lambda facts: facts["row"].pop("judged")),
            "ok",
            id="result without a column",
        ),
        pytest.param(
            lambda lab: edit_result(lab, lambda facts: facts.update(version=0)),
            "ok",
            id="result of another version",
        ),
    ],
)
def test_a_changed_video_or_result_is_rescanned(change, status, scanned):
    change(scanned)
    first, second = scanned.scan()
    assert first.status == status
    assert second == scanned.rows[1]
    assert scanned.runs() == ["P01_01"]
