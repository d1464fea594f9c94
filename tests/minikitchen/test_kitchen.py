"""The mini kitchen: its CSVs, its segments and its video files."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from epic100.minikitchen import (
    NOUNS,
    PAIRS,
    UNSEEN_PAIR,
    VERBS,
    schedule,
    write_annotations,
    write_video,
)
from epic100.video.sheet import Video
from support.lab import FILES, SHEET

SHORT = Video("P01_01", "P01", "train", 60000 / 1001, 600 * 1001 / 60000)
LABELLED = """
    narration_id participant_id video_id narration_timestamp start_timestamp stop_timestamp
    start_frame stop_frame narration verb verb_class noun noun_class all_nouns all_noun_classes
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("annotations")
    write_annotations(SHEET, folder, seed=0)
    return {path.stem: pd.read_csv(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def short_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "P01_01.MP4"
    write_video(SHORT, path, seed=0)
    return path


def test_the_annotations_are_six_csvs_of_the_official_columns(tables):
    columns = {name: list(table.columns) for name, table in tables.items()}
    official = LABELLED.split()
    assert columns == {
        "EPIC_100_train": official,
        "EPIC_100_validation": official,
        "EPIC_100_test_timestamps": official[:8],
        "EPIC_100_tail_verbs": ["verb"],
        "EPIC_100_tail_nouns": ["noun"],
        "EPIC_100_unseen_participant_ids_validation": ["participant_id"],
    }
    for split, name in FILES.items():
        expected = {video.video_id for video in SHEET if video.split == split}
        assert set(tables[name.removesuffix(".csv")]["video_id"]) == expected
    for task, names in (("verb", VERBS), ("noun", NOUNS)):
        assert set() < set(tables[f"EPIC_100_tail_{task}s"][task]) < set(names)


def test_the_world_holds_every_kind_of_segment_that_is_hard(tables):
    both = pd.concat([tables["EPIC_100_train"], tables["EPIC_100_validation"]])
    sheet = pd.DataFrame(SHEET)[["video_id", "split", "fps"]]
    labelled = both.merge(sheet, on="video_id", validate="many_to_one")
    for when in ("start", "stop"):
        labelled[when] = pd.to_timedelta(labelled[f"{when}_timestamp"]).dt.total_seconds()
    labelled = labelled.sort_values(["video_id", "start"])
    labelled["frames"] = (labelled["stop"] - labelled["start"]) * labelled["fps"]
    train, val = labelled[labelled["split"] == "train"], labelled[labelled["split"] == "val"]
    overlaps = [
        later.start - earlier.stop
        for _, rows in labelled.groupby("video_id")
        for earlier, later in pairwise(rows.itertuples())
    ]
    share = np.mean(np.array(overlaps) < 0)
    assert 0.2 < share < 0.4 and min(overlaps) > -0.31

    assert 0.3 < (train["frames"] < 78).mean() < 0.7
    assert 2 <= (train["frames"] < 13).sum() <= 3
    assert 1 <= (val["frames"] < 13).sum() <= 2

    known = set(PAIRS)
    assert set(zip(train["verb_class"], train["noun_class"], strict=True)) == known
    pairs = list(zip(val["verb_class"], val["noun_class"], strict=True))
    assert set(pairs) - known == {UNSEEN_PAIR} and 1 <= pairs.count(UNSEEN_PAIR) <= 2

    unseen = set(val["participant_id"]) - set(train["participant_id"])
    listed = tables["EPIC_100_unseen_participant_ids_validation"]["participant_id"]
    assert unseen == set(listed) and unseen
    assert 1 <= val["narration_timestamp"].isna().sum() <= 6
    assert train["narration_timestamp"].notna().all()

    counts = train.groupby(["verb_class", "noun_class"]).size()
    assert len(counts) >= 6 and counts.max() <= 1.5 * counts.min()


def test_a_schedule_depends_on_its_own_row_and_the_seed_alone(tmp_path):
    assert schedule(SHORT, seed=0) == schedule(SHORT, seed=0)
    assert schedule(SHORT, seed=0) != schedule(SHORT, seed=1)
    for name, videos in (("all", SHEET), ("one", SHEET[:1])):
        write_annotations(videos, tmp_path / name, seed=3)
    alone = (tmp_path / "one" / "EPIC_100_train.csv").read_text().splitlines()
    among = (tmp_path / "all" / "EPIC_100_train.csv").read_text().splitlines()
    assert len(alone) > 1 and set(alone) < set(among)


def test_the_same_row_and_seed_give_the_same_bytes(tmp_path):
    brief = replace(SHORT, duration=1.001)
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        write_video(brief, tmp_path / name / "P01_01.MP4", seed=seed, size=(96, 54))
    one, again, other = ((tmp_path / n / "P01_01.MP4") for n in ("one", "again", "other"))
    assert one.read_bytes() == again.read_bytes() != other.read_bytes()
    assert list(again.parent.iterdir()) == [again]


def test_key_frames_are_250_apart_with_b_frames_between(short_file):
    with av.open(short_file) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [0, 250, 500]
    assert any(later.pts < earlier.pts for earlier, later in pairwise(packets))


def test_a_segments_object_shows_from_its_first_frame_to_its_last_and_no_two_are_alike(short_file):
    with av.open(short_file) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # The background is dull: only an object has saturated colours.
    shown = np.array([(np.ptp(p.astype(int), axis=2) > 100).mean() > 0.01 for p in pictures])
    expected = np.zeros(len(pictures), bool)
    for action in schedule(SHORT, seed=0):
        first, stop = action.start * SHORT.fps, action.stop * SHORT.fps
        expected[int(first + 1e-6) : int(np.ceil(stop - 1e-6))] = True
    assert 0 < expected.mean() < 1
    assert shown.tolist() == expected.tolist()
    assert len({picture.tobytes() for picture in pictures}) == len(pictures) == 600
