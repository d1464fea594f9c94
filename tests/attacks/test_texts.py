"""Names, texts, numbers and pipes in tables, lists and records that other people write.

Their texts come to no harm on a terminal, in a spreadsheet or in a browser.
"""

import logging
import os
import re
from functools import partial

import pandas as pd
import pytest

from epic100.base.disk import LARGEST_TEXT, digest, read_json, read_text
from epic100.base.errors import BrokenFile, EpicError, is_url
from epic100.base.log import rule_log
from epic100.base.text_table import read_frame, read_own_table, read_table, write_frame, write_table
from epic100.cli.lab_checkpoint import read_pair_order
from epic100.data.official_lists import read_list
from epic100.data.segment_list import read_segments
from epic100.data.start_weights import read_value
from epic100.pages.figure_style import drawing
from epic100.video.sheet import read_sheet
from snakemake_logger_plugin_epic100.logs import lines_of
from support.browser import opened
from support.fuzzing import read_csv
from support.small_report import make_report
from support.this_process import measured

BAD_NAMES = [
    *("P01$(id>x)", "P01`id`", "P01;id", "P01|id", "P01&", "P01>x", "..", "../P01", ".hidden"),
    *("-rf", "--wrap", "P01'", 'P01"', "P01\\", "<b>", "{participant}", "*", "~"),
    *("javascript:alert(1)", "P01 02", "P01\x1b[2J", "P01\x00", "P01\u202e", "P0\u0661", "Ｐ01"),
    *("P" * 101, ""),
]
BAD_URLS = [
    "file:///etc/passwd",
    "ftp://x/a",
    "http:///a",
    "http://?a=b",
    "http://h:99999/",
    "http://h:0/",
    "http://.../",
    "http://[1.2.3.4]/",
    "http://[:::]/",
    "https://user:pw@host/a",
    "javascript:alert(1)",
    "https://x/</script><script>alert(1)</script>",
    "https://x/a b",
    "https://x/'",
    'https://x/"',
    "https://x/\x1b",
    "https://x/`id`",
    "https://x/" + "a" * 2000,
    "//x/a",
    "x/a",
]
BAD_DIGESTS = ["xyz", "0" * 31, "0" * 33, "g" * 32, "../" + "0" * 29]
# The columns fps and duration. Each row breaks a limit of one of them, as their product, the number
# of frames, must fit into int64.
BAD_LENGTHS = ["1e308\t1e308", "50\t1e7", "1e5\t9"]
SHEET = "video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5\n"
CSV = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"


def quoted(text: str) -> str:
    """Return a text as a cell of a table, in quotes."""
    return '"' + text.replace('"', '""') + '"'


def assert_rejected(read, path, text: str, words: str) -> None:
    """Check that a file of this text ends in an error of these words, safe for a terminal."""
    path.write_text(text)
    with pytest.raises(EpicError, match=words) as caught:
        read(path)
    # `read_csv` repeats the id as it is, in one place.
    assert str(caught.value).isprintable() or read is read_csv


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    "read, file, row, words",
    [
        pytest.param(
            read_sheet,
            "videos.tsv",
            SHEET + "{}\tP01\ttrain\t50\t9\n",
            "line 2: video_id is .*; expected a name",
            id="video",
        ),
        pytest.param(
            read_sheet,
            "videos.tsv",
            SHEET + "P01_01\t{}\ttrain\t50\t9\n",
            "line 2: participant_id is .*; expected a name",
            id="participant",
        ),
        pytest.param(
            read_csv,
            "train.csv",
            CSV + "{},P01_01,00:00:01.00,00:00:02.00,1,2\n",
            "line 2 .*narration_id: .*; expected a name",
            id="segment",
        ),
        pytest.param(
            partial(read_list, key="unseen_participants"),
            "unseen.csv",
            "participant_id\n{}\n",
            "line 2: .*expected a participant id",
            id="list",
        ),
    ],
)
def test_a_bad_id_is_rejected_with_its_line(tmp_path, read, file, row, words, name):
    assert_rejected(read, tmp_path / file, row.format(quoted(name)), f"{file}: {words}")


@pytest.mark.parametrize(
    "cells, words",
    [
        *((f"50\t9\t{quoted(url)}\t", "url is .*; expected http://") for url in BAD_URLS),
        *((f"50\t9\t\t{md5}", "md5 is .*; expected 32 hex.*or nothing") for md5 in BAD_DIGESTS),
        *((cells, "(fps|duration) is .*at most") for cells in BAD_LENGTHS),
    ],
)
def test_bad_rates_urls_and_md5s_have_their_line(tmp_path, cells, words):
    text = f"{SHEET}P01_01\tP01\ttrain\t{cells}\n"
    assert_rejected(read_sheet, tmp_path / "videos.tsv", text, rf"videos\.tsv: line 2: {words}")


