import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from epic100.figures.strips import FRAMES, plot_strips, surest
from epic100.segments.class_names import read_class_names
from epic100.segments.segment_list import read_segments
from epic100.video.reader import VideoReader
from support.pictures import size, words

COLUMNS = ("narration_id", "verb", "noun", "verb_guess", "noun_guess", "confidence", "truth_score",
           "action_at_1", "predicted")  # fmt: skip


@pytest.fixture(scope="module")
def segments(lab):
    return read_segments(f"{lab.results}/clean/val.txt")


def rows_of(segments, wrong=()):
    return pd.DataFrame(
        [
            (s.narration_id, s.verb, s.noun, 9 if i in wrong else s.verb, s.noun, 0.75,
             0.03 if i in wrong else 0.75, i not in wrong, True)
            for i, s in enumerate(segments.itertuples())
        ],
        columns=list(COLUMNS),
    )  # fmt: skip


@pytest.fixture
def plot(lab, tmp_path):
    names = read_class_names([lab.folder / "annotations/EPIC_100_train.csv"])

    def plot(rows, root=lab.root, suffix="svg"):
        path = tmp_path / f"a.{suffix}"
        clean, scan = f"{lab.results}/clean/val.txt", f"{lab.results}/scan"
        plot_strips(rows, clean, root, scan, names, path, title="Strips")
        return path

    return plot


def test_a_strip_names_segment_truth_and_guess(plot, segments):
    rows = rows_of(segments[:2], wrong=[1])
    rows.loc[1, ["verb", "noun"]] = 0, 1
    said = words(plot(rows))
    first, second = rows.itertuples()
    assert "Strips" in said
    assert any(w.startswith(f"{first.narration_id}   truth and guess: ") and w.endswith("(75 %)")
               for w in said)  # fmt: skip
    assert any(w.startswith(f"{second.narration_id}   truth: take spoon (3 %)")
               and "guess: pour" in w for w in said)  # fmt: skip


def test_the_frames_are_those_of_the_segment_from_its_first_to_its_last(plot, segments, lab):
    segment = segments.iloc[0]
    picture = cv2.imread(str(plot(rows_of(segments[:1]), suffix="jpg")))
    reader = VideoReader(f"{lab.root}/{segment['path']}")
    first, last = reader.get_frames([segment["start"], segment["stop"] - 1])[..., ::-1]
    reader.close()
    strip = picture[np.flatnonzero((picture < 200).all(axis=2).mean(axis=1) > 0.5)]
    inked = np.flatnonzero((strip < 250).any(axis=2).mean(axis=0) > 0.5)
    strip = strip[:, inked[0] : inked[-1] + 1]
    width = strip.shape[1] // FRAMES
    for frame, shown in ((first, strip[:, :width]), (last, strip[:, -width:])):
        small = cv2.resize(frame, (80, 45), interpolation=cv2.INTER_AREA).astype(int)
        shown = cv2.resize(shown, (80, 45), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(small - shown).mean() < 12
    assert np.abs(first.astype(int) - last.astype(int)).mean() > 2  # so that order shows


def test_a_video_that_is_gone_or_broken_is_said_in_its_strip_and_the_others_are_drawn(
    plot, segments, lab, tmp_path
):
    root = tmp_path / "videos"
    plot(rows_of(segments[:2]), root=root)
    said = words(tmp_path / "a.svg")
    assert sum("P01_02.MP4 is not there any more" in w for w in said) == 2
    shutil.copytree(lab.root, root)
    (root / "P01/P01_02.MP4").write_bytes(b"no video")
    said = words(plot(rows_of(segments[:1]), root=root))
    assert any("no picture: " in w and "cannot be opened as video" in w for w in said)


def test_no_such_segment_is_a_picture_that_says_so(plot, segments):
    assert "there is no such segment" in words(plot(rows_of(segments[:0])))


def test_the_surest_are_one_an_action_and_of_readable_segments_alone(segments):
    table = pd.concat([rows_of(segments)] * 3, ignore_index=True)
    table["confidence"] = np.linspace(0.2, 0.9, len(table))
    table.loc[table.index[-1], "predicted"] = False
    table.loc[table.index[-2], "action_at_1"] = False
    right, wrong = surest(table, True), surest(table, False)
    assert not right.duplicated(["verb", "noun"]).any() and len(right) <= 6
    assert right["confidence"].is_monotonic_decreasing and right["action_at_1"].all()
    assert right.index[0] == table.index[-3] and wrong.index.tolist() == [table.index[-2]]


def test_six_strips_fit_the_window_and_stay_small(plot, segments):
    path = plot(pd.concat([rows_of(segments)] * 3)[:6], suffix="jpg")
    assert path.stat().st_size < 400_000
    width, height = size(path)
    assert width <= 1100 and height / width <= 0.62
