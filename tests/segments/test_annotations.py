"""Annotation files; bad ones are one error that names file, line, column and what was expected."""

import math
import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen import write_annotations
from epic100.segments.annotations import (
    LABEL_COLUMNS,
    frames_between,
    index_segments,
    load_annotations,
)
from epic100.segments.segment_list import read_segments
from epic100.video.sheet import Video
from support.checkout import CLASSES
from support.lab import FILES, VIDEOS

# The sheet's 59.94 and 29.97 fps are these fractions.
RATES = (Fraction(60000, 1001), Fraction(50), Fraction(30000, 1001))
ENDS = ("start", "stop")


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotations")
    write_annotations(VIDEOS.values(), folder, seed=3)
    return {split: folder / name for split, name in FILES.items()}


def load(path, split="train", videos=VIDEOS, **kwargs):
    return load_annotations(path, videos, split=split, classes=CLASSES, **kwargs)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", range(3))
def test_frames_are_those_shown_between_the_timestamps_never_none(seed, rate):
    rng = np.random.default_rng(seed)
    hundredths = rng.integers(0, 360_000, 2000)
    until = hundredths + rng.integers(0, 400, 2000)
    start, stop = frames_between(hundredths / 100, until / 100, float(rate))
    first = [math.floor(Fraction(int(h), 100) * rate) for h in hundredths]
    end = [math.ceil(Fraction(int(h), 100) * rate) for h in until]
    assert start.tolist() == first
    assert stop.tolist() == [max(b, a + 1) for a, b in zip(first, end, strict=True)]


@pytest.mark.parametrize("split", FILES)
def test_a_segment_s_frames_come_from_its_timestamps_and_its_file_s_rate(kitchen, split):
    segments = index_segments(load(kitchen[split], split), VIDEOS)
    rows = pd.read_csv(kitchen[split])
    assert segments["narration_id"].tolist() == rows["narration_id"].tolist()
    paths = rows["participant_id"] + "/" + rows["video_id"] + ".MP4"
    assert segments["path"].tolist() == paths.tolist()
    rates = rows["video_id"].map({name: video.fps for name, video in VIDEOS.items()})
    assert len(set(rates)) == (3 if split == "train" else 2)
    seconds = (pd.to_timedelta(rows[f"{end}_timestamp"]).dt.total_seconds() for end in ENDS)
    start, stop = frames_between(*seconds, rates)
    until = rows["video_id"].map({n: round(v.duration * v.fps) for n, v in VIDEOS.items()})
    assert segments["start"].tolist() == start.tolist()
    assert segments["stop"].tolist() == np.minimum(stop, until).tolist()
    # The last segment of P06_101 ends 0.01 s after its video: it is cut to the video's end.
    assert (stop > until).any() == (split == "val")


def test_start_frame_is_another_clock_and_is_not_looked_at(kitchen, tmp_path):
    rows = pd.read_csv(kitchen["train"])
    least = ["narration_id", "video_id", *(f"{end}_timestamp" for end in ENDS), *LABEL_COLUMNS]
    for table in (rows.assign(start_frame=7), rows[least]):
        table.to_csv(tmp_path / "a.csv", index=False)
        pd.testing.assert_frame_equal(load(tmp_path / "a.csv"), load(kitchen["train"]))


def test_a_segment_that_starts_after_its_video_keeps_its_frames_for_clean_to_drop(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
        "P02_101_0,P02_101,01:00:40.50,01:00:41.00,0,1\n"
    )
    segments = index_segments(load(path), VIDEOS)
    assert segments[["start", "stop"]].values.tolist() == [[3640.5 * 50, 3641 * 50]]


@pytest.mark.parametrize("format", ["official", "lab_list"])
def test_a_sheet_smaller_than_the_list_on_purpose_leaves_the_others_out(kitchen, tmp_path, format):
    path = kitchen["train"] if format == "official" else lab_list(kitchen, tmp_path)
    few = {i: VIDEOS[i] for i in ("P02_101", "P03_07")}
    everything = load(path, format=format)
    expected = everything[everything["video_id"].isin(few)].reset_index(drop=True)
    pd.testing.assert_frame_equal(load(path, format=format, videos=few, subset=True), expected)
    other = {"P99_01": Video("P99_01", "P99", "train", 50.0, 9.0)}
    none = load(path, format=format, videos=other, subset=True)
    assert len(none) == 0 and list(none.columns) == list(expected.columns)
    assert len(index_segments(none, other)) == 0


