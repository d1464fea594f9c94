"""Folders with several writers, with leftovers of a killed one, and behind links of other users."""

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from epic100.base.atomic import write_text
from epic100.base.errors import EpicError
from epic100.base.folders import make_folder, new_folder, refuse_links, remove_folder

# No user has this number.
ANOTHER_USER = 54321
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of another user")


@pytest.mark.parametrize(
    "flock",
    [
        pytest.param(fcntl.flock, id="locks"),
        pytest.param(Mock(side_effect=OSError(errno.ENOLCK, "No locks available")), id="no locks"),
    ],
)
def test_the_folder_of_the_last_of_two_writers_stays(tmp_path, monkeypatch, flock):
    """Without locks, a writer once took the folder of the other for a leftover."""
    monkeypatch.setattr(fcntl, "flock", flock)
    folder = tmp_path / "browse"
    with new_folder(folder) as first:
        (first / "first").touch()
        with new_folder(folder) as second:
            (second / "second").touch()
        assert os.listdir(folder) == ["second"]
    assert os.listdir(folder) == ["first"]
    assert os.listdir(tmp_path) == ["browse"]


def test_a_folder_holds_the_files_of_one_of_many_simultaneous_writers(tmp_path):
    folder = tmp_path / "browse"

    def write_often(number):
        for _ in range(25):
            with new_folder(folder) as new:
                (new / "a").write_text(str(number))
                (new / "b").write_text(str(number))

    with ThreadPoolExecutor(4) as pool:
        # The list raises the first error of a writer.
        list(pool.map(write_often, range(4)))
    assert (folder / "a").read_text() == (folder / "b").read_text()
    assert os.listdir(tmp_path) == ["browse"]


@pytest.fixture
def foreign_link(tmp_path):
    """A link of another user to a folder that must keep its file."""
    home = tmp_path / "home"
    (home / "scan").mkdir(parents=True)
    (home / "scan/thesis.txt").write_text("years of work")
    link = tmp_path / "results"
    link.symlink_to(home)
    os.lchown(link, ANOTHER_USER, ANOTHER_USER)
    yield link
    assert (home / "scan/thesis.txt").read_text() == "years of work"
    assert os.listdir(home) == ["scan"]


def replace_folder(folder: Path) -> None:
    with new_folder(folder):
        pass


@as_root
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(make_folder, id="make"),
        pytest.param(remove_folder, id="remove"),
        pytest.param(replace_folder, id="replace"),
        pytest.param(lambda folder: refuse_links([folder]), id="check"),
        pytest.param(lambda folder: write_text(folder / "thesis.txt", "output"), id="write"),
        pytest.param(lambda folder: write_text(folder / "new/a.txt", "output"), id="write below"),
    ],
)
def test_nothing_is_made_or_removed_behind_another_user_s_link(foreign_link, act):
    with pytest.raises(EpicError, match="/results: a link or a pipe; .* see who put it there"):
        act(foreign_link / "scan")


@as_root
@pytest.mark.parametrize("act", [replace_folder, remove_folder])
def test_a_link_in_the_place_of_a_folder_goes_and_its_target_stays(foreign_link, act):
    act(foreign_link)
    assert not foreign_link.is_symlink()


def test_a_link_of_this_user_is_followed(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "scratch")
    make_folder(tmp_path / "results/scan")
    replace_folder(tmp_path / "results/browse")
    write_text(tmp_path / "results/logs/P01.tsv", "output")
    assert sorted(os.listdir(tmp_path / "scratch")) == ["browse", "logs", "scan"]
