"""Annotations: read from CSVs and lab lists, turned into frames, rejected with line and column."""

import math
import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.data.annotations import (
    BASE_COLUMNS,
    LABEL_COLUMNS,
    frames_between,
    index_segments,
    read_annotations,
)
from epic100.minikitchen import write_annotations
from epic100.video.sheet import Video
from support.checkout import CLASSES
from support.lab import FILES, VIDEOS


@pytest.fixture(scope="module")
def csvs(tmp_path_factory):
    """The mini kitchen's annotation files by split."""
    folder = tmp_path_factory.mktemp("annotations")
    write_annotations(VIDEOS.values(), folder, seed=3)
    return {split: folder / name for split, name in FILES.items()}


def load(path, split="train", videos=VIDEOS, **options):
    return read_annotations(path, videos, split=split, classes=CLASSES, **options)


# The sheet rounds the first and the last rate to 59.94 and 29.97 fps.
@pytest.mark.parametrize("fps", [Fraction(60000, 1001), Fraction(50), Fraction(30000, 1001)])
def test_frames_between_timestamps_are_exact_and_never_none(fps):
    rng = np.random.default_rng(0)
    # Timestamps of an hour, in hundredths of a second; segments last up to 4 s.
    starts = rng.integers(0, 360_000, 6000)
    stops = starts + rng.integers(0, 400, 6000)
    first_frames, ends = frames_between(starts / 100, stops / 100, float(fps))
    expected_firsts = [math.floor(Fraction(int(time), 100) * fps) for time in starts]
    exact_ends = [math.ceil(Fraction(int(time), 100) * fps) for time in stops]
    assert first_frames.tolist() == expected_firsts
    assert ends.tolist() == np.maximum(exact_ends, np.array(expected_firsts) + 1).tolist()


@pytest.mark.parametrize("split", FILES)
def test_timestamps_become_frames_at_the_file_s_rate(csvs, split):
    segments = index_segments(load(csvs[split], split), VIDEOS)
    rows = pd.read_csv(csvs[split])
    assert segments["narration_id"].tolist() == rows["narration_id"].tolist()
    paths = rows["participant_id"] + "/" + rows["video_id"] + ".MP4"
    assert segments["path"].tolist() == paths.tolist()
    columns = rows[["start_timestamp", "stop_timestamp"]]
    seconds = columns.apply(lambda column: pd.to_timedelta(column).dt.total_seconds())
    rates = rows["video_id"].map({name: video.fps for name, video in VIDEOS.items()})
    start, stop = frames_between(seconds["start_timestamp"], seconds["stop_timestamp"], rates)
    lengths = rows["video_id"].map({n: round(v.duration * v.fps) for n, v in VIDEOS.items()})
    assert segments["start"].tolist() == start.tolist()
    assert segments["stop"].tolist() == np.minimum(stop, lengths).tolist()
    # In val, the last segment of P06_101 ends 0.01 s after its video, so its stop is cut.
    assert (stop > lengths).any() == (split == "val")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(
            lambda rows: rows.assign(start_frame=7).to_csv(index=False), id="another start_frame"
        ),
        pytest.param(
            lambda rows: rows[[*BASE_COLUMNS, *LABEL_COLUMNS]].to_csv(index=False),
            id="no other columns",
        ),
        pytest.param(
            lambda rows: rows.to_csv(index=False).rstrip("\n"), id="no end of the last line"
        ),
    ],
)
def test_other_columns_and_line_ends_are_ignored(csvs, tmp_path, changed):
    (tmp_path / "a.csv").write_text(changed(pd.read_csv(csvs["train"])))
    pd.testing.assert_frame_equal(load(tmp_path / "a.csv"), load(csvs["train"]))


def test_segments_that_start_late_keep_their_frames(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
        "P02_101_0,P02_101,01:00:40.50,01:00:41.00,0,1\n"
    )
    segments = index_segments(load(path), VIDEOS)
    # The file has 50 fps. The rule clean drops the segment later.
    assert segments[["start", "stop"]].values.tolist() == [[3640.5 * 50, 3641 * 50]]


