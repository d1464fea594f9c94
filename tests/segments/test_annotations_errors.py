"""Bad annotation files: each one error that names file, line, column and what was expected."""

import re

import pytest

from epic100.base.errors import EpicError
from epic100.segments.annotations import load_annotations
from epic100.video.sheet import Video
from support.checkout import CLASSES

VIDEOS = {"P01_01": Video("P01_01", "P01", "train", 59.94, 30.0)}
HEADER = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
ROWS = [f"P01_01_{i},P01_01,00:00:0{i}.00,00:00:0{i}.50,1,2\n" for i in range(4)]


def load(path, **kwargs):
    return load_annotations(path, VIDEOS, split="train", classes=CLASSES, **kwargs)


def refused(tmp_path, text, words, name="EPIC_100_train.csv", **kwargs):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EpicError, match=rf"/{re.escape(name)}: {words}") as caught:
        load(path, **kwargs)
    assert "\n" not in str(caught.value)


def rows(old, new):
    """Four rows, the third of them changed."""
    assert old in ROWS[2]
    return HEADER + ROWS[0] + ROWS[1] + ROWS[2].replace(old, new) + ROWS[3]


THIRD = r"line 4 \(narration_id P01_01_2\), column "


@pytest.mark.parametrize(
    "text, words",
    [
        ("", r"line 1: column narration_id, .* missing .*expected an official EPIC-KITCHENS-100 C"),
        (HEADER, r"no rows below the header; expected one row a segment"),
        (
            HEADER.replace("noun_class", "noun") + ROWS[0],
            r"line 1: column noun_class missing \(found: narration_id, .*, noun\); expected",
        ),
        (HEADER.replace(",", "\t") + ROWS[0], r"line 1: column narration_id, .* missing"),
        (rows(",1,2", ",97,2"), THIRD + r"verb_class: '97'; expected a class id from 0 to 96 "),
        (rows(",1,2", ",1,300"), THIRD + r"noun_class: '300'; expected a class id from 0 to 299"),
        (rows(",1,2", ",-1,2"), THIRD + r"verb_class: '-1'; expected a class id"),
        (rows(",1,2", ",1.5,2"), THIRD + r"verb_class: '1\.5'; expected a class id"),
        (rows(",1,2", ",take,2"), THIRD + r"verb_class: 'take'; expected .*`classes:` in the conf"),
        (rows(",1,2", ",1,"), THIRD + r"noun_class: ''; expected a class id"),
        (rows(",1,2", ",1"), THIRD + r"noun_class: ''; expected a class id"),
        (
            rows("02.50", "02.00"),
            THIRD + r"stop_timestamp: '00:00:02\.00'; expected a time after s",
        ),
        (rows("02.50", "01.50"), THIRD + r"stop_timestamp: '00:00:01\.50'; expected a time after"),
        (rows("00:00:02.50", "2.5"), THIRD + r"stop_timestamp: '2\.5'; expected a time HH:MM:SS"),
        (rows("00:00:02.00", "00:60:00"), THIRD + r"start_timestamp: '00:60:00'; expected a time"),
        (rows("00:00:02.00", ""), THIRD + r"start_timestamp: ''; expected a time"),
        (
            rows("P01_01,00", "P09_07,00"),
            THIRD
            + r"video_id: 'P09_07'; expected a video_id of the video sheet; .*`videos: subset",
        ),
        (rows("P01_01_2", "P01_01_0"), r"line 4 .*column narration_id: 'P01_01_0'; .* no earlier"),
        (
            rows("P01_01_2", ""),
            r"line 4 \(narration_id \?\), column narration_id: ''; expected a",
        ),
        (
            rows("P01_01_2", "P01 01 2"),
            r"line 4 .*narration_id: 'P01 01 2'; expected a name of",
        ),
        (rows(",1,2", ",1,2,3"), r"line 4: 7 fields, the header has 6; expected an official"),
        (HEADER + ROWS[0].replace("\n", ",\n"), r"line 2: 7 fields, the header has 6; expected an"),
        (rows("P01_01_2", '"P01_01_2'), r"line 4: unexpected end of data; expected an official"),
        (
            rows("P01_01_2", "P01_01_é").encode("latin-1"),
            r"not UTF-8 text .*; expected an official",
        ),
        (  # another participant than that of the row's video
            HEADER.replace("\n", ",participant_id\n")
            + ROWS[0].replace("\n", ",P01\n")
            + "\n"
            + ROWS[2].replace("\n", ",P22\n"),
            THIRD
            + r"participant_id: 'P22'; expected the participant of the row's video_id, as the",
        ),
        (
            HEADER + "".join(ROWS).replace(",1,2", ",500,2"),
            r"line 2 .*P01_01_0.*'500' \(4 such rows\); expected",
        ),
    ],
)
def test_a_bad_csv_is_one_error_with_file_line_and_column(tmp_path, text, words):
    refused(tmp_path, text, words)


