"""What the machine does to a scan is never a property of a video."""

import errno
import os
import resource

import pytest

from epic100.base import disk
from epic100.base.disk import WatchedFile
from epic100.base.errors import EpicError
from epic100.scan import participant

pytestmark = pytest.mark.slow

DECODER_FAULTS = {
    "get:SIGKILL": "ended from outside",
    "find_no_folder": "No such file or directory",
    "give_up:0": "left no result",
    "touch": "changed while it was scanned",
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No waits before a video is tried again."""
    monkeypatch.setattr(participant, "RETRY_SECONDS", (0.0,))


@pytest.mark.parametrize("fault", [*DECODER_FAULTS, "replace", "cut"])
def test_a_fault_that_passes_is_tried_again_and_leaves_no_trace(fault, house):
    lab = house(2)
    lab.order(0, fault)
    rows = lab.scan()
    expected = "damaged" if fault == "cut" else "ok"  # as the file is now
    assert [row.status for row in rows] == [expected, "ok"]
    assert lab.runs() == ["P01_01"] * 2 + ["P01_02"]
    assert lab.scan() == rows
    assert lab.runs() == []


@pytest.mark.parametrize("fault, words", DECODER_FAULTS.items())
def test_a_fault_that_stays_ends_the_scan_once_all_others_are_done(fault, words, house):
    lab = house(3)
    lab.order(0, *[fault] * 2)
    message = rf"P01\.tsv: not written, .* P01_01: .*{words}.* run again"
    with pytest.raises(EpicError, match=message):
        lab.scan()
    assert not lab.table.exists()
    lab.runs()
    assert [row.status for row in lab.scan()] == ["ok"] * 3
    assert lab.runs() == ["P01_01"]


def test_a_full_cache_makes_no_sound_video_unreadable(house):
    lab = house(2)
    lab.videos, both = lab.videos[:1], lab.videos
    lab.scan()  # its server stays, and may write what it likes
    lab.videos = both
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(EpicError, match=r"P01_02: .*not written: File too large"):
            lab.scan()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    lab.table.unlink()
    assert [row.status for row in lab.scan()] == ["ok", "ok"]


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
def test_a_read_that_the_disk_refuses_is_tried_again_and_then_an_error(monkeypatch):
    waited = []
    monkeypatch.setattr(disk.time, "sleep", waited.append)
    with pytest.raises(EpicError, match=r"/proc/self/mem: reading at byte 5 failed 4 times"):
        WatchedFile("/proc/self/mem").read_at(5, 8)  # nothing is mapped there: EIO
    assert waited == list(disk.WAITS)


def test_what_a_file_is_by_itself_is_no_fault_of_the_disk(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        WatchedFile(tmp_path / "none")
    (tmp_path / "v.MP4").write_bytes(b"0123456789")
    file = WatchedFile(tmp_path / "v.MP4")
    assert (file.size, file.read(4), file.tell()) == (10, b"0123", 4)
    assert (file.seek(-2, os.SEEK_END), file.read(4)) == (8, b"89")
    assert file.read_at(2, 3) == b"234"
    assert file.seek(-11, os.SEEK_END) < 0  # and so it is in a spoilt file, which asks for it

    def refuse(handle):
        close(handle)
        raise OSError(errno.EIO, "Input/output error")

    close = os.close
    monkeypatch.setattr(disk.os, "close", refuse)
    file.close()  # which takes nothing from what was read
