"""What the machine does to a scan is never a property of a video."""

import pytest

from epic100.base.errors import EpicError
from epic100.scan import participant
from support.this_process import largest_file

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
    with (
        largest_file(512),
        pytest.raises(EpicError, match=r"P01_02: .*not written: File too large"),
    ):
        lab.scan()
    lab.table.unlink()
    assert [row.status for row in lab.scan()] == ["ok", "ok"]