OFFICIAL = HEADER.replace("\n", ",all_noun_classes\n")


@pytest.mark.parametrize("cut", ['"[2', '"[2, 3', "[2", "", ","])
def test_a_file_that_ends_inside_its_last_line_is_cut(tmp_path, cut):
    last = ROWS[3].strip() + ("," + cut if cut not in ("", ",") else cut)
    whole = OFFICIAL + "".join(row.replace("\n", ",[2]\n") for row in ROWS[:3])
    words = r"line 5: (the last line is cut, .*copy or download it again|unexpected end of data)"
    refused(tmp_path, whole + last, words)


def test_a_cut_among_the_first_columns_is_called_one(tmp_path):
    whole = HEADER + "".join(ROWS)
    for end in range(len(whole) - len(ROWS[3]) + 1, len(whole) - 3):
        refused(tmp_path, whole[:end], "line 5: the last line is cut")


def test_a_last_line_without_its_end_of_line_is_whole(tmp_path):
    path = tmp_path / "EPIC_100_train.csv"
    path.write_text(HEADER + "".join(ROWS).rstrip("\n"))
    assert len(load(path)) == 4


@pytest.mark.parametrize("subset", [False, True])
def test_the_line_is_that_of_the_file_behind_blank_lines_breaks_in_quotes_and_left_out_rows(
    tmp_path, subset
):
    other = 'P09_07_0,P09_07,00:00:00.00,00:00:01.00,"1",2\n' if subset else ""
    broken = ROWS[1].replace("P01_01_1", '"P01_01_1"').replace(",1,2", ',"1\n",2')
    text = HEADER + other + "\n\n" + ROWS[0] + broken + ROWS[2].replace(",1,2", ",1,999")
    words = rf"line {len(text.splitlines())} .*column noun_class: '999'"
    refused(tmp_path, text, words, subset=subset)


def test_a_missing_file_is_reported_with_the_key_that_names_it(tmp_path):
    with pytest.raises(EpicError, match=r"train\.csv: no such file; .*`annotations:` in the conf"):
        load(tmp_path / "train.csv")
    with pytest.raises(
        EpicError, match=r"train\.txt: no such segment list; the rules annotate and c"
    ):
        load(tmp_path / "train.txt", format="lab_list")


@pytest.mark.parametrize(
    "line, words",
    [
        ("P01/P01_01.MP4 0 60 97 2", r"line 2: verb is 97; expected a class id up to 96"),
        ("P01/P01_01.MP4 0 60 1 300", r"line 2: noun is 300; expected a class id up to 299"),
        ("P09/P09_07.MP4 0 60 1 2", r"line 2: video_id is P09_07; expected a video_id of the vid"),
        ("P01/P01_01.MP4 60 60 1 2", r"line 2: 'P01/P01_01\.MP4 60 60 1 2'; expected `path start"),
    ],
)
def test_a_bad_lab_list_is_one_error_with_file_and_line(tmp_path, line, words):
    refused(tmp_path, f"P01/P01_01.MP4 0 60 1 2\n{line}\n", words, "lab.txt", format="lab_list")
