"""Folders with several writers."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from epic100.base.atomic import new_folder


def test_the_folder_of_the_last_of_two_writers_stays(tmp_path):
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


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path):
    for name in ("old", "new"):
        (tmp_path / f".browse.new-{name}/new").mkdir(parents=True)
    os.utime(tmp_path / ".browse.new-old", (time.time() - 2 * 24 * 3600,) * 2)
    with new_folder(tmp_path / "browse"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".browse.new-new", "browse"]
