"""Folders with several writers, and with leftovers of a killed one."""

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from epic100.base.folders import new_folder


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