# Python converts no number with this number of digits.
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "read, text, words",
    [
        (
            partial(read_list, key="tail_verbs"),
            f"verb\n{DIGITS}\n",
            "2: verb .*expected a class id",
        ),
        (read_pair_order, f"0 1\n{DIGITS} 1\n", "2: "),
        (read_pair_order, f"0 1\n1 {DIGITS}\n", "2: "),
        (read_segments, "P01/P01_01.MP4\x1b[2J 0 60 1 2\n", "1: "),
    ],
)
def test_huge_numbers_and_control_characters_are_rejected(tmp_path, read, text, words):
    assert_rejected(read, tmp_path / "list.txt", text, rf"list\.txt: line {words}")


@pytest.mark.parametrize(
    "url",
    [
        "https://data.bris.ac.uk/datasets/3h9/videos/train/P01/P01_01.MP4?a=b&c=%20#d",
        "http://127.0.0.1:8080/a",
        "http://[::1]:80/a",
    ],
)
def test_a_plain_url_is_accepted(url):
    assert is_url(url)


READERS = [
    read_text,
    read_json,
    read_pair_order,
    lambda path: read_value(path, "load_from"),
]


@pytest.fixture
def file(tmp_path):
    """A path where each of `READERS` reads a file."""
    return tmp_path / "file.json"


@pytest.mark.parametrize("read", [*READERS, partial(digest, algorithm="md5")])
@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_rejected_at_once(file, read, plant):
    plant(file)
    with pytest.raises(EpicError, match="a pipe or a device; expected a file"):
        read(file)


@pytest.mark.parametrize("size", [LARGEST_TEXT + 1, 20 * 2**30])
@pytest.mark.parametrize(
    "read, words",
    [
        *((read, "over 64 MiB") for read in READERS),
        (read_sheet, "{mib} MiB; expected .*64 MiB"),
        (read_segments, "{mib} MiB; expected .*64 MiB"),
    ],
)
def test_texts_above_64_mib_are_rejected_unread(file, read, words, size):
    file.touch()
    # The file is one hole: no byte of it is on the disk.
    os.truncate(file, size)
    with pytest.raises(EpicError, match=f"file.json: {words.format(mib=size >> 20)}"):
        read(file)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": 1', b"\xff"])
def test_broken_or_deep_json_is_rejected(file, content):
    file.write_bytes(content)
    with pytest.raises(EpicError, match="file.json: no JSON") as caught:
        read_json(file)
    assert "\n" not in str(caught.value)


def test_a_log_on_a_pipe_has_no_lines(tmp_path):
    os.mkfifo(tmp_path / "scan.log")
    assert lines_of(str(tmp_path / "scan.log")) == []


def test_a_path_with_a_line_break_is_rejected(tmp_path):
    path = tmp_path / "a\nerror: all is lost"
    path.write_text("x")
    with pytest.raises(BrokenFile, match="a.nerror: all is lost: has a line break") as caught:
        read_text(path)
    assert "\n" not in str(caught.value)


# It clears a terminal, changes its title and turns the direction of the text round.
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"
SHOWN_ESCAPES = r"\x1b[2J\x1b]0;owned\x07\u202e"


def read(path):
    return read_table(path, ("a",), about="a table", delimiter=",")


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
def test_a_large_table_needs_little_memory(tmp_path, content, words):
    (tmp_path / "a.csv").write_text(content)
    error, grown_kib, _ = measured(read, tmp_path / "a.csv")
    assert words in str(error) and len(str(error)) < 2000
    # The limit is 1 GiB.
    assert grown_kib < 2**20


def test_an_error_message_is_short_and_printable(tmp_path):
    (tmp_path / "a.csv").write_text(f"{ESCAPES},b\n")
    with pytest.raises(EpicError, match=re.escape(f"found: {SHOWN_ESCAPES}, b")):
        read(tmp_path / "a.csv")
    assert len(str(EpicError("a" * 10**6))) < 11_000


def test_strangers_texts_are_logged_safely(tmp_path, capsys):
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
def test_spreadsheet_formulas_are_written_and_read_as_text(tmp_path, write):
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


def test_no_text_becomes_code_on_our_page(tmp_path):
    attack = "</title></svg><script>document.title = 'it ran'</script><img src=x onerror=alert(1)>"
    page = make_report(tmp_path, attack)
    assert page.count("<script") == 1, "that of sort.js"
    # The text is on the page, but as text.
    assert "<img src=x" not in page and page.count("it ran") > 20
    with opened((tmp_path / "report.html").as_uri(), tmp_path) as shown:
        assert shown.run("return document.title") == "EPIC-KITCHENS-100: report of a run"
        assert shown.run("return document.querySelectorAll('img[src=x]').length") == 0


@pytest.mark.parametrize("name", [r"$\frac$", "$x", "a$b$c", r"\int", "&<>"])
def test_a_class_name_is_never_a_formula(tmp_path, name):
    with drawing(tmp_path / "a.svg", name, name) as figure:
        figure.add_subplot().set_yticks([0], [name])
    # A formula that is wrong would raise an error when the figure is written.
    assert (tmp_path / "a.svg").stat().st_size > 1000
