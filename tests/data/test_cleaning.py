"""Which segments are kept, with which frames, why others are dropped, and the files of a run."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.data.annotations import frames_between, index_segments
from epic100.data.cleaning import clean_split, join_train_and_val, salvage_lines, salvage_table
from epic100.data.pairs import read_pairs
from epic100.data.segment_list import (
    DropReason,
    is_damage,
    read_segments,
    reason_type,
    write_segments,
)
from epic100.video.index import write_indexes
from epic100.video.scan_table import ScanRow, write_scan_table
from epic100.video.sheet import Video
from support.lab import SHEET, VIDEOS, annotate, clean_lists
from support.scanned import index_at

# This is the rate of the sheet for most videos here.
FPS = 60000 / 1001


def annotated(*spans):
    """Annotations of segments, each given as (video_id, start_seconds, stop_seconds)."""
    table = pd.DataFrame(spans, columns=["video_id", "start_seconds", "stop_seconds"])
    numbers = np.arange(len(table))
    table["narration_id"] = [f"{name}_{i}" for i, name in enumerate(table["video_id"])]
    return table.assign(verb=numbers % 97, noun=numbers % 300)


def one_video(*spans):
    """Annotations and video sheet of a video of 100 s, with segments given as (start, stop)."""
    videos = {"P01_01": Video("P01_01", "P01", "train", FPS, 100.0)}
    return annotated(*[("P01_01", *span) for span in spans]), videos


def scanned(damaged=(), fps=FPS, pictures=6000, video_id="P01_01", **columns):
    """A row of the scan table, by video_id."""
    row = {"status": "damaged" if damaged else "ok", "damaged": damaged, "reason": "made so"}
    return {video_id: ScanRow(video_id, fps=fps, pictures=pictures, **row | columns)}


def run(table, videos, scan_rows, policy="segment", **indexes):
    """The kept segments, the dropped ones with their `reason`, and a line per re-timed video."""
    segments = index_segments(table, videos)
    found, retimed = clean_split(segments, videos, scan_rows, indexes.__getitem__)
    found["reason"] = found[policy]
    is_kept = found["reason"] == ""
    return found[is_kept], found[~is_kept], retimed


def random_split(seed):
    """Annotations, sheet and scan table of 8 videos, with random damage and random segments."""
    rng = np.random.default_rng(seed)
    videos, scan_rows, spans = {}, {}, []
    for number in range(8):
        video_id = f"P{number:02d}_{rng.choice(['01', '101'])}"
        fps = float(rng.choice([FPS, 50.0, FPS / 2]))
        videos[video_id] = Video(video_id, video_id[:3], "train", fps, duration=40.0)
        pictures = int(40 * fps) - int(rng.integers(0, 30))
        edges = np.unique(rng.integers(0, pictures + 1, 2 * rng.integers(0, 5))).tolist()
        damaged = list(zip(edges[::2], edges[1::2], strict=False))
        scan_rows |= scanned(damaged, fps, pictures, video_id)
        # Some segments start after the video's end.
        for start in np.round(rng.uniform(0, 41, 40), 2):
            spans.append((video_id, start, start + round(rng.exponential(1.5) + 0.01, 2)))
    last_id = list(videos)[-1]
    scan_rows[last_id] = ScanRow(last_id, "missing", reason="no file")
    return annotated(*[spans[i] for i in rng.permutation(len(spans))]), videos, scan_rows


def kept_frames(segment, row, policy):
    """The frames [start, stop) that are kept, or None, found frame by frame."""
    damaged = {frame for start, stop in row.damaged for frame in range(start, stop)}
    frames = [frame for frame in range(segment.start, segment.stop) if frame < row.pictures]
    if row.status == "missing" or (policy == "video" and row.status == "damaged"):
        return None
    return None if not frames or damaged & set(frames) else (frames[0], frames[-1] + 1)


@pytest.mark.parametrize("policy", ["segment", "video"])
@pytest.mark.parametrize("seed", range(6))
def test_each_frame_decides_what_is_kept(seed, policy):
    table, videos, scan_rows = random_split(seed)
    kept, dropped, retimed = run(table, videos, scan_rows, policy)
    expected = {}
    for segment in index_segments(table, videos).itertuples():
        frames = kept_frames(segment, scan_rows[segment.narration_id.rpartition("_")[0]], policy)
        if frames:
            expected[segment.narration_id] = (*frames, segment.verb, segment.noun)
    found = kept.set_index("narration_id")[["start", "stop", "verb", "noun"]]
    assert list(found.itertuples(name=None)) == [(name, *row) for name, row in expected.items()]
    assert set(dropped["narration_id"]) == set(table["narration_id"]) - set(expected)
    assert len(dropped) > 20 and not retimed


def test_the_drop_reason_names_the_damaged_frames():
    table, videos = one_video((1, 2), (9, 11), (29, 31), (99.9, 100.2), (101, 102))
    rows = scanned([(10, 20), (598, 600), (1800, 1801), (5990, 6000)])
    kept, dropped, _ = run(table, videos, rows)
    assert kept["narration_id"].tolist() == ["P01_01_0"]
    assert dropped.set_index("narration_id")["reason"].to_dict() == {
        "P01_01_1": "touches damaged frames 598-600 (made so)",
        "P01_01_2": "touches damaged frames 1800-1801 (made so)",
        "P01_01_3": "touches damaged frames 5990-6000 (made so)",
        "P01_01_4": "starts after the video's end (frame 6000)",
    }


@pytest.mark.parametrize("fps", [30.0, 25.0, FPS / 2, 90.0, 59.0])
def test_another_rate_than_the_sheet_times_again(fps):
    # The video lasts 100 s, so all 30 segments of 0.75 s end in it.
    starts = np.round(np.random.default_rng(0).uniform(0, 99, 30), 2)
    table, videos = one_video(*[(start, start + 0.75) for start in starts])
    kept, dropped, retimed = run(table, videos, scanned(fps=fps, pictures=int(100 * fps)))
    start, stop = frames_between(table["start_seconds"], table["stop_seconds"], fps)
    assert kept["start"].tolist() == start.tolist() and kept["stop"].tolist() == stop.tolist()
    assert dropped.empty
    assert retimed == [
        f"P01_01: 30 segments re-timed, the file has {fps:.4f} fps, the sheet says {FPS:.4f}"
    ]


@pytest.mark.parametrize("damaged, kept", [((650, 660), 1), ((299, 300), 0)])
def test_damage_is_compared_with_frames_timed_again(damaged, kept):
    # The segment has frames 600-720 by the sheet, but 250-300 in the file of 25 fps.
    table, videos = one_video((10, 12))
    assert len(run(table, videos, scanned([damaged], fps=25.0, pictures=2500))[0]) == kept


# Over 100 s, 0.005 fps make half a frame.
@pytest.mark.parametrize("difference, retimed", [(0.004, 0), (-0.004, 0), (0.006, 1)])
def test_half_a_frame_of_drift_times_again(difference, retimed):
    table, videos = one_video((10, 12), (90, 91))
    assert len(run(table, videos, scanned(fps=FPS + difference))[2]) == retimed


def test_an_unmeasured_rate_is_that_of_the_sheet():
    table, videos = one_video((0, 1), (5, 6), (50, 60))
    # A scan gives the rate 0 if it can read too few frames to measure one: here frame 0 alone.
    scan_rows = scanned(damaged=[(1, 6000)], fps=0.0)
    kept, dropped, retimed = run(table, videos, scan_rows)
    assert kept.empty and not retimed
    assert (dropped["reason"] == "touches damaged frames 1-6000 (made so)").all()


def test_a_variable_rate_is_timed_by_the_index():
    times = np.cumsum(np.random.default_rng(0).integers(1, 9, 800))
    index = index_at(times, Fraction(1, 100))
    # The last segment is shorter than most steps from frame to frame.
    table, videos = one_video((0.5, 1.25), (7, 9), (20, 20.01))
    scan_rows = scanned(fps=index.fps, pictures=800, timing="variable")
    kept, dropped, retimed = run(table, videos, scan_rows, P01_01=index)
    start, stop = index.frames_between(table["start_seconds"], table["stop_seconds"])
    assert kept["start"].tolist() == start.tolist() and kept["stop"].tolist() == stop.tolist()
    assert dropped.empty
    assert retimed == ["P01_01: 3 segments re-timed, its frames are not evenly spaced"]


def test_a_segment_needs_a_scan_of_its_video():
    with pytest.raises(EpicError, match="video P01_01 is in the annotations, but no scan table"):
        run(*one_video((0, 1)), {})
    kept, dropped, retimed = run(*one_video(), {})
    assert kept.empty and dropped.empty and not retimed


def test_the_salvage_table_counts_by_participant():
    excluded = DropReason.EXCLUDED.sentence("exclude")
    touches = "touches damaged frames 1-2 (x)"
    columns = ["path", "segment", "video"]
    # Each row is a segment, with the reasons for which the two policies drop it; "" keeps it.
    rows = [
        ("P22/P22_01.MP4", touches, "video damaged: x"),
        *[("P22/P22_01.MP4", "", "video damaged: x")] * 4,
        *[("P22/P22_02.MP4", "", "video damaged: x")] * 3,
        ("P22/P22_02.MP4", "video missing", "video missing"),
        ("P22/P22_02.MP4", excluded, excluded),
        ("K_1/01.MP4", "video missing", "video missing"),
        ("K_1/01.MP4", "", ""),
        ("P02/P02_01.MP4", excluded, excluded),
    ]
    table = salvage_table(pd.DataFrame(rows, columns=columns), unsure={"P22_02", "P02_01"})
    both_reasons = "video missing, participant left out by the config"
    # The counts are: annotated, kept by segment and by video, decoder only, left out.
    assert table.to_dict("split")["data"] == [
        ["K_1", 2, 1, 1, 0, 1, "video missing"],
        ["P02", 1, 0, 0, 0, 1, "participant left out by the config"],
        ["P22", 10, 7, 0, 3, 2, both_reasons],
    ]
    assert salvage_lines(table) == [
        "P22: 7 of 8 segments kept (policy segment); dropping complete videos would keep 0",
        "K_1: 1 of 2 segments left out: video missing",
        "P02: 1 of 1 segments left out: participant left out by the config",
        f"P22: 2 of 10 segments left out: {both_reasons}",
        "all: 8 of 13 segments kept; dropping complete videos would keep 1",
        "3 of the segments kept are of videos judged by their decoder only: spoilt bits may go "
        "unseen",
    ]


@pytest.mark.parametrize(
    "participants, last", [(6, []), (8, ["... and 2 participants more, in dropped.tsv"])]
)
def test_the_log_names_six_absent_participants(participants, last):
    rows = [(f"P0{i}/P0{i}_01.MP4", *["video missing"] * 2) for i in range(participants)]
    lines = salvage_lines(salvage_table(pd.DataFrame(rows, columns=["path", "segment", "video"])))
    named = [f"P0{i}: 1 of 1 segments left out: video missing" for i in range(6)]
    assert lines[:-1] == named + last


# Older dropped.tsv files hold these sentences, so they must not change.
SENTENCES = [
    (
        DropReason.EXCLUDED,
        ["exclude"],
        "participant left out by the config (participants: exclude)",
        False,
    ),
    (DropReason.VIDEO_MISSING, ["no file a.MP4"], "video missing", False),
    (DropReason.VIDEO_UNREADABLE, ["no {}"], "video unreadable: no {}", True),
    (DropReason.VIDEO_DAMAGED, ["3 errors"], "video damaged: 3 errors", True),
    (
        DropReason.HELD_BACK,
        ["P01_02", "it lasts 5 s"],
        "video held back: P01_02: it lasts 5 s; to take it: `videos: accept: [P01_02]`",
        True,
    ),
    (DropReason.AFTER_THE_END, [70], "starts after the video's end (frame 70)", True),
    (DropReason.DAMAGED_FRAMES, [3, 9, "x (1)"], "touches damaged frames 3-9 (x (1))", True),
]


@pytest.mark.parametrize(
    "reason, details, sentence, is_harm",
    [pytest.param(*row, id=row[0].name) for row in SENTENCES],
)
def test_a_reason_is_recognized_by_its_sentence(reason, details, sentence, is_harm):
    assert reason.sentence(*details) == sentence
    assert reason_type(sentence) == reason_type(reason.reason_type) == reason.reason_type
    assert is_damage(sentence) == is_damage(reason.reason_type) == is_harm
    unknown = "bitten by a dog 3 times"
    assert is_damage(unknown) and reason_type(unknown) == unknown


class Kitchen:
    """A folder with the mini kitchen's annotations and segment lists, and made-up scan tables.

    Attributes:
        rows: Rows of the scan tables by video_id; at first every video is undamaged.
        segments: The segment lists of train and val.
        lists: Their clean lists.
    """

    def __init__(self, folder):
        self.folder = folder
        self.annotations = annotate(SHEET, folder, folder, seed=5)
        self.segments = {split: str(folder / f"segments/{split}.txt") for split in self.annotations}
        self.lists = {split: str(folder / f"clean/{split}.txt") for split in self.annotations}
        self.rows = {}
        for name, video in VIDEOS.items():
            count = round(video.duration * video.fps)
            self.rows[name] = ScanRow(name, "ok", video.fps, count, pictures=count)

    def clean(self, policy="segment", accept=(), **participants):
        """Write the scan tables and clean; return the dropped segments, with their video_id."""
        for participant in {VIDEOS[name].participant_id for name in self.rows}:
            table = self.folder / f"scan/{participant}.tsv"
            rows = [r for i, r in self.rows.items() if VIDEOS[i].participant_id == participant]
            write_scan_table(rows, table)
            write_indexes({}, table.with_suffix(".index.npz"))
        clean_lists(SHEET, self.annotations, self.folder, policy, accept, **participants)
        dropped = pd.read_csv(self.folder / "clean/dropped.tsv", sep="\t")
        video_ids = dropped["narration_id"].str.replace(r"_\d+$", "", regex=True)
        return dropped.assign(video_id=video_ids)


@pytest.fixture
def kitchen(tmp_path):
    return Kitchen(tmp_path)


def test_every_segment_is_kept_or_has_a_reason(kitchen, caplog):
    kitchen.rows["P01_02"] = ScanRow("P01_02", "missing", reason="no file videos/P01/P01_02.MP4")
    kitchen.rows["P05_102"] = ScanRow("P05_102", "unreadable", reason="cannot open: Invalid data")
    damage = {"damaged": [(500, 1000)], "reason": "9 packets do not decode", "pictures": 3000}
    kitchen.rows["P06_101"] = ScanRow("P06_101", "damaged", 50.0, 2500, **damage)
    dropped = kitchen.clean(policy="video")
    for split, path in kitchen.segments.items():
        kept_ids = read_segments(kitchen.lists[split])["narration_id"].tolist()
        dropped_ids = dropped[dropped["split"] == split]["narration_id"].tolist()
        assert sorted(kept_ids + dropped_ids) == sorted(read_segments(path)["narration_id"])
        counts = f"{split}: {len(kept_ids)} segments kept, {len(dropped_ids)} dropped"
        assert counts in caplog.text
        # The last line, which the screen shows, has the counts of all splits.
        counts = f"{split} {len(kept_ids)} kept, {len(dropped_ids)} dropped"
        assert counts in caplog.messages[-1]
    assert caplog.messages[-1].endswith("clean/dropped.tsv has the reasons)")
    assert dict(zip(dropped["video_id"], dropped["reason"], strict=True)) == {
        "P01_02": "video missing",
        "P05_102": "video unreadable: cannot open: Invalid data",
        "P06_101": "video damaged: 9 packets do not decode",
    }
    missing = (dropped["video_id"] == "P01_02").sum()
    assert f"  {missing} dropped: video missing\n" in caplog.text


def test_an_empty_train_list_is_an_error(kitchen, caplog):
    for video in VIDEOS.values():
        if video.split == "train":
            kitchen.rows[video.video_id] = ScanRow(video.video_id, "missing", reason="no file")
    with pytest.raises(EpicError, match=r"no labelled train segment is left .*`videos: root:`"):
        kitchen.clean()
    assert "train: 0 segments kept" in caplog.text and "dropped: video missing" in caplog.text
    # No clean list and no table is written.
    assert not (kitchen.folder / "clean").exists()


@pytest.mark.parametrize("policy", ["segment", "video"])
def test_a_finding_holds_a_video_back(policy, kitchen):
    finding = "its frames last 55.00 s, the sheet says 60.00 s"
    kitchen.rows["P01_02"] = replace(kitchen.rows["P01_02"], finding=finding)
    dropped = kitchen.clean(policy)
    assert set(dropped["reason"]) == {
        f"video held back: P01_02: {finding}; to take it: `videos: accept: [P01_02]`"
    }
    assert set(dropped["video_id"]) == {"P01_02"}
    assert kitchen.clean(policy, accept=["P01_02"]).empty


def test_unknown_ids_and_lists_without_seconds_are_rejected(kitchen):
    with pytest.raises(EpicError, match=r"config: videos.accept names P01_2; expected ids"):
        kitchen.clean(accept=["P01_2"])
    path = Path(kitchen.segments["val"])
    write_segments(read_segments(path).drop(columns="start_seconds"), path)
    with pytest.raises(EpicError, match=r"val\.txt: segments without seconds; .*snakemake -R"):
        kitchen.clean()
    assert not Path(kitchen.lists["val"]).exists()


def test_trainval_has_both_lists_and_their_pairs(kitchen, caplog):
    kitchen.clean()
    out, pairs = kitchen.folder / "trainval.txt", kitchen.folder / "trainval_pairs.tsv"
    join_train_and_val(kitchen.lists["train"], kitchen.lists["val"], out, pairs)
    lists = [Path(path) for path in kitchen.lists.values()]
    assert out.read_text() == "".join(path.read_text() for path in lists)
    segments = pd.concat(map(read_segments, lists))
    counts = segments.groupby(["verb", "noun"]).size()
    assert read_pairs(pairs) == [(*pair, count) for pair, count in counts.items()]
    # Val has pairs that are not in train.
    assert len(counts) > len(read_pairs(kitchen.folder / "clean/pairs.tsv"))
    words = f"{len(segments)} segments, {len(counts)} verb-noun pairs in train and val"
    assert words in caplog.text


def test_participants_left_out_or_absent_are_dropped(kitchen):
    left_out, absent, *others = sorted({video.participant_id for video in VIDEOS.values()})
    kitchen.rows = {i: r for i, r in kitchen.rows.items() if VIDEOS[i].participant_id in others}
    dropped = kitchen.clean(include=[absent, *others], absent=[absent])
    reason_of_participant = {
        left_out: "participant left out by the config (participants: include)",
        absent: "video missing",
    }
    segments = pd.concat(map(read_segments, kitchen.segments.values()))
    # A path begins with the participant: `P01/P01_01.MP4`.
    reasons = segments["path"].str[:3].map(reason_of_participant)
    expected = dict(zip(segments["narration_id"], reasons, strict=True))
    found = dict(zip(dropped["narration_id"], dropped["reason"], strict=True))
    assert found == {name: reason for name, reason in expected.items() if pd.notna(reason)}
