"""The scan table is read as it was written, and errors of editing by hand are told apart."""

import json
import re
from typing import get_type_hints

import pytest

from epic100.base.errors import EpicError
from epic100.video.scan_table import ScanRow, read_scan_table, write_scan_table

ROW = ScanRow(
    "P01_01",
    "damaged",
    fps=59.94006,
    frames=90,
    damaged=[(10, 20)],
    reason="10 packets do not decode",
    pictures=100,
    judged="full",
)


@pytest.fixture
def edited(tmp_path):
    """A function that replaces a text in the table of `ROW`, and reads the changed table."""
    path = tmp_path / "P01.tsv"

    def read(old, new):
        write_scan_table([ROW], path)
        text = re.sub(old, new, path.read_text(), count=1)
        path.write_bytes(text.encode(errors="surrogateescape"))
        return read_scan_table(path)

    return read


def test_rows_are_read_as_written(tmp_path):
    numbers = {name: 7 for name, annotation in get_type_hints(ScanRow).items() if annotation is int}
    rows = [
        ROW,
        ScanRow("P01_02", "ok", 29.97003, finding="it lasts 5 s", **numbers),
        ScanRow("P01_03", "damaged", damaged=[(0, 1), (7, 4000)], timing="variable", md5="ab"),
        ScanRow("P01_04", "unreadable", reason='cannot open: "moov" lacks; 3 gaps, é'),
        ScanRow("P01_05", "missing", reason="no file videos/P01/P01_90.MP4"),
    ]
    write_scan_table(rows, tmp_path / "P01.tsv")
    assert read_scan_table(tmp_path / "P01.tsv") == rows
    assert [ScanRow.of(json.loads(json.dumps(vars(row)))) for row in rows] == rows


def test_rates_are_short_and_reasons_one_line(tmp_path):
    row = ScanRow("P01_01", "unreadable", fps=50.0, reason="two\nlines\tand tab")
    write_scan_table([row], tmp_path / "P01.tsv")
    header, line = (tmp_path / "P01.tsv").read_text().splitlines()
    assert header.startswith("video_id\tstatus\tfps\tframes\tdamaged\treason")
    assert line.startswith("P01_01\tunreadable\t50\t0\t\ttwo lines and tab\t")


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        pytest.param("20-30,0-5", [(0, 5), (20, 30)], id="out of order"),
        pytest.param("0-5,3-9", [(0, 9)], id="overlapping"),
        pytest.param("0-5,5-9", [(0, 9)], id="adjacent"),
        pytest.param("0-9,3-5", [(0, 9)], id="one within another"),
        pytest.param("7-9,0-5,4-8,20-30", [(0, 9), (20, 30)], id="three of four"),
    ],
)
def test_ranges_by_hand_are_sorted_and_merged(edited, text, merged):
    (row,) = edited("10-20", text)
    assert row.damaged == merged


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        pytest.param(
            "(?s).+", "", r"line 1: column video_id, .*scan again, run `snakemake -R", id="empty"
        ),
        pytest.param("\tpictures", "", "line 1: column pictures missing", id="no column pictures"),
        pytest.param(
            "\tjudged", "", "line 1: column judged missing .*scan again", id="no column judged"
        ),
        pytest.param(
            "damaged\t5",
            "broken\t5",
            "line 2: status is 'broken'; expected the scan",
            id="unknown status",
        ),
        pytest.param(
            "59.94006",
            "x",
            r"line 2: fps is 'x'; expected the scan table of .*snakemake",
            id="rate that is no number",
        ),
        pytest.param(
            "\t90\t",
            "\t9.5\t",
            r"line 2: frames is '9\.5'; expected the sc",
            id="fraction of a frame",
        ),
        pytest.param(
            "10-20",
            "20-10",
            r"line 2: damaged is '20-10'; .*start-stop",
            id="range that ends before it begins",
        ),
        pytest.param("10-20", "10-10", "line 2: damaged is '10-10'; expec", id="empty range"),
        pytest.param("10-20", "7", "line 2: damaged is '7'; expected", id="one number"),
        pytest.param("10-20", "1-2-3", "line 2: damaged is '1-2-3'; expec", id="three numbers"),
        pytest.param("constant", "vary", "line 2: timing is 'vary'; expected", id="unknown timing"),
        pytest.param("constant.*", "", "line 2: timing is ''; expected the scan", id="short row"),
        pytest.param(r"\Z", "\udcff", "not UTF-8 text .*expected the scan", id="not UTF-8"),
    ],
)
def test_an_invalid_table_has_line_and_column(edited, old, new, words):
    with pytest.raises(EpicError, match=rf"P01\.tsv: {words}"):
        edited(old, new)
