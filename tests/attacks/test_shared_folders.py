"""What others plant in folders they share with a run: links, pipes and modules of Python."""

import os
import re
import stat
from pathlib import Path

import pytest

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.download.part import claim, open_plain, part_path
from epic100.scan import scan_participant
from epic100.video.sheet import Video
from support.checkout import ROOT

pytestmark = pytest.mark.slow

FILM = Video("P01_01", "P01", "train", 50.0, 3.0)


@pytest.fixture
def victim(tmp_path):
    """A file elsewhere that must keep its text."""
    path = tmp_path / "home/thesis.txt"
    path.parent.mkdir()
    path.write_text("years of work")
    yield path
    assert path.read_text() == "years of work"


def test_links_under_the_name_of_an_output_and_of_its_process_do_not_lead_it_away(tmp_path, victim):
    shared = tmp_path / "shared"
    shared.mkdir()
    for number in range(os.getpid() - 3, os.getpid() + 3):
        (shared / f".table.{number}.tmp.tsv").symlink_to(victim)
    table = shared / "table.tsv"
    table.symlink_to(victim)
    with atomic_path(table) as temporary:
        temporary.write_text("output")
    assert not table.is_symlink() and table.read_text() == "output"


def test_a_temporary_file_is_new_each_time_and_as_open_as_the_umask_says(tmp_path):
    names, before = set(), os.umask(0o027)
    try:
        for _ in range(3):
            with atomic_path(tmp_path / "a.txt") as temporary:
                assert temporary.is_file() and not temporary.is_symlink()
                names.add(temporary.name)
                temporary.write_text("x")
            assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    finally:
        os.umask(before)
    assert len(names) == 3 and all(re.fullmatch(r"\.a\.[0-9a-f]{16}\.tmp\.txt", n) for n in names)


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to, lambda p, _: os.mkfifo(p)])
def test_a_link_or_a_pipe_in_the_place_of_a_part_file_is_refused(tmp_path, victim, plant):
    target = tmp_path / "P01_01.MP4"
    plant(part_path(target), victim)
    refused = pytest.raises(EpicError, match=r"P01_01\.MP4\.part: a link or a pipe; .*remove")
    with refused, claim(target):
        pass


def test_a_link_in_the_place_of_a_part_s_notes_is_replaced_not_followed(tmp_path, victim):
    target = tmp_path / "P01_01.MP4"
    part_path(target).with_name("P01_01.MP4.part.json").symlink_to(victim)
    with claim(target) as part:
        part.promise(10, None)


@pytest.mark.parametrize(
    "notes", ["[]", '{"length": "9", "validator": 9}', "[" * 9000, "{", '{"validator": null}', "9"]
)
def test_notes_of_a_part_that_are_none_of_ours_say_nothing(tmp_path, notes):
    target = tmp_path / "P01_01.MP4"
    part_path(target).write_bytes(b"abc")
    part_path(target).with_name("P01_01.MP4.part.json").write_text(notes)
    with claim(target) as part:
        assert (part.size, part.length, part.validator) == (3, None, None)


def test_a_plain_file_is_opened_and_made(tmp_path):
    for text in (b"a", b"b"):
        with open(open_plain(tmp_path / "log", os.O_WRONLY | os.O_APPEND), "ab") as file:
            file.write(text)
    assert (tmp_path / "log").read_bytes() == b"ab"


def test_modules_in_the_working_folder_are_not_imported_by_the_scan(
    tmp_path, monkeypatch, short_video
):
    FILM.path(tmp_path / "videos").parent.mkdir(parents=True)
    FILM.path(tmp_path / "videos").write_bytes(short_video)
    for module in ("av", "numpy", "epic100"):
        (tmp_path / f"{module}.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path)
    (row,) = scan_participant([FILM], "videos", "scan/P01.tsv", "scan/P01.index.npz")
    assert row.status == "ok" and not Path("ran").exists()


def test_every_process_of_the_library_starts_without_the_working_folder_on_its_path():
    starts = []
    for path in (ROOT / "workflow/epic100").rglob("*.py"):
        starts += re.findall(r'.*"-m".*', path.read_text(encoding="utf-8"))
    assert len(starts) >= 5 and all('"-P", "-m"' in line for line in starts)
