"""The verb-noun pair of each output of a lab's model, from a text file or the train list."""

from collections import Counter

import pytest

from epic100.base.errors import EpicError
from epic100.cli.lab_checkpoint import pairs_in_output_order, read_pair_order


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("9 7\n0 5\n2 2\n0 1\n", id="spaces"),
        pytest.param("verb,noun\n9,7\n0,5\n2,2\n0,1\n", id="commas and a header"),
        pytest.param("\ufeff9 7\n\n0 5\n2 2\n0 1\n", id="byte order mark and an empty line"),
    ],
)
def test_a_pair_order_is_read_in_the_forms_that_labs_write(text, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    assert read_pair_order(path) == [(9, 7), (0, 5), (2, 2), (0, 1)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("0 1\n0 x\n", r"line 2: '0 x'; expected `verb noun` a line"),
        ("0 1\n0 1 2\n", r"line 2: '0 1 2'"),
        ("0 1\n-1 2\n", r"line 2: '-1 2'"),
        ("1\n2\n", r"line 1: '1'"),
        ("0 7 1\n1 8 5\n", r"line 1: '0 7 1'"),
        ("0 1\n5 2\n0 1\n", r"verb 0 with noun 1 is there twice"),
        ("", r"0 pairs"),
        ("\xff", "cannot be read as text"),
    ],
)
def test_a_file_that_is_no_pair_order_is_refused_with_the_line(text, words, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(EpicError, match=rf"pairs\.txt: {words}"):
        read_pair_order(path)


@pytest.mark.parametrize(
    "order, pairs",
    [("first-seen", [(9, 7), (0, 5), (2, 2)]), ("sorted", [(0, 5), (2, 2), (9, 7)])],
)
def test_a_train_list_gives_the_order_and_the_counts_of_its_pairs(order, pairs, tmp_path):
    labels = ("9 7", "0 5", "9 7", "2 2", "-1 -1")
    path = tmp_path / "train.txt"
    path.write_text(
        "".join(f"P01/P01_01.MP4 {n} {n + 9} {label}\n" for n, label in enumerate(labels))
    )
    assert pairs_in_output_order(path, order) == (pairs, Counter({(9, 7): 2, (0, 5): 1, (2, 2): 1}))


def test_a_train_list_without_labels_is_refused(tmp_path):
    (tmp_path / "train.txt").write_text("P01/P01_01.MP4 0 9 -1 -1\n")
    with pytest.raises(EpicError, match="no line with a verb and a noun"):
        pairs_in_output_order(tmp_path / "train.txt", "sorted")
