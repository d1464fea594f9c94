"""Pipes, devices and endless nesting in the place of texts: one error at once, and never a wait."""

import os

import pytest

from epic100.base.atomic import FENCE, require_newest
from epic100.base.disk import LARGEST_TEXT, read_json, read_text
from epic100.base.errors import BrokenFile, EpicError
from epic100.base.hold import RECORD, read_run
from epic100.download.weights import read_value
from epic100.migrate.checkpoint import read_pair_order
from snakemake_logger_plugin_epic100.logs import lines_of

# The file lies below the test's folder, where each of the readers can read it.
NAME = RECORD
READERS = {
    "text": read_text,
    "JSON": read_json,
    "pairs": read_pair_order,
    "recipe": lambda path: read_value(path, "load_from"),
    "hold": lambda path: read_run(path.parents[1]),
}


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / NAME).parent.mkdir()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_refused_at_once(tmp_path, reader, plant):
    plant(tmp_path / NAME)
    with pytest.raises(EpicError, match="a pipe or a device; expected a file"):
        READERS[reader](tmp_path / NAME)


@pytest.mark.parametrize("reader", READERS)
def test_a_text_without_an_end_is_not_read_to_its_end(tmp_path, reader):
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(LARGEST_TEXT + 1)
    with pytest.raises(EpicError, match="over 64 MiB"):
        READERS[reader](tmp_path / NAME)


@pytest.mark.parametrize("reader", ["JSON", "hold"])
def test_json_of_endless_depth_is_one_line(tmp_path, reader):
    (tmp_path / NAME).write_text("[" * 100_000)
    with pytest.raises(EpicError, match="no JSON") as caught:
        READERS[reader](tmp_path / NAME)
    assert "\n" not in str(caught.value)


def test_a_log_that_is_a_pipe_has_no_lines(tmp_path):
    os.mkfifo(tmp_path / "scan.log")
    assert lines_of(str(tmp_path / "scan.log")) == []


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"token": 5}'])
def test_a_fence_that_is_no_whole_one_stops_nobody_or_says_so(tmp_path, monkeypatch, text):
    (tmp_path / "fence").write_text(text)
    monkeypatch.setenv(FENCE, f"{tmp_path / 'fence'}=mine")
    if "token" in text:
        with pytest.raises(EpicError, match="5 is at work"):
            require_newest()
    else:
        require_newest()


def test_a_name_that_would_write_a_line_of_its_own_is_refused_in_one(tmp_path):
    path = tmp_path / "a\nerror: all is lost"
    path.write_text("x")
    with pytest.raises(BrokenFile, match="a.nerror: all is lost: has a line break") as caught:
        read_text(path)
    assert "\n" not in str(caught.value)
