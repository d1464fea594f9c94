from collections import Counter

import pytest

from epic100.base.errors import EpicError
from epic100.migrate.checkpoint import order_of_list, read_pair_order

PAIRS = [(9, 7), (0, 5), (2, 2), (0, 1)]


FORMS = {
    "verb noun, the line is the output": [f"{v} {n}" for v, n in PAIRS],
    "with commas and a header": ["verb,noun", *[f"{v},{n}" for v, n in PAIRS]],
    "with empty lines and a byte order mark": ["\ufeff9 7", "", "0 5", "2 2", "0 1"],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_pair_order_is_read_in_the_forms_that_labs_write(tmp_path, form):
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(FORMS[form]) + "\n", encoding="utf-8")
    assert read_pair_order(path) == PAIRS


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
        (None, "cannot be read as text"),
    ],
)
def test_what_is_no_pair_order_names_the_line(tmp_path, text, words):
    path = tmp_path / "pairs.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EpicError, match=rf"pairs\.txt: {words}"):
        read_pair_order(path)


def test_the_order_of_a_train_list_is_sorted_or_as_seen(tmp_path):
    path = tmp_path / "train.txt"
    seen = [*PAIRS, PAIRS[0], PAIRS[2], (-1, -1)]
    path.write_text(
        "".join(f"P01/P01_01.MP4 {i} {i + 9} {v} {n}\n" for i, (v, n) in enumerate(seen))
    )
    counts = Counter({(9, 7): 2, (2, 2): 2, (0, 5): 1, (0, 1): 1})
    assert order_of_list(path, "first-seen") == (PAIRS, counts)
    assert order_of_list(path, "sorted") == (sorted(PAIRS), counts)
    path.write_text("P01/P01_01.MP4 0 9 -1 -1\n")
    with pytest.raises(EpicError, match="no line with a verb and a noun"):
        order_of_list(path, "sorted")
