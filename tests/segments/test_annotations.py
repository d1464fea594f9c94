import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from epic100.minikitchen import write_annotations
from epic100.segments.annotations import (
    annotation_rate,
    frames_between,
    index_segments,
    load_annotations,
)
from epic100.segments.segment_list import read_segments
from epic100.video.sheet import Video
from support.checkout import CLASSES
from support.demo_kitchen import FILES, VIDEOS

# By the sheet's rates to full precision: 59.94 and 29.97 fps are these fractions.
RATES = (Fraction(60000, 1001), Fraction(50), Fraction(30000, 1001))


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotations")
    write_annotations(VIDEOS.values(), folder, seed=3)
    return {split: folder / name for split, name in FILES.items()}


def load(path, split="train", videos=VIDEOS, **kwargs):
    return load_annotations(path, videos, split=split, classes=CLASSES, **kwargs)


def exact_rate(video):
    return min(RATES, key=lambda rate: abs(float(rate) - video.fps))


def exact_frames(start, stop, rate):
    """The same rule in fractions, from the text of two timestamps."""
    first, last = (
        sum(
            Fraction(part) * scale
            for part, scale in zip(time.split(":"), (3600, 60, 1), strict=True)
        )
        for time in (start, stop)
    )
    return math.floor(first * rate), max(math.ceil(last * rate), math.floor(first * rate) + 1)


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
    rows = pd.read_csv(kitchen[split], dtype=str)
    assert segments["narration_id"].tolist() == rows["narration_id"].tolist()
    rates = set()
    for segment, row in zip(segments.itertuples(), rows.itertuples(), strict=True):
        video = VIDEOS[row.video_id]
        start, stop = exact_frames(row.start_timestamp, row.stop_timestamp, exact_rate(video))
        end = round(video.duration * video.fps)
        assert (segment.start, segment.stop) == (start, min(stop, end))
        assert 0 <= segment.start < segment.stop <= end
        assert segment.path == f"{row.participant_id}/{row.video_id}.MP4"
        rates.add(round(video.fps, 2))
    assert rates == ({59.94, 50.0, 29.97} if split == "train" else {59.94, 50.0})


def test_start_frame_is_another_clock_and_is_not_looked_at(kitchen, tmp_path):
    rows = pd.read_csv(kitchen["train"])
    segments = index_segments(load(kitchen["train"]), VIDEOS)
    drift = (rows["start_frame"] - segments["start"]).groupby(rows["video_id"]).max()
    # In 60 seconds: 60 a second against 59.94 is 3.6 frames, against 29.97 it is 1,800.
    assert drift["P01_01"] in (3, 4) and drift["P02_101"] in (0, 1) and drift["P03_07"] > 1000
    least = rows[["narration_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class",
                  "noun_class"]]  # fmt: skip
    for table in (rows.assign(start_frame=7), least):
        table.to_csv(tmp_path / "a.csv", index=False)
        pd.testing.assert_frame_equal(load(tmp_path / "a.csv"), load(kitchen["train"]))


def test_the_annotation_clock_goes_by_the_style_of_the_id():
    rates = {"P01_01": 60, "P37_99": 60, "P01_101": 50, "P35_102": 50}
    assert {name: annotation_rate(name) for name in rates} == rates


def test_a_segment_that_ends_just_after_its_video_ends_with_it(kitchen):
    annotations = load(kitchen["val"], "val")
    last = annotations.loc[annotations["video_id"] == "P06_101", "stop_seconds"].idxmax()
    assert 0 < (annotations.loc[last, "stop_seconds"] - VIDEOS["P06_101"].duration) < 0.02
    assert index_segments(annotations, VIDEOS).loc[last, "stop"] == 60 * 50


def test_a_segment_that_starts_after_its_video_keeps_its_frames_for_clean_to_drop(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
        "P02_101_0,P02_101,01:00:40.50,01:00:41.00,0,1\n"
    )
    segments = index_segments(load(path), VIDEOS)
    assert segments[["start", "stop"]].values.tolist() == [[3640.5 * 50, 3641 * 50]]


def test_the_test_split_has_eight_columns_and_no_labels(kitchen):
    assert len(kitchen["test"].read_text().splitlines()[0].split(",")) == 8
    annotations = load(kitchen["test"], "test")
    assert len(annotations) > 10
    assert (annotations[["verb", "noun"]] == -1).all(axis=None)


def test_labels_are_the_csv_s_class_ids_and_a_narration_timestamp_may_be_missing(kitchen):
    rows, annotations = pd.read_csv(kitchen["val"]), load(kitchen["val"], "val")
    assert rows["narration_timestamp"].isna().any()
    labels = rows[["verb_class", "noun_class"]].values.tolist()
    assert annotations[["verb", "noun"]].values.tolist() == labels


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
    # A frame of the annotation clock is what a frame number can tell.
    assert (ours[["start", "stop"]] - official[["start", "stop"]]).abs().max(axis=None) <= 2
