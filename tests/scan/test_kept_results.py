"""What was scanned before, here or elsewhere, is kept."""

import hashlib
import os
import shutil
from dataclasses import replace

import av
import pytest

from epic100.base import disk
from epic100.minikitchen.damage import coded_data, zero_block
from epic100.scan.worker import HashedFile
from epic100.video.jobs import keep, kept
from support.decoder_stand_in import SECONDS, House
from support.tricky_videos import encode

pytestmark = pytest.mark.slow


def test_a_second_scan_decodes_nothing_and_says_the_same(house):
    lab = house(3)
    zero_block(lab.paths[1], 0.5, 500)
    first, lines = lab.scan(threads=2), lab.lines
    table = lab.table.read_bytes()
    assert lab.runs() == ["P01_01", "P01_02", "P01_03"]
    assert lab.scan() == first
    assert lab.runs() == []
    assert lab.table.read_bytes() == table
    assert lab.lines[:-1] == lines[:-1]
    assert lab.lines[-1] == "3 videos: 2 ok, 1 damaged; 0 of them decoded now"


def forget_a_column(path) -> None:
    """As a scan left it before the table had that column."""
    facts, index = kept(path)
    del facts["row"]["judged"]
    keep(path, facts, index)


@pytest.mark.parametrize(
    "change",
    [
        lambda lab: zero_block(lab.paths[0], 0.5, 500),  # of the same size
        lambda lab: lab.videos.insert(0, replace(lab.videos.pop(0), md5="0" * 32)),
        lambda lab: lab.videos.insert(0, replace(lab.videos.pop(0), duration=SECONDS + 3)),
        lambda lab: os.truncate(lab.cache / "P01_01.npz", 100),
        lambda lab: forget_a_column(lab.cache / "P01_01.npz"),
    ],
    ids=["file", "md5", "length", "result spoilt", "another column"],
)
def test_another_file_or_row_of_the_sheet_or_a_spoilt_result_means_another_scan(
    change, house, request
):
    lab = house(2)
    lab.scan()
    lab.runs()
    change(lab)
    rows = lab.scan()
    changed = "[file]" in request.node.name
    assert [row.status for row in rows] == ["damaged" if changed else "ok", "ok"]
    assert lab.runs() == ["P01_01"]
    assert lab.kept() == ["P01_01", "P01_02"]


def test_a_quick_look_is_never_taken_for_a_scan_but_a_scan_serves_as_one(house):
    lab = house(1)
    (row,) = lab.scan(quick=True)
    assert row.reason == "quick look: 3 of 90 pictures decoded"
    assert lab.scan(quick=True) == [row] and lab.runs() == ["P01_01"]
    (full,) = lab.scan()
    assert (full.status, full.reason) == ("ok", "") and lab.runs() == ["P01_01"]
    assert lab.scan(quick=True) == [full] and lab.runs() == []
    assert lab.kept() == ["P01_01"]


@pytest.fixture
def moved(house, tmp_path):
    """A scanned participant with one damaged video, and the same with copies of the files."""
    lab = house(2)
    zero_block(lab.paths[1], 0.5, 500)
    lab.rows = lab.scan()
    assert [row.status for row in lab.rows] == ["ok", "damaged"]
    elsewhere = House(tmp_path / "new", b"", 2)
    elsewhere.table, elsewhere.index = lab.table, lab.index
    for old, new in zip(lab.paths, elsewhere.paths, strict=True):
        shutil.copyfile(old, new)
    return lab, elsewhere


def test_a_file_that_is_moved_or_copied_anew_is_known_by_size_and_md5(moved):
    lab, elsewhere = moved
    assert elsewhere.scan() == lab.rows
    for path in elsewhere.paths:
        os.utime(path, (1, 1))
    assert elsewhere.scan() == lab.rows
    assert elsewhere.lines[-1].endswith("; 0 of them decoded now")
    lab.runs()
    assert lab.scan() == lab.rows  # and back
    assert lab.runs() == elsewhere.runs() == []


@pytest.mark.parametrize("change", ["bytes", "sheet", "results", "version"])
def test_other_bytes_another_sheet_or_scan_or_spoilt_results_mean_another_scan_of_a_copy(
    change, moved, monkeypatch
):
    lab, elsewhere = moved
    if change == "bytes":  # of the same size
        zero_block(elsewhere.paths[0], 0.5, 500)
    elif change == "sheet":
        elsewhere.videos = [replace(each, duration=SECONDS + 3) for each in lab.videos]
    elif change == "version":
        monkeypatch.setattr("epic100.scan.kept_results.VERSION", 10**6)
    else:
        for path, spoilt in zip(sorted(lab.cache.iterdir()), (b"[]", b"\xff{"), strict=True):
            path.write_bytes(spoilt)
    rows = elsewhere.scan()
    assert (rows[0].status == "damaged") == (change == "bytes")
    assert elsewhere.runs() == ["P01_01", "P01_02"][: 1 if change == "bytes" else 2]
    assert lab.kept() == ["P01_01", "P01_02"]


@pytest.mark.parametrize("place", ["0", "faststart"])
def test_the_md5_takes_no_second_read_of_the_pictures(place, tmp_path, monkeypatch):
    path = encode(tmp_path / "v.MP4", 90, movflags=place)
    start, stop = coded_data(path, "moov")
    again, pread = [], os.pread
    with HashedFile(path) as file:
        with av.open(file, "r") as container:
            assert len(list(container.demux())) > 90
        monkeypatch.setattr(disk.os, "pread", lambda *what: again.append(pread(*what)) or again[-1])
        assert file.md5() == hashlib.md5(path.read_bytes()).hexdigest()
    assert sum(map(len, again)) <= (stop - start + 8 if place == "0" else 0)
