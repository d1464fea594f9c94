import os
import shutil

import pytest

from epic100.minikitchen.damage import zero_block
from epic100.scan import scan_participant
from epic100.video.scan_table import DAMAGED, OK
from epic100.video.sheet import Video
from support.records import records_of


@pytest.fixture
def videos(tmp_path, short_video):
    """Two videos below `old`; the second is damaged."""
    names = ("P01_01", "P01_02")
    made = [Video(name, "P01", "train", 30000 / 1001, 90 * 1001 / 30000) for name in names]
    for video in made:
        path = video.path(tmp_path / "old")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(short_video)
    zero_block(made[1].path(tmp_path / "old"), 0.5, 500)
    return made


def scan(videos, folder, root):
    """The rows, and how many videos were decoded."""
    table = folder / "scan" / "P01.tsv"
    with records_of("epic100.scan") as lines:
        rows = scan_participant(videos, folder / root, table, table.with_suffix(".index.npz"))
    return rows, int(lines[-1].split("; ")[-1].split()[0])


def test_a_file_that_is_moved_or_copied_anew_is_known_by_size_and_md5(videos, tmp_path):
    first, decoded = scan(videos, tmp_path, "old")
    assert [row.status for row in first] == [OK, DAMAGED] and decoded == 2
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copyfile)
    assert scan(videos, tmp_path, "new") == (first, 0)
    for video in videos:
        os.utime(video.path(tmp_path / "new"), (1, 1))
    assert scan(videos, tmp_path, "new") == (first, 0)
    assert scan(videos, tmp_path, "old") == (first, 0)  # and back


def test_other_bytes_of_the_same_size_are_decoded(videos, tmp_path):
    scan(videos, tmp_path, "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copyfile)
    zero_block(videos[0].path(tmp_path / "new"), 0.5, 500)
    rows, decoded = scan(videos, tmp_path, "new")
    assert [row.status for row in rows] == [DAMAGED, DAMAGED] and decoded == 1
    assert len(list((tmp_path / "scan/cache/P01").glob("P01_01.*.npz"))) == 1


def test_what_of_the_sheet_decides_on_damage_must_be_the_same(videos, tmp_path):
    scan(videos, tmp_path, "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copyfile)
    longer = [Video(**{**vars(video), "duration": video.duration + 3}) for video in videos]
    assert scan(longer, tmp_path, "new")[1] == 2


def test_a_spoilt_note_means_another_scan_and_no_error(videos, tmp_path):
    scan(videos, tmp_path, "old")
    for note, spoilt in zip(
        sorted((tmp_path / "scan/cache/P01").glob("*.md5")), (b"[]", b"\xff{"), strict=True
    ):
        note.write_bytes(spoilt)
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copyfile)
    assert scan(videos, tmp_path, "new")[1] == 2
