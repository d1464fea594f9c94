import pytest

from epic100.figures.style import (
    drawing,
    in_words,
    legend_on_top,
    name_rows,
    say_nothing_to_show,
    short,
)
from support.pictures import words


def draw(path, height=4.0):
    with drawing(path, "A title", "a hint", height) as figure:
        axes = figure.subplots()
        axes.barh([0, 1], [1, 2], label="bars")
        name_rows(axes, ["a & b", "c"])
        legend_on_top(figure)


def test_a_picture_says_what_it_was_given_and_is_the_same_every_time(tmp_path):
    draw(tmp_path / "a.svg")
    draw(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert {"A title", "a hint", "a & b", "c", "bars"} <= set(words(tmp_path / "a.svg"))


def test_a_picture_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError), drawing(tmp_path / "a.svg", "A title") as figure:
        say_nothing_to_show(figure, "nothing")
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds, expected", [
    (0.4, "0 seconds"), (119, "119 seconds"), (120, "2.0 minutes"), (7199, "120.0 minutes"),
    (360000, "100.0 hours"),
])  # fmt: skip
def test_times_are_said_in_a_handy_unit(seconds, expected):
    assert in_words(seconds) == expected


def test_long_names_are_cut_and_short_ones_are_not():
    assert short("board:chopping", 18) == "board:chopping"
    assert short("container:plastic:large", 18) == "container:plastic…"
