"""The page's folder: complete or not at all, and within the room that it is given."""

import json

import pytest

from epic100.base.errors import DiskError
from epic100.browse.folder import new_folder
from support.small_browse import make_browse


def written(page):
    text = (page.parent / "data.js").read_text()
    return json.loads(text.removeprefix("window.epicData = ").removesuffix(";\n"))


def test_it_has_the_page_its_libraries_licence_and_a_clip_of_each_predicted_segment(tmp_path):
    page = make_browse(tmp_path, b"clip")
    names = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*")}
    assert {"index.html", "data.js", "vendor/tabulator.min.js", "vendor/tabulator.LICENSE",
            "clips/P18/P18_01_0.mp4"} <= names  # fmt: skip
    data = written(page)
    assert data["clips"] == list(range(1, 27)) and data["left_out"] == 0
    assert page.parent.joinpath("clips/P18/P18_01_0.mp4").samefile(
        tmp_path / "clips/val/P18/P18_01_0.mp4"
    )


def test_clips_that_do_not_fit_are_left_out_and_the_wrong_guesses_stay(tmp_path, caplog):
    page = make_browse(tmp_path, bytes(10**6 // 4), max_mb=1)
    data = written(page)
    assert data["clips"] == [5, 10, 15, 20] and data["left_out"] == 22  # every fifth is wrong
    assert len(list(page.parent.rglob("*.mp4"))) == 4
    assert "22 of 26 clips do not fit into 1 MB" in caplog.text


def test_the_old_folder_stays_until_the_new_one_is_complete(tmp_path):
    folder = tmp_path / "browse"
    folder.mkdir()
    (folder / "old").touch()
    (tmp_path / ".browse.left.new/clips").mkdir(parents=True)  # of a process that was killed
    with pytest.raises(KeyError), new_folder(folder) as new:
        (new / "index.html").touch()
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["browse"]
    assert [path.name for path in folder.iterdir()] == ["old"]
    with new_folder(folder) as new:
        (new / "index.html").touch()
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["browse"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DiskError, match=r"file/below/browse: not written: Not a directory"),
        new_folder(tmp_path / "file/below/browse"),
    ):
        pass
