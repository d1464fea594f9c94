import pytest

from epic100.figures.data import (
    annotated_segments,
    plot_classes,
    plot_lengths,
    plot_participants,
)
from epic100.segments.official_lists import read_class_names
from support.checkout import CLASSES
from support.demo_kitchen import FILES
from support.pictures import size, words
from support.real_size import real_segments, real_sheet


@pytest.fixture(scope="module")
def csvs(lab):
    return {split: str(lab.folder / f"annotations/{FILES[split]}") for split in ("train", "val")}


@pytest.fixture(scope="module")
def segments(lab, csvs):
    return annotated_segments(csvs, lab.videos, classes=CLASSES)


def test_segments_of_all_splits_have_participant_and_seconds(segments, lab):
    assert segments["split"].value_counts().to_dict().keys() == {"train", "val"}
    assert set(segments["participant"]) == {"P01", "P02", "P03"}
    assert segments["seconds"].between(0.1, 3.1).all()  # as the mini kitchen is scheduled
    lines = (lab.folder / "results/segments/train.txt").read_text().splitlines()
    assert (segments["split"] == "train").sum() == len(lines)


def test_the_participants_picture_counts_segments_and_time_by_split(segments, lab, tmp_path):
    plot_participants(segments, lab.videos, tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert f"{len(segments)} segments in 4 videos of 3 participants, 48 seconds" in said
    trained = (segments["split"] == "train").sum()
    assert {"P01", "P02", "P03", f"train ({trained})", "train (36.0)"} <= set(said)


def test_a_participant_of_the_sheet_without_a_segment_has_a_row(segments, lab, tmp_path):
    plot_participants(segments[segments["participant"] != "P03"], lab.videos, tmp_path / "a.svg")
    assert "P03" in words(tmp_path / "a.svg")


def test_lengths_and_classes_are_named_in_the_annotators_words(segments, csvs, tmp_path):
    names = read_class_names(csvs.values())
    plot_lengths(segments, names, tmp_path / "lengths.svg")
    plot_classes(segments, names, tmp_path / "classes.svg")
    middle = segments["seconds"].median()
    assert f"Half of all segments are shorter than {middle:.1f} s" in words(
        tmp_path / "lengths.svg"
    )
    assert {"take", "wash", "pour", "mix"} <= set(words(tmp_path / "lengths.svg"))
    said = set(words(tmp_path / "classes.svg"))
    assert {"take", "spoon", "plate", "pan", "bowl", "train", "val"} <= said


def test_unlabelled_segments_alone_make_pictures_that_say_so(segments, tmp_path):
    bare = segments.assign(verb=-1, noun=-1)
    plot_lengths(bare, read_class_names([]), tmp_path / "lengths.svg")
    plot_classes(bare, read_class_names([]), tmp_path / "classes.svg")
    assert "no labelled segment" in words(tmp_path / "classes.svg")


def test_pictures_of_the_whole_data_set_stay_small(tmp_path):
    videos = real_sheet()
    segments, names = real_segments(videos), read_class_names([])
    plot_participants(segments, videos, tmp_path / "participants.svg")
    plot_lengths(segments, names, tmp_path / "lengths.svg")
    plot_classes(segments, names, tmp_path / "classes.svg")
    assert "81 other verbs" in words(tmp_path / "classes.svg")
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 300_000 and max(size(path)) < 1700
