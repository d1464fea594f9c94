"""The mini kitchen: its CSVs, its segments and its video files."""

from dataclasses import replace
from fractions import Fraction
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
LABELLED = [
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp",
    "stop_timestamp", "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun",
    "noun_class", "all_nouns", "all_noun_classes",
]  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("annotations")
    write_annotations(SHEET, folder, seed=0)
    return {path.stem: pd.read_csv(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def labelled(tables) -> pd.DataFrame:
    """Train and val together, with seconds and the file's rate and length beside each segment."""
    both = pd.concat([tables["EPIC_100_train"], tables["EPIC_100_validation"]])
    sheet = pd.DataFrame(SHEET)[["video_id", "split", "fps", "duration"]]
    both = both.merge(sheet, on="video_id", validate="many_to_one")
    for when in ("start", "stop"):
        both[when] = pd.to_timedelta(both[f"{when}_timestamp"]).dt.total_seconds()
    both["frames"] = (both["stop"] - both["start"]) * both["fps"]
    return both.sort_values(["video_id", "start"])


@pytest.fixture(scope="module")
def short_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "P01_01.MP4"
    write_video(SHORT, path, seed=0)
    return path


@pytest.fixture(scope="module")
def pictures(short_file) -> list[np.ndarray]:
    with av.open(short_file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_annotations_are_six_csvs_of_the_official_columns(tables):
    columns = {name: list(table.columns) for name, table in tables.items()}
    assert columns == {
        "EPIC_100_train": LABELLED,
        "EPIC_100_validation": LABELLED,
        "EPIC_100_test_timestamps": LABELLED[:8],
        "EPIC_100_tail_verbs": ["verb"],
        "EPIC_100_tail_nouns": ["noun"],
        "EPIC_100_unseen_participant_ids_validation": ["participant_id"],
    }
    for split, name in FILES.items():
        expected = {video.video_id for video in SHEET if video.split == split}
        assert set(tables[name.removesuffix(".csv")]["video_id"]) == expected
    for task, names in (("verb", VERBS), ("noun", NOUNS)):
        assert set() < set(tables[f"EPIC_100_tail_{task}s"][task]) < set(names)


def test_every_row_reads_as_an_official_one(labelled):
    assert labelled["narration_id"].is_unique
    assert labelled["start_timestamp"].str.fullmatch(r"00:00:\d\d\.\d\d").all()
    assert labelled["narration_timestamp"].dropna().str.fullmatch(r"00:00:\d\d\.\d{3}").all()
    assert labelled["verb"].tolist() == [VERBS[i] for i in labelled["verb_class"]]
    assert labelled["noun"].tolist() == [NOUNS[i] for i in labelled["noun_class"]]
    assert (labelled["narration"] == labelled["verb"] + " " + labelled["noun"]).all()
    assert (labelled["all_nouns"] == "['" + labelled["noun"] + "']").all()
    assert (labelled["all_noun_classes"] == "[" + labelled["noun_class"].astype(str) + "]").all()
    numbers = labelled["narration_id"].str.rsplit("_", n=1).str[1].astype(int)
    steps = numbers.groupby(labelled["video_id"]).diff().dropna()
    assert set(steps) == {1, 2}  # in order of time, with gaps


@pytest.mark.parametrize(
    ("video_id", "fps", "rate"), [("P01_01", 59.94, 60), ("P02_101", 50, 50), ("P03_07", 29.97, 60)]
)
def test_frame_numbers_count_on_the_annotation_clock(labelled, video_id, fps, rate):
    rows = labelled[labelled["video_id"] == video_id]
    assert np.allclose(rows["fps"], fps, atol=0.001)
    for when in ("start", "stop"):
        expected = np.maximum(1, np.floor(rows[when] * rate + 1e-6))
        assert rows[f"{when}_frame"].tolist() == expected.tolist()


def test_the_world_holds_every_kind_of_segment_that_is_hard(tables, labelled):
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


def test_one_val_segment_alone_ends_after_its_video(labelled):
    late = labelled[labelled["stop"] > labelled["duration"]]
    assert late["split"].tolist() == ["val"]
    assert 0 < (late["stop"] - late["duration"]).item() <= 0.02


def test_neither_verb_nor_noun_alone_tells_the_action(labelled):
    train = labelled[labelled["split"] == "train"]
    assert train.groupby("verb_class")["noun_class"].nunique().min() > 1
    assert train.groupby("noun_class")["verb_class"].nunique().min() > 1
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


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(59.9400599400599, "60000/1001"), (50.0, "50"), (29.97002997003, "30000/1001")],
)
def test_a_file_has_the_rate_and_frames_of_its_row(tmp_path, fps, rate):
    video = replace(SHORT, fps=fps, duration=2.002)
    path = tmp_path / "rate.MP4"
    write_video(video, path, seed=0, size=(96, 54))
    with av.open(path) as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert stream.average_rate == Fraction(rate)
        assert (stream.width, stream.height) == (96, 54)
    assert times == [i / Fraction(rate) for i in range(round(2.002 * fps))]


def test_key_frames_are_250_apart_with_b_frames_between(short_file):
    with av.open(short_file) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [0, 250, 500]
    assert any(later.pts < earlier.pts for earlier, later in pairwise(packets))


@pytest.mark.parametrize("faststart", [False, True])
def test_the_index_is_last_or_first(tmp_path, faststart):
    path = tmp_path / "fast.MP4"
    write_video(replace(SHORT, duration=0.5), path, seed=0, faststart=faststart)
    data = path.read_bytes()
    assert (data.index(b"moov") < data.index(b"mdat")) == faststart


def test_a_segments_object_shows_from_its_first_frame_to_its_last(pictures):
    # The background is dull: only an object has saturated colours.
    shown = np.array([(np.ptp(p.astype(int), axis=2) > 100).mean() > 0.01 for p in pictures])
    expected = np.zeros(len(pictures), bool)
    for action in schedule(SHORT, seed=0):
        first, stop = action.start * SHORT.fps, action.stop * SHORT.fps
        expected[int(first + 1e-6) : int(np.ceil(stop - 1e-6))] = True
    assert 0 < expected.mean() < 1
    assert shown.tolist() == expected.tolist()


def test_no_two_pictures_are_alike(pictures):
    assert len({picture.tobytes() for picture in pictures}) == len(pictures) == 600
