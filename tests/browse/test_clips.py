"""Which clips are kept where not all fit, and how they get into the page's folder."""

import errno
import os

from epic100.browse.clips import in_order, link_or_copy, that_fit


def test_wrong_guesses_come_first_and_everybody_has_a_turn():
    people = ["P01", "P01", "P01", "P02", "P02", "P03"]
    wrong = [True, False, True, True, False, False]
    # Wrong: the first of P01 and of P02, then P01's second. Right: one of each.
    assert in_order(wrong, people) == [0, 3, 2, 1, 4, 5]


def test_what_is_too_large_for_the_room_left_is_passed_over():
    assert that_fit({0: 60, 1: 50, 3: 40, 4: 1}, [1, 2, 0, 3, 4], 95) == [1, 3, 4]
    assert that_fit({0: 1}, [0], 0) == []


def test_a_clip_is_a_link_and_where_there_are_none_a_copy(tmp_path, monkeypatch):
    source = tmp_path / "a.mp4"
    source.write_bytes(b"frames")
    link_or_copy(source, tmp_path / "x/linked.mp4")
    assert (tmp_path / "x/linked.mp4").samefile(source)

    def refuse(*_):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(source, tmp_path / "x/copied.mp4")
    assert (tmp_path / "x/copied.mp4").read_bytes() == b"frames"
    assert not (tmp_path / "x/copied.mp4").samefile(source)
