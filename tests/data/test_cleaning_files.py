"""The complete rule clean: it reads segment lists and scan tables, and writes clean lists."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.data.cleaning import join_train_and_val
from epic100.data.pairs import read_pairs
from epic100.data.segment_list import read_segments, write_segments
from epic100.video.index import write_indexes
from epic100.video.scan_table import ScanRow, write_scan_table
from support.lab import SHEET, VIDEOS, annotate, clean_lists


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


def test_every_segment_is_in_its_clean_list_or_in_dropped_tsv_with_a_reason(kitchen, caplog):
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


def test_a_train_list_that_would_be_empty_is_an_error_after_its_reasons(kitchen, caplog):
    for video in VIDEOS.values():
        if video.split == "train":
            kitchen.rows[video.video_id] = ScanRow(video.video_id, "missing", reason="no file")
    with pytest.raises(EpicError, match=r"no labelled train segment is left .*`videos: root:`"):
        kitchen.clean()
    assert "train: 0 segments kept" in caplog.text and "dropped: video missing" in caplog.text
    # No clean list and no table is written.
    assert not (kitchen.folder / "clean").exists()


@pytest.mark.parametrize("policy", ["segment", "video"])
def test_a_video_with_a_finding_is_held_back_until_the_config_accepts_it(policy, kitchen):
    finding = "its frames last 55.00 s, the sheet says 60.00 s"
    kitchen.rows["P01_02"] = replace(kitchen.rows["P01_02"], finding=finding)
    dropped = kitchen.clean(policy)
    assert set(dropped["reason"]) == {
        f"video held back: P01_02: {finding}; to take it: `videos: accept: [P01_02]`"
    }
    assert set(dropped["video_id"]) == {"P01_02"}
    assert kitchen.clean(policy, accept=["P01_02"]).empty


def test_an_unknown_video_to_accept_is_refused(kitchen):
    with pytest.raises(EpicError, match=r"config: videos.accept names P01_2; expected ids"):
        kitchen.clean(accept=["P01_2"])


def test_a_segment_list_without_seconds_is_refused(kitchen):
    path = Path(kitchen.segments["val"])
    write_segments(read_segments(path).drop(columns="start_seconds"), path)
    with pytest.raises(EpicError, match=r"val\.txt: segments without seconds; .*snakemake -R"):
        kitchen.clean()
    assert not Path(kitchen.lists["val"]).exists()


def test_trainval_has_the_segments_of_both_lists_and_their_pairs(kitchen, caplog):
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


def test_segments_of_participants_left_out_or_without_videos_are_dropped_with_the_reason(kitchen):
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
