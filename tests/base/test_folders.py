"""Folders with several writers, with what a killed one left, and behind links of others."""

import os
import threading
from pathlib import Path

import pytest

from epic100.base.atomic import write_text
from epic100.base.errors import EpicError
from epic100.base.folders import make_folder, new_folder, refuse_links, remove_folder

ANOTHER = 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of another user")


def test_two_writers_of_a_folder_leave_the_whole_one_of_the_last(tmp_path):
    folder = tmp_path / "browse"
    with new_folder(folder) as first:
        (first / "first").touch()
        with new_folder(folder) as second:
            (second / "second").touch()
        assert os.listdir(folder) == ["second"] and os.listdir(first) == ["first"]
    assert os.listdir(folder) == ["first"] and os.listdir(tmp_path) == ["browse"]


def test_writers_that_come_and_go_at_once_all_end_well(tmp_path):
    folder, failed = tmp_path / "browse", []

    def write(number):
        try:
            for _ in range(25):
                with new_folder(folder) as new:
                    for name in "ab":
                        (new / name).write_text(str(number))
        except Exception as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    assert (folder / "a").read_text() == (folder / "b").read_text()
    assert os.listdir(tmp_path) == ["browse"]


@pytest.fixture
def planted(tmp_path):
    """A link of another user to a folder that must keep its file."""
    home = tmp_path / "home"
    (home / "scan").mkdir(parents=True)
    (home / "scan/thesis.txt").write_text("years of work")
    link = tmp_path / "results"
    link.symlink_to(home)
    os.lchown(link, ANOTHER, ANOTHER)
    yield link
    assert (home / "scan/thesis.txt").read_text() == "years of work"
    assert os.listdir(home) == ["scan"]


def rewrite(folder: Path) -> None:
    with new_folder(folder):
        pass


@as_root
@pytest.mark.parametrize(
    "act",
    [
        make_folder,
        remove_folder,
        rewrite,
        lambda folder: refuse_links([folder]),
        lambda folder: write_text(folder / "thesis.txt", "output"),
        lambda folder: write_text(folder / "new/output.txt", "output"),
    ],
)
def test_nothing_is_made_or_removed_behind_another_user_s_link(planted, act):
    with pytest.raises(EpicError, match="/results: a link or a pipe; .* see who put it there"):
        act(planted / "scan")


@as_root
def test_a_link_in_the_place_of_a_folder_is_removed_or_replaced_not_what_it_leads_to(planted):
    rewrite(planted)
    assert not planted.is_symlink() and os.listdir(planted) == []
    planted.rmdir()
    planted.symlink_to(planted.parent / "home")
    os.lchown(planted, ANOTHER, ANOTHER)
    remove_folder(planted)
    assert not os.path.lexists(planted)


def test_a_link_of_one_s_own_is_followed(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "scratch")
    make_folder(tmp_path / "results/scan")
    rewrite(tmp_path / "results/browse")
    write_text(tmp_path / "results/logs/P01.tsv", "output")
    assert sorted(os.listdir(tmp_path / "scratch")) == ["browse", "logs", "scan"]
