"""The mini kitchen: its CSVs, its segments and its video files."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from epic100.minikitchen import (
    PAIRS,
    UNSEEN_PAIR,
    schedule,
    write_annotations,
    write_video,
)
from epic100.video.sheet import Video
from support.lab import FILES, SHEET

# A video of 600 frames.
SHORT = Video("P01_01", "P01", "train", 60000 / 1001, 600 * 1001 / 60000)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    """The CSVs of the demo's sheet, by name."""
    folder = tmp_path_factory.mktemp("annotations")
    write_annotations(SHEET, folder, seed=0)
    return {path.stem: pd.read_csv(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def short_file(tmp_path_factory) -> Path:
    """The file of the video `SHORT`."""
    path = tmp_path_factory.mktemp("videos") / "P01_01.MP4"
    write_video(SHORT, path, seed=0)
    return path


def test_six_csvs_with_the_official_columns_are_written(tables):
    official = [
        "narration_id",
        "participant_id",
        "video_id",
        "narration_timestamp",
        "start_timestamp",
        "stop_timestamp",
        "start_frame",
        "stop_frame",
        "narration",
        "verb",
        "verb_class",
        "noun",
        "noun_class",
        "all_nouns",
        "all_noun_classes",
    ]
    assert {name: list(table.columns) for name, table in tables.items()} == {
        "EPIC_100_train": official,
        "EPIC_100_validation": official,
        "EPIC_100_test_timestamps": official[:8],
        "EPIC_100_tail_verbs": ["verb"],
        "EPIC_100_tail_nouns": ["noun"],
        "EPIC_100_unseen_participant_ids_validation": ["participant_id"],
    }


@pytest.fixture(scope="module")
def segments(tables) -> dict[str, pd.DataFrame]:
    """The CSVs of train and val, with seconds, the length in frames and the gap to the next."""
    both = pd.concat([tables["EPIC_100_train"], tables["EPIC_100_validation"]])
    sheet = pd.DataFrame(SHEET)[["video_id", "split", "fps"]]
    labelled = both.merge(sheet, on="video_id", validate="many_to_one")
    for when in ("start", "stop"):
        labelled[when] = pd.to_timedelta(labelled[f"{when}_timestamp"]).dt.total_seconds()
    labelled["frames"] = (labelled["stop"] - labelled["start"]) * labelled["fps"]
    labelled = labelled.sort_values(["video_id", "start"])
    labelled["gap"] = labelled.groupby("video_id")["start"].shift(-1) - labelled["stop"]
    return dict(list(labelled.groupby("split")))


@pytest.mark.parametrize(
    "split, is_difficult, least, most",
    [
        # A clip of 13 frames, 6 apart, spans 78.
        pytest.param("train", lambda csv: csv["frames"] < 78, 60, 140, id="shorter than a clip"),
        pytest.param("train", lambda csv: csv["frames"] < 13, 2, 3, id="few frames in train"),
        pytest.param("val", lambda csv: csv["frames"] < 13, 1, 2, id="few frames in val"),
        pytest.param("train", lambda csv: csv["gap"] < 0, 40, 80, id="overlap with the next"),
        pytest.param("train", lambda csv: csv["gap"] < -0.31, 0, 0, id="no long overlap"),
        pytest.param(
            "val", lambda csv: csv["narration_timestamp"].isna(), 1, 6, id="no narration time"
        ),
        pytest.param(
            "train", lambda csv: csv["narration_timestamp"].isna(), 0, 0, id="narration times"
        ),
    ],
)
def test_some_of_the_segments_are_difficult(segments, split, is_difficult, least, most):
    assert len(segments[split]) == {"train": 200, "val": 81}[split]
    assert least <= is_difficult(segments[split]).sum() <= most


def test_one_pair_of_val_is_not_in_train(segments):
    counts = {
        split: csv.value_counts(["verb_class", "noun_class"]) for split, csv in segments.items()
    }
    assert set(counts["train"].index) == set(PAIRS)
    assert set(counts["val"].index) - set(PAIRS) == {UNSEEN_PAIR}
    assert 1 <= counts["val"][UNSEEN_PAIR] <= 2


def test_unseen_participants_are_in_val_only(segments, tables):
    participants = {split: set(csv["participant_id"]) for split, csv in segments.items()}
    listed = tables["EPIC_100_unseen_participant_ids_validation"]["participant_id"]
    assert len(listed)
    assert set(listed) == participants["val"] - participants["train"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_segments_do_not_depend_on_other_videos(split, tables, tmp_path):
    (video, *_) = (video for video in SHEET if video.split == split)
    write_annotations([video], tmp_path, seed=0)
    alone = pd.read_csv(tmp_path / FILES[split])
    among = tables[FILES[split].removesuffix(".csv")]
    pd.testing.assert_frame_equal(alone, among[among["video_id"] == video.video_id])


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    short = replace(SHORT, duration=1.001)
    arguments = {"one": (0, "easy"), "again": (0, "easy"), "seed": (1, "easy"), "hard": (0, "hard")}
    for name, (seed, level) in arguments.items():
        write_video(short, tmp_path / name, seed=seed, size=(96, 54), level=level)
    one, again, *others = ((tmp_path / name).read_bytes() for name in arguments)
    assert one == again and one not in others


def test_key_frames_come_every_250_frames(short_file):
    with av.open(short_file) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [0, 250, 500]
    assert any(later.pts < earlier.pts for earlier, later in pairwise(packets))


@pytest.mark.slow
def test_objects_are_visible_in_their_segment_only(short_file):
    with av.open(short_file) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # The background is dull: only an object has saturated colours.
    visible = [(np.ptp(p.astype(int), axis=2) > 100).mean() > 0.01 for p in frames]
    expected = np.zeros(len(frames), bool)
    for action in schedule(SHORT, seed=0):
        first, stop = action.start * SHORT.fps, action.stop * SHORT.fps
        expected[int(first + 1e-6) : int(np.ceil(stop - 1e-6))] = True
    assert 0 < expected.mean() < 1
    assert visible == expected.tolist()
