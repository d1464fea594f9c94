"""The files that are made of annotations: lists of segments, and the table of pairs."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.segments.pairs import pair_table, read_pairs
from epic100.segments.segment_list import (
    COLUMNS,
    read_clean_list,
    read_segments,
    write_segments,
)


def listed(tmp_path, text):
    path = tmp_path / "train.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_segments(path)


@pytest.mark.parametrize(
    ("seconds", "text"), [((0.2, 1.56), b" 0.2 1.56"), ((np.nan, np.nan), b"")]
)
def test_the_lab_s_five_fields_the_id_and_the_seconds_are_written_and_read_back(
    tmp_path, seconds, text
):
    row = ["P01/P01_01.MP4", 12, 90, 3, -1, "P01_01_0", *seconds]
    frame = pd.DataFrame([row], columns=list(COLUMNS))
    write_segments(frame, tmp_path / "sub/a.txt")
    assert (tmp_path / "sub/a.txt").read_bytes() == b"P01/P01_01.MP4 12 90 3 -1 P01_01_0%s\n" % text
    pd.testing.assert_frame_equal(read_segments(tmp_path / "sub/a.txt"), frame)
    five_fields = listed(tmp_path, "P22_01.MP4 7 8 0 0\r\nP01/P01_01.MP4 0 78 2 5")
    assert five_fields.iloc[1].to_list()[:6] == ["P01/P01_01.MP4", 0, 78, 2, 5, ""]


GOOD = "P01/P01_01.MP4 0 78 2 5 P01_01_0\n"


@pytest.mark.parametrize(
    "line",
    [
        "P01/P01_01.MP4 0 78 2",
        "P01/P01_01.MP4 0 78 2 5 P01_01_0 more",
        "P01/P01_01.MP4 0 78 2 5 P01_01_0 0.5",
        "P01/P01_01.MP4 0 78 2 5 P01_01_0 0.5 0.5",
        "P01/P01_01.MP4 0 78 2 5 P01_01_0 0.5 inf",
        "P01/P01_01.MP4 0 78 2 5 P01_01_0 nan 1",
        "P01/P01_01.MP4  0 78 2 5",
        "P01/P01_01.MP4\t0\t78\t2\t5",
        " 0 78 2 5",
        "P01/P01_01.MP4 5 5 2 5",
        "P01/P01_01.MP4 9 5 2 5",
        "P01/P01_01.MP4 -1 5 2 5",
        "P01/P01_01.MP4 0 7.5 2 5",
        "P01/P01_01.MP4 0 78 take plate",
        "P01/P01_01.MP4 0 78 -2 5",
        "P01/P01_01.MP4 0 78 2 -9",
        f"P01/P01_01.MP4 0 {10**30} 2 5",
        f"P01/P01_01.MP4 0 5 2 {10**30}",
        "",
    ],
)
def test_a_line_of_another_form_is_one_error_with_file_and_line(tmp_path, line):
    with pytest.raises(EpicError, match=r"train\.txt: line 2: '.*'; expected `path start stop ver"):
        listed(tmp_path, GOOD + line + "\n" + GOOD)


def test_bytes_that_are_no_text_are_reported_as_such(tmp_path):
    with pytest.raises(EpicError, match=r"train\.txt: not UTF-8 text .*expected a segment list"):
        listed(tmp_path, GOOD.encode() + b"\xff\xff 0 1 2 3\n")


LINE = "P01/P01_01.MP4 0 9 1 2 P01_01_0\n"


@pytest.fixture
def results(tmp_path) -> Path:
    for name in ("clean", "segments"):
        (tmp_path / name).mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / f"clean/{split}.txt").write_text(LINE)
        (tmp_path / f"segments/{split}.txt").write_text(LINE)
    return tmp_path


def drop(results: Path, *splits: str) -> None:
    rows = [f"P01_01_0\t{split}\tvideo missing\n" for split in splits]
    (results / "clean/dropped.tsv").write_text("narration_id\tsplit\treason\n" + "".join(rows))


@pytest.mark.parametrize(
    ("split", "dropped_splits", "lost"),
    [
        ("val", None, True),
        ("val", (), True),
        ("val", ("train", "test"), True),
        ("trainval", ("test",), True),
        ("trainval", ("val",), False),
        ("val", ("val",), False),
    ],
)
def test_an_empty_list_is_one_only_if_dropped_segments_explain_it(
    results, split, dropped_splits, lost
):
    (results / f"clean/{split}.txt").write_text("")
    if dropped_splits is not None:
        drop(results, *dropped_splits)
    words = rf"{split}\.txt: no segment in it, .*dropped\.tsv.*-R clean"
    with pytest.raises(EpicError, match=words) if lost else nullcontext():
        assert read_clean_list(results / f"clean/{split}.txt").empty
    # A split without annotations has an empty list of segments.
    for segments in results.glob("segments/*.txt"):
        segments.write_text("")
    assert read_clean_list(results / f"clean/{split}.txt").empty


HEADER = "pair_id\tverb\tnoun\tcount\n"


def read(tmp_path, text):
    path = tmp_path / "pairs.tsv"
    path.write_text(text)
    return read_pairs(path)


@pytest.mark.parametrize(
    "text, words",
    [
        (
            "",
            r"line 1: column pair_id, verb, noun, count missing .*the pair table of the rule clean",
        ),
        (HEADER, r"no pairs; expected the pair table of .*snakemake -R"),
        ("pair_id\tverb\tnoun\n0\t1\t2\n", r"line 1: column count missing"),
        (HEADER + "0\t1\t2\t3\n1\t1\tpan\t3\n", r"line 3: noun is 'pan'; expected the pair tabl"),
        (HEADER + "0\t1\t2\n", r"line 2: count is ''; expected the pair table .*snakemake -R"),
    ],
)
def test_a_bad_table_is_one_error_with_file_line_and_column(tmp_path, text, words):
    with pytest.raises(EpicError, match=rf"pairs\.tsv: {words}"):
        read(tmp_path, text)


def test_pairs_are_counted_in_order_and_segments_without_labels_are_none():
    train = pd.DataFrame({"verb": [2, -1, 0, 2], "noun": [1, -1, 5, 1]})
    assert pair_table(train)[["verb", "noun", "count"]].values.tolist() == [[0, 5, 1], [2, 1, 2]]