def lab_list(kitchen, tmp_path):
    """A lab's five-field list: start_frame and stop_frame, as they stand in the official CSV."""
    rows = pd.read_csv(kitchen["train"])
    path = tmp_path / "lab.txt"
    paths = rows["participant_id"] + "/" + rows["video_id"] + ".MP4"
    fields = rows[["start_frame", "stop_frame", "verb_class", "noun_class"]]
    fields.set_index(paths).to_csv(path, sep=" ", header=False)
    return path


def test_a_lab_s_list_on_the_annotation_clock_comes_to_the_same_frames(kitchen, tmp_path):
    path = lab_list(kitchen, tmp_path)
    assert (read_segments(path)["narration_id"] == "").all()
    annotations = load(path, format="lab_list")
    assert annotations["narration_id"].iloc[6] == f"{annotations['video_id'].iloc[6]}_line7"
    assert annotations["narration_id"].is_unique
    official, ours = (index_segments(a, VIDEOS) for a in (load(kitchen["train"]), annotations))
    assert ours[["path", "verb", "noun"]].equals(official[["path", "verb", "noun"]])
    # A frame number tells a time no better than to a frame of the annotations' clock.
    assert (ours[["start", "stop"]] - official[["start", "stop"]]).abs().max(axis=None) <= 2


ONE = {"P01_01": Video("P01_01", "P01", "train", 59.94, 30.0)}
HEADER = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
ROWS = [f"P01_01_{i},P01_01,00:00:0{i}.00,00:00:0{i}.50,1,2\n" for i in range(4)]


def refused(tmp_path, text, words, name="EPIC_100_train.csv", **kwargs):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EpicError, match=rf"/{re.escape(name)}: {words}") as caught:
        load(path, videos=ONE, **kwargs)
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
        # The participant is not that of the row's video.
        (
            HEADER.replace("\n", ",participant_id\n")
            + ROWS[0].replace("\n", ",P01\n")
            + "\n"
            + ROWS[2].replace("\n", ",P22\n"),
            THIRD + r"participant_id: 'P22'; expected the participant of the row.*correct the line",
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


def test_a_cut_among_the_first_columns_is_called_one_and_a_lost_end_of_line_is_none(tmp_path):
    whole = HEADER + "".join(ROWS)
    for end in range(len(whole) - len(ROWS[3]) + 1, len(whole) - 3):
        refused(tmp_path, whole[:end], "line 5: the last line is cut")
    (tmp_path / "whole.csv").write_text(whole.rstrip("\n"))
    assert len(load(tmp_path / "whole.csv", videos=ONE)) == 4


@pytest.mark.parametrize("subset", [False, True])
def test_the_line_is_that_of_the_file_behind_blank_lines_breaks_in_quotes_and_left_out_rows(
    tmp_path, subset
):
    other = 'P09_07_0,P09_07,00:00:00.00,00:00:01.00,"1",2\n' if subset else ""
    broken = ROWS[1].replace("P01_01_1", '"P01_01_1"').replace(",1,2", ',"1\n",2')
    text = HEADER + other + "\n\n" + ROWS[0] + broken + ROWS[2].replace(",1,2", ",1,999")
    words = rf"line {len(text.splitlines())} .*column noun_class: '999'"
    refused(tmp_path, text, words, subset=subset)


@pytest.mark.parametrize(
    ("name", "format", "words"),
    [
        ("", "official", "is a folder; expected an official.*`annotations:` in the"),
        ("train.csv", "official", r"train\.csv: no such file; .*`annotations:` in the conf"),
        ("train.txt", "lab_list", r"train\.txt: no such segment list; the rules annotate and c"),
    ],
)
def test_a_missing_file_or_a_folder_is_reported(tmp_path, name, format, words):
    with pytest.raises(EpicError, match=words):
        load(tmp_path / name, format=format)


@pytest.mark.parametrize(
    "line, words",
    [
        ("P01/P01_01.MP4 0 60 97 2", r"line 2 .*column verb: '97'; expected a class id up to 96"),
        (
            "P01/P01_01.MP4 0 60 1 300",
            r"line 2 .*column noun: '300'; expected a class id up to 299",
        ),
        (
            "P09/P09_07.MP4 0 60 1 2",
            r"line 2 .*column video_id: 'P09_07'; expected a video_id of the vid",
        ),
        ("P01/P01_01.MP4 60 60 1 2", r"line 2: 'P01/P01_01\.MP4 60 60 1 2'; expected `path start"),
    ],
)
def test_a_bad_lab_list_is_one_error_with_file_and_line(tmp_path, line, words):
    refused(tmp_path, f"P01/P01_01.MP4 0 60 1 2\n{line}\n", words, "lab.txt", format="lab_list")
