"""Segment lists and the pair table: written, read back, and rejected with file and line."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.data.pairs import pair_table, read_pairs
from epic100.data.segment_list import (
    COLUMNS,
    read_clean_list,
    read_segments,
    write_segments,
)

GOOD = "P01/P01_01.MP4 0 78 2 5 P01_01_0\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param((0.2, 1.56), b" 0.2 1.56", id="with seconds"),
        pytest.param((np.nan, np.nan), b"", id="without seconds"),
    ],
)
def test_a_written_segment_list_reads_the_same(tmp_path, seconds, text):
    row = ["P01/P01_01.MP4", 12, 90, 3, -1, "P01_01_0", *seconds]
    segments = pd.DataFrame([row], columns=list(COLUMNS))
    path = tmp_path / "new_folder/train.txt"
    write_segments(segments, path)
    assert path.read_bytes() == b"P01/P01_01.MP4 12 90 3 -1 P01_01_0%s\n" % text
    pd.testing.assert_frame_equal(read_segments(path), segments)


def test_five_fields_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"P22_01.MP4 7 8 0 0\r\nP01/P01_01.MP4 0 78 2 5")
    assert read_segments(path).iloc[1].to_list()[:6] == ["P01/P01_01.MP4", 0, 78, 2, 5, ""]
    path.write_bytes(GOOD.encode() + b"\xff\xff 0 1 2 3\n")
    with pytest.raises(EpicError, match=r"train\.txt: not UTF-8 text .*expected a segment list"):
        read_segments(path)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("P01/P01_01.MP4 0 78 2", id="four fields"),
        pytest.param("P01/P01_01.MP4 0 78 2 5 P01_01_0 more", id="seven fields with text"),
        pytest.param("P01/P01_01.MP4 0 78 2 5 P01_01_0 0.5", id="start_seconds alone"),
        pytest.param("P01/P01_01.MP4 0 78 2 5 P01_01_0 0.5 0.5", id="no duration in seconds"),
        pytest.param("P01/P01_01.MP4 0 78 2 5 P01_01_0 0.5 inf", id="infinite seconds"),
        pytest.param("P01/P01_01.MP4 0 78 2 5 P01_01_0 nan 1", id="NaN seconds"),
        pytest.param("P01/P01_01.MP4  0 78 2 5", id="two spaces"),
        pytest.param("P01/P01_01.MP4\t0\t78\t2\t5", id="tabs"),
        pytest.param(" 0 78 2 5", id="no path"),
        pytest.param("P01/P01_01.MP4 5 5 2 5", id="no frame"),
        pytest.param("P01/P01_01.MP4 9 5 2 5", id="stop before start"),
        pytest.param("P01/P01_01.MP4 -1 5 2 5", id="negative start"),
        pytest.param("P01/P01_01.MP4 0 7.5 2 5", id="half a frame"),
        pytest.param("P01/P01_01.MP4 0 78 take plate", id="names of classes"),
        pytest.param("P01/P01_01.MP4 0 78 -2 5", id="verb below -1"),
        pytest.param("P01/P01_01.MP4 0 78 2 -9", id="noun below -1"),
        pytest.param(f"P01/P01_01.MP4 0 {10**30} 2 5", id="stop beyond int64"),
        pytest.param(f"P01/P01_01.MP4 0 5 2 {10**30}", id="noun beyond int64"),
        pytest.param("", id="empty line"),
    ],
)
def test_a_line_of_another_form_is_rejected(tmp_path, line):
    path = tmp_path / "train.txt"
    path.write_text(GOOD + line + "\n" + GOOD)
    with pytest.raises(EpicError, match=r"train\.txt: line 2: '.*'; expected `path start stop ver"):
        read_segments(path)


@pytest.mark.parametrize(
    ("split", "dropped_splits", "is_rejected"),
    [
        pytest.param("val", None, True, id="dropped.tsv is missing"),
        pytest.param("val", (), True, id="nothing was dropped"),
        pytest.param("val", ("train", "test"), True, id="other splits were dropped"),
        pytest.param("trainval", ("test",), True, id="neither train nor val was dropped"),
        pytest.param("trainval", ("val",), False, id="val of trainval was dropped"),
        pytest.param("val", ("val",), False, id="val was dropped"),
    ],
)
def test_an_empty_list_needs_dropped_segments(tmp_path, split, dropped_splits, is_rejected):
    clean, segments = tmp_path / "clean", tmp_path / "segments"
    clean.mkdir()
    segments.mkdir()
    for name in ("train", "val"):
        (segments / f"{name}.txt").write_text(GOOD)
    (clean / f"{split}.txt").touch()
    if dropped_splits is not None:
        rows = [f"P01_01_0\t{name}\tvideo missing\n" for name in dropped_splits]
        (clean / "dropped.tsv").write_text("narration_id\tsplit\treason\n" + "".join(rows))
    words = rf"{split}\.txt: no segment in it, .*dropped\.tsv.*-R clean"
    with pytest.raises(EpicError, match=words) if is_rejected else nullcontext():
        assert read_clean_list(clean / f"{split}.txt").empty
    # A split without annotations has an empty list of segments, too.
    for path in segments.iterdir():
        path.write_text("")
    assert read_clean_list(clean / f"{split}.txt").empty


PAIRS_HEADER = "pair_id\tverb\tnoun\tcount\n"


@pytest.mark.parametrize(
    "text, words",
    [
        pytest.param(
            "",
            r"line 1: column pair_id, verb, noun, count missing .*the pair table of the rule clean",
            id="empty file",
        ),
        pytest.param(
            PAIRS_HEADER, r"no pairs; expected the pair table of .*snakemake -R", id="no pairs"
        ),
        pytest.param(
            "pair_id\tverb\tnoun\n0\t1\t2\n", r"line 1: column count missing", id="no counts"
        ),
        pytest.param(
            PAIRS_HEADER + "0\t1\t2\t3\n1\t1\tpan\t3\n",
            r"line 3: noun is 'pan'; expected the pair tabl",
            id="name of a noun",
        ),
        pytest.param(
            PAIRS_HEADER + "0\t1\t2\n",
            r"line 2: count is ''; expected the pair table .*snakemake -R",
            id="line without count",
        ),
    ],
)
def test_a_bad_pair_table_has_its_line(tmp_path, text, words):
    path = tmp_path / "pairs.tsv"
    path.write_text(text)
    with pytest.raises(EpicError, match=rf"pairs\.tsv: {words}"):
        read_pairs(path)


def test_the_pair_table_counts_labelled_segments():
    train = pd.DataFrame({"verb": [2, -1, 0, 2], "noun": [1, -1, 5, 1]})
    assert pair_table(train)[["verb", "noun", "count"]].values.tolist() == [[0, 5, 1], [2, 1, 2]]
