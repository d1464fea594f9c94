"""Tables that fill the memory, and texts of others on a terminal or in a spreadsheet."""

import logging
import re

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.base.log import rule_log
from epic100.base.text_table import read_frame, read_own_table, read_table, write_frame, write_table
from support.this_process import measured

# It clears a terminal, changes its title and turns the direction of the text round.
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"
SHOWN_ESCAPES = r"\x1b[2J\x1b]0;owned\x07\u202e"


def read(path):
    return read_table(path, ("a",), about="a table", delimiter=",")


@pytest.mark.slow
@pytest.mark.parametrize(
    "content, words",
    [
        pytest.param(
            "a" + ",b" * 2**18 + "\n" + "1\n" * 2**16,
            "262145 columns, at most 1000",
            id="columns",
        ),
        pytest.param(
            "a\n" + "1\n" * 2**21, "no table of this field has so many lines of 1;", id="lines"
        ),
        pytest.param(
            "a" + ",b" * 900 + "\n" + "1\n" * 2**20,
            "so many lines of 901; expected a table",
            id="cells",
        ),
        pytest.param(
            "a\n" + "1" * 2**20 + "\n", "line 2: field larger than field limit", id="a cell"
        ),
        pytest.param("b" * 2**16 + "\n", "line 1: column a missing", id="a header"),
    ],
)
def test_a_table_of_some_megabytes_does_not_fill_the_memory(tmp_path, content, words):
    (tmp_path / "a.csv").write_text(content)
    error, grown_kib, _ = measured(read, tmp_path / "a.csv")
    assert words in str(error) and len(str(error)) < 2000
    # The limit is 1 GiB.
    assert grown_kib < 2**20


def test_a_message_repeats_no_control_character_and_no_page_of_a_file(tmp_path):
    (tmp_path / "a.csv").write_text(f"{ESCAPES},b\n")
    with pytest.raises(EpicError, match=re.escape(f"found: {SHOWN_ESCAPES}, b")):
        read(tmp_path / "a.csv")
    assert len(str(EpicError("a" * 10**6))) < 11_000


def test_what_is_logged_of_strangers_is_safe_on_a_terminal_and_in_the_log(tmp_path, capsys):
    with rule_log(tmp_path / "log"):
        logging.getLogger("epic100").warning(f"a class is called {ESCAPES}")
        print(f"a library repeats {ESCAPES}")
    lines = f"WARNING: a class is called {SHOWN_ESCAPES}\na library repeats {SHOWN_ESCAPES}\n"
    assert capsys.readouterr().err == lines
    assert (tmp_path / "log").read_text().endswith(lines)


# An apostrophe in front makes a spreadsheet take a cell for text. It is put before what would run
# as a formula, and before such a text that has one already. The texts of the last line stay.
CELL_OF_TEXT = {
    "=HYPERLINK(1)": "'=HYPERLINK(1)",
    " =1+2": "' =1+2",
    "\uff1d1+2": "'\uff1d1+2",
    "+1+2": "'+1+2",
    "-1+2": "'-1+2",
    "@SUM(1)": "'@SUM(1)",
    "-": "'-",
    "'=1": "''=1",
    **{text: text for text in ("it's", "''", "a=b", "-2.5", "+1e5", "-inf", "-nan")},
}


def write_texts(path):
    write_table(path, ["text", "number"], [[text, -1.5] for text in CELL_OF_TEXT])


def write_frame_of_texts(path):
    frame = pd.DataFrame({"text": list(CELL_OF_TEXT), "number": -1.5})
    write_frame(frame, path, float_format="%.1f")


@pytest.mark.parametrize("write", [write_texts, write_frame_of_texts])
def test_a_text_that_a_spreadsheet_would_run_is_written_as_text_and_read_back(tmp_path, write):
    path = tmp_path / "a.tsv"
    write(path)
    # The number begins with a minus, but is no text, so it stays.
    rows = [f"{cell}\t-1.5" for cell in CELL_OF_TEXT.values()]
    assert path.read_text().splitlines() == ["text\tnumber", *rows]
    expected = [{"text": text, "number": -1.5} for text in CELL_OF_TEXT]
    assert read_own_table(path, {"text": str, "number": float}, about="a table") == expected
    assert read_frame(path, keep_default_na=False).to_dict("records") == expected


@pytest.mark.parametrize(
    "write",
    [
        write_table,
        lambda path, columns, rows: write_frame(pd.DataFrame(rows, columns=columns), path),
    ],
    ids=["rows", "frame"],
)
def test_a_text_begins_no_row_of_a_spreadsheet(tmp_path, write):
    path = tmp_path / "a.tsv"
    write(path, ["text"], [["film\r=HYPERLINK(1)"], ["film\r\n=1"]])
    assert path.read_bytes() == b'text\n"film\n=HYPERLINK(1)"\n"film\n=1"\n'
