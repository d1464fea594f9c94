"""What was scanned before, here or elsewhere, by this version or an older one, is kept."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from epic100.minikitchen.damage import zero_block
from epic100.video.index import build_index
from epic100.video.index_file import load_index
from epic100.video.scan_table import read_scan_table
from support.damage import flip, packets_of
from support.decoder_stand_in import SECONDS, House

pytestmark = pytest.mark.slow

OLD_ARRAYS = ("steps", "key_pts", "key_dts", "time_base")


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


def test_what_could_not_be_scanned_is_tried_again(house):
    lab = house(2)
    lab.order(0, "get:SIGSEGV")
    assert [row.status for row in lab.scan()] == ["unreadable", "ok"]
    assert lab.runs() == ["P01_01", "P01_02"]
    assert [row.status for row in lab.scan()] == ["ok", "ok"]
    assert lab.runs() == ["P01_01"]


@pytest.mark.parametrize(
    "change",
    [
        lambda lab: zero_block(lab.paths[0], 0.5, 500),  # of the same size
        lambda lab: lab.videos.insert(0, replace(lab.videos.pop(0), md5="0" * 32)),
        lambda lab: lab.videos.insert(0, replace(lab.videos.pop(0), duration=SECONDS + 3)),
        lambda lab: os.truncate(next(lab.cache.glob("P01_01.*.npz")), 100),
    ],
    ids=["file", "md5", "length", "result spoilt"],
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
    assert lab.kept() == ["P01_01", "P01_02"]  # its old result is gone


def test_a_quick_look_is_never_taken_for_a_scan_but_a_scan_serves_as_one(house):
    lab = house(1)
    # Damage to a picture that is no key frame: a quick look cannot see it.
    victim = [p for p in packets_of(lab.paths[0]) if not p.is_keyframe][20]
    flip(lab.paths[0], victim.pos + victim.size // 2, 3)
    flip(lab.paths[0], victim.pos + victim.size // 3, 4)
    (row,) = lab.scan(quick=True)
    assert row.status == "ok"
    assert row.reason.startswith("quick look: 3 of 90 pictures decoded")
    assert lab.runs() == ["P01_01"]
    lab.scan(quick=True)
    assert lab.runs() == []
    (full,) = lab.scan()
    assert lab.runs() == ["P01_01"]
    assert full.status == "damaged" and "quick" not in full.reason
    assert lab.scan(quick=True) == [full]
    assert lab.runs() == []
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


@pytest.mark.parametrize("change", ["bytes", "length in the sheet", "notes"])
def test_a_copy_of_other_bytes_for_another_sheet_or_without_notes_is_decoded(change, moved):
    lab, elsewhere = moved
    if change == "bytes":  # of the same size
        zero_block(elsewhere.paths[0], 0.5, 500)
    elif change == "length in the sheet":
        elsewhere.videos = [replace(each, duration=SECONDS + 3) for each in lab.videos]
    else:
        for path, spoilt in zip(sorted(lab.cache.glob("*.md5")), (b"[]", b"\xff{"), strict=True):
            path.write_bytes(spoilt)
    rows = elsewhere.scan()
    assert (rows[0].status == "damaged") == (change == "bytes")
    assert elsewhere.runs() == ["P01_01", "P01_02"][: 1 if change == "bytes" else 2]
    assert lab.kept() == ["P01_01", "P01_02"]


@pytest.fixture
def old(house):
    """Makes a participant whose cache is as version 2 of the scan left it."""

    def make(count: int, video: list[bytes] = (), **changes):
        lab = house(count, *video)
        assert {row.version for row in lab.scan()} == {3}
        for video, path in zip(lab.videos, lab.paths, strict=True):
            (kept,) = lab.cache.glob(f"{video.video_id}.*.npz")
            with np.load(kept) as arrays:
                row = json.loads(str(arrays["row"])) | changes
                arrays = {name: arrays[name] for name in OLD_ARRAYS}
            del row["judged"], row["version"]
            kept.unlink()
            state = path.stat()
            key = (2, path.resolve(), state.st_size, state.st_mtime_ns, video.md5, video.duration)
            name = hashlib.sha256(" ".join(map(str, key)).encode()).hexdigest()[:16]
            kept = lab.cache / f"{video.video_id}.{name}.npz"
            np.savez_compressed(kept, row=np.array(json.dumps(row)), **arrays)
        return lab

    return make


def test_a_result_of_an_older_scan_stays_and_its_index_gets_the_packets(old):
    lab = old(2, reason="as judged before")
    rows = lab.scan()
    assert [(row.reason, row.version) for row in rows] == [("as judged before", 2)] * 2
    assert [row.version for row in read_scan_table(lab.table)] == [2, 2]
    found = load_index(lab.index, "P01_01").table.to_arrays()
    for name, value in build_index(lab.paths[0]).table.to_arrays().items():
        assert np.array_equal(found[name], value), name
    assert lab.lines[0].startswith("2 of them were scanned by an older version of the scan")
    assert str(lab.cache) in lab.lines[0]
    assert lab.lines[-1] == "2 videos: 2 ok; 0 of them decoded now"
    assert lab.kept() == ["P01_01", "P01_02"]
    lab.runs()
    assert lab.scan() == rows and lab.runs() == []  # from then on nothing is read at all


def test_the_key_frames_of_an_older_scan_stay(old, sound):
    lab = old(1, [sound["intra_refresh"].read_bytes()])
    assert len(load_index(lab.index, "P01_01").key_pts) == 1
    lab.scan()
    index = load_index(lab.index, "P01_01")
    assert len(index.key_pts) == len(index.table.key_packet) == 1
    assert len(build_index(lab.paths[0]).key_pts) > 1


def test_an_older_result_of_a_file_that_was_replaced_is_not_used(old):
    lab = old(1)
    zero_block(lab.paths[0], 0.5, 500)
    (row,) = lab.scan()
    assert (row.status, row.version) == ("damaged", 3)


def test_an_older_result_stays_where_its_packets_can_no_longer_be_read(old):
    lab = old(1)
    lab.order(0, "give_up:1")
    (row,) = lab.scan()
    assert (row.status, row.version) == ("ok", 2)
    assert load_index(lab.index, "P01_01").table is None


def test_a_table_of_before_is_read(house):
    lab = house(1)
    lab.scan()
    header, row = (line.split("\t") for line in lab.table.read_text().splitlines())
    assert header[8:] == ["judged", "version"]
    lab.table.write_text("\n".join("\t".join(line[:8]) for line in (header, row)) + "\n")
    (old,) = read_scan_table(lab.table)
    assert (old.status, old.judged, old.version) == ("ok", "", 2)
