"""What the machine does to a scan is never a property of a video."""

import pytest

from epic100.base.errors import EpicError
from support.this_process import largest_file

pytestmark = pytest.mark.slow

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


def test_a_full_cache_makes_no_sound_video_unreadable(house):
    lab = house(2)
    lab.videos, both = lab.videos[:1], lab.videos
    # This starts the server of decoders, which the limit below does not reach.
    lab.scan()
    lab.videos = both
    with (
        largest_file(512),
        pytest.raises(EpicError, match=r"P01_02: .*not written: File too large"),
    ):
        lab.scan()
    lab.table.unlink()
    assert [row.status for row in lab.scan()] == ["ok", "ok"]
