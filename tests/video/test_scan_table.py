import json
import re
from typing import get_type_hints

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.video.scan_table import ScanRow, read_scan_table, write_scan_table
from support.damage import marked

REASON = "10 packets do not decode"
ROW = ScanRow("P01_01", "damaged", 59.94006, 90, [(10, 20)], REASON, pictures=100, judged="full")


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


def test_rows_survive_the_table_and_the_cache_s_json(tmp_path):
    numbers = {name: 7 for name, kind in get_type_hints(ScanRow).items() if kind is int}
    reason = 'cannot open: "moov" lacks; 3 gaps, é'
    rows = [
        ROW,
        ScanRow("P01_02", "ok", 29.97003, finding="it lasts 5 s", **numbers),
        ScanRow("P01_03", "damaged", damaged=[(0, 1), (7, 4000)], timing="variable", md5="ab"),
        ScanRow("P01_04", "unreadable", reason=reason),
        ScanRow("P01_05", "missing", reason="no file videos/P01/P01_90.MP4"),
    ]
    write_scan_table(rows, tmp_path / "P01.tsv")
    assert read_scan_table(tmp_path / "P01.tsv") == rows
    assert [ScanRow.of(json.loads(json.dumps(vars(row)))) for row in rows] == rows


def test_a_person_reads_rates_without_a_tail_of_zeros_and_a_reason_on_one_line(tmp_path):
    rows = [ScanRow("a", "ok", fps=50.0), ScanRow("b", "unreadable", reason="two\nlines\tand tab")]
    write_scan_table(rows, tmp_path / "P01.tsv")
    lines = (tmp_path / "P01.tsv").read_text().splitlines()
    assert lines[0].startswith("video_id\tstatus\tfps\tframes\tdamaged\treason")
    assert lines[1].split("\t")[2] == "50" and lines[2].split("\t")[5] == "two lines and tab"


@pytest.mark.parametrize("seed", range(5))
def test_ranges_put_in_by_hand_in_any_order_and_overlapping_become_disjoint_ones(edited, seed):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 300, 12)
    ranges = np.stack([starts, starts + rng.integers(1, 40, 12)], axis=1).tolist()
    text = ",".join(f"{start}-{stop}" for start, stop in ranges)
    (row,) = edited("10-20", text)
    assert marked(row) == {frame for each in ranges for frame in range(*each)}
    edges = [edge for pair in row.damaged for edge in pair]
    assert edges == sorted(set(edges))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("(?s).+", "", r"line 1: column video_id, .*scan again, run `snakemake -R"),
        ("\tpictures", "", "line 1: column pictures missing"),
        ("\tjudged", "", "line 1: column judged missing .*scan again"),
        ("damaged\t5", "broken\t5", "line 2: status is 'broken'; expected the scan"),
        ("59.94006", "x", r"line 2: fps is 'x'; expected the scan table of .*snakemake"),
        ("\t90\t", "\t9.5\t", r"line 2: frames is '9\.5'; expected the sc"),
        ("10-20", "20-10", r"line 2: damaged is '20-10'; .*start-stop"),
        ("10-20", "10-10", "line 2: damaged is '10-10'; expected the scan"),
        ("10-20", "7", "line 2: damaged is '7'; expected the scan table"),
        ("10-20", "1-2-3", "line 2: damaged is '1-2-3'; expected the scan"),
        ("constant", "vary", "line 2: timing is 'vary'; expected the scan"),
        ("constant.*", "", "line 2: timing is ''; expected the scan table of"),
        (r"\Z", "\udcff", "not UTF-8 text .*expected the scan table"),
    ],
)
def test_a_table_edited_amiss_is_one_error_with_file_line_and_column(edited, old, new, words):
    with pytest.raises(EpicError, match=rf"P01\.tsv: {words}"):
        edited(old, new)
