"""What was scanned before, here or elsewhere, is kept."""

import os
import shutil

import pytest

from epic100.minikitchen.damage import zero_block
from epic100.video.jobs import keep, kept
from support.decoder_stand_in import House

pytestmark = pytest.mark.slow


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
        assert scanned.lines[:-1] == lines[:-1]
        assert scanned.lines[-1] == "2 videos: 1 ok, 1 damaged; 0 of them decoded now"
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
    monkeypatch.setattr("epic100.scan.kept_results.VERSION", 10**6)
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