def test_a_subset_skips_videos_outside_the_sheet(csvs):
    path = csvs["train"]
    all_rows = load(path)
    small_sheet = {name: VIDEOS[name] for name in ("P02_101", "P03_07")}
    expected = all_rows[all_rows["video_id"].isin(small_sheet)].reset_index(drop=True)
    found = load(path, videos=small_sheet, subset=True)
    pd.testing.assert_frame_equal(found, expected)
    other_sheet = {"P99_01": Video("P99_01", "P99", "train", 50.0, 9.0)}
    nothing = load(path, videos=other_sheet, subset=True)
    assert nothing.empty and index_segments(nothing, other_sheet).empty


HEADER = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
ROWS = [f"P01_01_{i},P01_01,00:00:0{i}.00,00:00:0{i}.50,1,2\n" for i in range(4)]


def check_rejected(path, content, words, **options):
    """Write a file of segments of P01_01, and check that it is rejected in one line."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sheet = {"P01_01": Video("P01_01", "P01", "train", 59.94, 30.0)}
    with pytest.raises(EpicError, match=rf"/{re.escape(path.name)}: {words}") as caught:
        load(path, videos=sheet, **options)
    assert "\n" not in str(caught.value)


def third_changed(old, new):
    """Return a CSV of four rows, with a change in the third, which is on line 4."""
    assert old in ROWS[2]
    return HEADER + ROWS[0] + ROWS[1] + ROWS[2].replace(old, new) + ROWS[3]


# A CSV of three rows whose last column lists nouns, and the error about its fourth row.
LISTING = HEADER.replace("\n", ",all_noun_classes\n")
LISTING += "".join(row.replace("\n", ",[2]\n") for row in ROWS[:3])
CUT = r"line 5: (the last line is cut, .*copy or download it again|unexpected end of data)"
THIRD = r"line 4 \(narration_id P01_01_2\), column "


@pytest.mark.parametrize(
    "content, words",
    [
        pytest.param(
            "",
            r"line 1: column narration_id, .* missing .*expected an official EPIC-KITCHENS-100 C",
            id="empty file",
        ),
        pytest.param(
            HEADER,
            r"no rows below the header; expected one row a segment",
            id="header alone",
        ),
        pytest.param(
            HEADER.replace("noun_class", "noun") + ROWS[0],
            r"line 1: column noun_class missing \(found: narration_id, .*, noun\); expected",
            id="no column noun_class",
        ),
        pytest.param(
            HEADER.replace(",", "\t") + ROWS[0],
            r"line 1: column narration_id, .* missing",
            id="tabs",
        ),
        pytest.param(
            third_changed(",1,2", ",97,2"),
            THIRD + r"verb_class: '97'; expected a class id from 0 to 96 ",
            id="verb beyond the classes",
        ),
        pytest.param(
            third_changed(",1,2", ",1,300"),
            THIRD + r"noun_class: '300'; expected a class id from 0 to 299",
            id="noun beyond the classes",
        ),
        pytest.param(
            third_changed(",1,2", ",-1,2"),
            THIRD + r"verb_class: '-1'; expected a class id",
            id="negative verb",
        ),
        pytest.param(
            third_changed(",1,2", ",1.5,2"),
            THIRD + r"verb_class: '1\.5'; expected a class id",
            id="decimal verb",
        ),
        pytest.param(
            third_changed(",1,2", ",take,2"),
            THIRD + r"verb_class: 'take'; expected .*`classes:` in the conf",
            id="name of a verb",
        ),
        pytest.param(
            third_changed(",1,2", ",1,"),
            THIRD + r"noun_class: ''; expected a class id",
            id="empty noun",
        ),
        pytest.param(
            third_changed(",1,2", ",1"),
            THIRD + r"noun_class: ''; expected a class id",
            id="missing noun",
        ),
        pytest.param(
            third_changed("02.50", "02.00"),
            THIRD + r"stop_timestamp: '00:00:02\.00'; expected a time after s",
            id="stop at start",
        ),
        pytest.param(
            third_changed("02.50", "01.50"),
            THIRD + r"stop_timestamp: '00:00:01\.50'; expected a time after",
            id="stop before start",
        ),
        pytest.param(
            third_changed("00:00:02.50", "2.5"),
            THIRD + r"stop_timestamp: '2\.5'; expected a time HH:MM:SS",
            id="time in seconds",
        ),
        pytest.param(
            third_changed("00:00:02.00", "00:60:00"),
            THIRD + r"start_timestamp: '00:60:00'; expected a time",
            id="minute 60",
        ),
        pytest.param(
            third_changed("00:00:02.00", ""),
            THIRD + r"start_timestamp: ''; expected a time",
            id="empty time",
        ),
        pytest.param(
            third_changed("P01_01,00", "P09_07,00"),
            THIRD
            + r"video_id: 'P09_07'; expected a video_id of the video sheet; .*`videos: subset",
            id="video outside the sheet",
        ),
        pytest.param(
            third_changed("P01_01_2", "P01_01_0"),
            r"line 4 .*column narration_id: 'P01_01_0'; .* no earlier",
            id="id given twice",
        ),
        pytest.param(
            third_changed("P01_01_2", ""),
            r"line 4 \(narration_id \?\), column narration_id: ''; expected a",
            id="empty id",
        ),
        pytest.param(
            third_changed("P01_01_2", "P01 01 2"),
            r"line 4 .*narration_id: 'P01 01 2'; expected a name of",
            id="id with spaces",
        ),
        pytest.param(
            third_changed(",1,2", ",1,2,3"),
            r"line 4: 7 fields, the header has 6; expected an official",
            id="a field more",
        ),
        pytest.param(
            HEADER + ROWS[0].replace("\n", ",\n"),
            r"line 2: 7 fields, the header has 6; expected an",
            id="a comma more",
        ),
        pytest.param(
            third_changed("P01_01_2", '"P01_01_2'),
            r"line 4: unexpected end of data; expected an official",
            id="open quote",
        ),
        pytest.param(
            third_changed("P01_01_2", "P01_01_é").encode("latin-1"),
            r"not UTF-8 text .*; expected an official",
            id="not UTF-8",
        ),
        pytest.param(
            HEADER.replace("\n", ",participant_id\n")
            + ROWS[0].replace("\n", ",P01\n")
            + "\n"
            + ROWS[2].replace("\n", ",P22\n"),
            THIRD + r"participant_id: 'P22'; expected the participant of the row.*correct the line",
            id="another participant",
        ),
        pytest.param(
            HEADER + "".join(ROWS).replace(",1,2", ",500,2"),
            r"line 2 .*P01_01_0.*'500' \(4 such rows\); expected",
            id="several bad rows",
        ),
        *(
            pytest.param(
                HEADER + "".join(ROWS)[:end], CUT, id=f"cut before {ROWS[3][end:].strip()}"
            )
            for end in (-29, -20, -4)
        ),
        *(
            pytest.param(LISTING + ROWS[3].strip() + last_field, CUT, id=f"cut after {last_field}")
            for last_field in (',"[2', ',"[2, 3', ",[2", "", ",")
        ),
    ],
)
def test_a_bad_csv_has_line_and_column(tmp_path, content, words):
    check_rejected(tmp_path / "EPIC_100_train.csv", content, words)


@pytest.mark.parametrize("subset", [False, True])
def test_errors_count_every_line_of_the_file(tmp_path, subset):
    skipped = 'P09_07_0,P09_07,00:00:00.00,00:00:01.00,"1",2\n' if subset else ""
    broken = ROWS[1].replace("P01_01_1", '"P01_01_1"').replace(",1,2", ',"1\n",2')
    text = HEADER + skipped + "\n\n" + ROWS[0] + broken + ROWS[2].replace(",1,2", ",1,999")
    words = rf"line {len(text.splitlines())} .*column noun_class: '999'"
    check_rejected(tmp_path / "train.csv", text, words, subset=subset)


def test_a_missing_file_or_a_folder_is_rejected(tmp_path):
    with pytest.raises(EpicError, match="is a folder; expected an official.*`annotations:` in the"):
        load(tmp_path)
    with pytest.raises(EpicError, match=r"train\.csv: no such file; .*`annotations:` in the conf"):
        load(tmp_path / "train.csv")
