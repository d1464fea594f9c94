"""Tables that fill the memory, and texts that reach a terminal or a spreadsheet."""

import logging

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.base.log import rule_log
from epic100.base.text_table import read_frame, read_own_table, read_table, write_frame, write_table
from support.own_process import measured

ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"
# Each text has the cell that it becomes.
CELLS = {
    "=HYPERLINK(1)": "'=HYPERLINK(1)",
    " =1+2": "' =1+2",
    "\uff1d1+2": "'\uff1d1+2",
    "+1+2": "'+1+2",
    "-1+2": "'-1+2",
    "@SUM(1)": "'@SUM(1)",
    "-": "'-",
    "'=1": "''=1",
    **{text: text for text in ("it's", "''", "", "a=b", "-2.5", "+1e5", "-inf", "-nan")},
}
TEXTS = list(CELLS)


def read(path):
    return read_table(path, ("a",), about="a table", delimiter=",")


HUGE = {
    "columns": ("a" + ",b" * 2**18 + "\n" + "1\n" * 2**16, "262145 columns, at most 1000"),
    "lines": ("a\n" + "1\n" * 2**21, "no table of this field has so many lines of 1;"),
    "cells": ("a" + ",b" * 900 + "\n" + "1\n" * 2**20, "so many lines of 901; expected a table"),
    "a cell": ("a\n" + "1" * 2**20 + "\n", "line 2: field larger than field limit"),
    "a header": ("b" * 2**16 + "\n", "line 1: column a missing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HUGE)
def test_a_table_of_some_megabytes_does_not_fill_the_memory(tmp_path, case):
    content, words = HUGE[case]
    (tmp_path / "a.csv").write_text(content)
    said, took, _ = measured(read, tmp_path / "a.csv")
    assert words in str(said) and len(str(said)) < 2000 and took < 2**20


def test_a_message_repeats_no_control_character_and_no_page_of_a_file(tmp_path):
    (tmp_path / "a.csv").write_text(f"{ESCAPES},b\n")
    with pytest.raises(EpicError, match=r"found: \\x1b\[2J\\x1b\]0;owned\\x07\\u202e, b") as caught:
        read(tmp_path / "a.csv")
    assert str(caught.value).isprintable()
    assert len(str(EpicError("a" * 10**6))) < 11_000


def test_what_is_logged_of_strangers_is_safe_on_a_terminal_and_in_the_log(tmp_path, capsys):
    with rule_log(tmp_path / "log"):
        logging.getLogger("epic100").warning(f"a class is called {ESCAPES}")
        print(f"a library repeats {ESCAPES}")
    for text in (capsys.readouterr().err, (tmp_path / "log").read_text()):
        assert text.count("\\x1b[2J\\x1b]0;owned\\x07\\u202e") == 2
        assert all(line.isprintable() for line in text.splitlines())


def test_a_text_that_a_spreadsheet_would_run_is_a_text_and_comes_back(tmp_path):
    table, frame = tmp_path / "a.tsv", tmp_path / "b.tsv"
    write_table(table, ["said", "n"], zip(TEXTS, range(len(TEXTS)), strict=True))
    write_frame(pd.DataFrame({"said": TEXTS, "n": -1.5}), frame, float_format="%.1f")
    for path in (table, frame):
        cells = [line.split("\t")[0] for line in path.read_text().splitlines()[1:]]
        assert [cell if cell != '""' else "" for cell in cells] == list(CELLS.values())
        rows = read_own_table(path, {"said": str, "n": float}, about="a table")
        assert [row["said"] for row in rows] == TEXTS
    assert read_frame(frame)["n"].tolist() == [-1.5] * len(TEXTS)
