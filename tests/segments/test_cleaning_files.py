"""The rule clean as a whole: files in, files out."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.segments.cleaning import join_train_and_val
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_segments, write_segments
from epic100.video.index_file import write_indexes
from epic100.video.scan_table import ScanRow, write_scan_table
from support.lab import SHEET, VIDEOS, annotate, clean_lists

CSV = ("train", "val")


class Kitchen:
    """A folder with the mini kitchen's CSVs, segment lists and made-up scan tables."""

    def __init__(self, folder):
        self.folder = folder
        self.annotations = annotate(SHEET, folder, folder, seed=5)
        self.segments = {split: str(folder / f"segments/{split}.txt") for split in self.annotations}
        self.lists = {split: str(folder / f"clean/{split}.txt") for split in self.annotations}
        counts = {name: round(video.duration * video.fps) for name, video in VIDEOS.items()}
        self.rows = {
            name: ScanRow(name, "ok", VIDEOS[name].fps, count, pictures=count)
            for name, count in counts.items()
        }

    def clean(self, policy="segment", accept=(), **who):
        for participant in sorted({VIDEOS[name].participant_id for name in self.rows}):
            table = self.folder / f"scan/{participant}.tsv"
            rows = [r for i, r in self.rows.items() if VIDEOS[i].participant_id == participant]
            write_scan_table(rows, table)
            write_indexes({}, table.with_suffix(".index.npz"))
        clean_lists(SHEET, self.annotations, self.folder, policy, accept, **who)

    def results(self):
        return sorted(path.name for path in (self.folder / "clean").glob("*"))

    def dropped(self):
        return pd.read_csv(self.folder / "clean/dropped.tsv", sep="\t")


@pytest.fixture
def kitchen(tmp_path):
    return Kitchen(tmp_path)


def test_every_segment_is_in_its_clean_list_or_among_the_dropped_with_a_reason(kitchen, caplog):
    kitchen.rows["P01_02"] = ScanRow("P01_02", "missing", reason="no file videos/P01/P01_02.MP4")
    kitchen.rows["P05_102"] = ScanRow("P05_102", "unreadable", reason="cannot open: Invalid data")
    damage = {"damaged": [(500, 1000)], "reason": "9 packets do not decode", "pictures": 3000}
    kitchen.rows["P06_101"] = ScanRow("P06_101", "damaged", 50.0, 2500, **damage)
    kitchen.clean("video")
    dropped = kitchen.dropped()
    for split in CSV:
        every, kept = (read_segments(p[split]) for p in (kitchen.segments, kitchen.lists))
        gone = dropped[dropped["split"] == split]["narration_id"]
        assert sorted([*kept["narration_id"], *gone]) == sorted(every["narration_id"])
        assert f"{split}: {len(kept)} segments kept, {len(gone)} dropped" in caplog.text
    reasons = dropped.groupby(dropped["narration_id"].str.rsplit("_", n=1).str[0])["reason"]
    assert reasons.unique().str[0].to_dict() == {
        "P01_02": "video missing",
        "P05_102": "video unreadable: cannot open: Invalid data",
        "P06_101": "video damaged: 9 packets do not decode",
    }
    assert f"  {reasons.size()['P01_02']} dropped: video missing\n" in caplog.text


def test_an_empty_clean_list_is_an_error_after_its_reasons_and_leaves_no_output(kitchen, caplog):
    for video in VIDEOS.values():
        if video.split == "train":
            kitchen.rows[video.video_id] = ScanRow(video.video_id, "missing", reason="no file")
    with pytest.raises(EpicError, match=r"no labelled train segment is left .*`videos: root:`"):
        kitchen.clean()
    assert "train: 0 segments kept" in caplog.text and "dropped: video missing" in caplog.text
    assert kitchen.results() == []


@pytest.mark.parametrize("policy", ["segment", "video"])
def test_a_video_in_doubt_is_held_back_until_the_config_accepts_it(policy, kitchen):
    said = "its pictures last 55.00 s, the sheet says 60.00 s"
    kitchen.rows["P01_02"] = replace(kitchen.rows["P01_02"], finding=said)
    kitchen.clean(policy)
    dropped = kitchen.dropped()
    assert set(dropped["reason"]) == {
        f"video held back: P01_02: {said}; to take it: `videos: accept: [P01_02]`"
    }
    assert set(dropped["narration_id"].str.rsplit("_", n=1).str[0]) == {"P01_02"}
    kitchen.clean(policy, accept=["P01_02"])
    assert kitchen.dropped().empty
    with pytest.raises(EpicError, match=r"config: videos.accept names P01_2; expected ids"):
        kitchen.clean(policy, accept=["P01_2"])


def test_a_segment_list_without_seconds_is_one_error(kitchen):
    path = Path(kitchen.segments["val"])
    write_segments(read_segments(path).drop(columns="start_seconds"), path)
    with pytest.raises(EpicError, match=r"val\.txt: segments without seconds; .*snakemake -R"):
        kitchen.clean()
    assert kitchen.results() == ["train.txt"]


def test_a_video_of_variable_rate_without_its_index_is_one_error(kitchen):
    kitchen.rows["P03_07"] = ScanRow("P03_07", "ok", 29.97, 1200, timing="variable", pictures=1200)
    with pytest.raises(EpicError, match=r"P03\.index\.npz: no frame index of P03_07; .*-R "):
        kitchen.clean()


def test_train_and_val_together_hold_every_segment_once_and_all_their_pairs(kitchen, caplog):
    kitchen.clean()
    train, val = (read_segments(kitchen.lists[split]) for split in CSV)
    out, pairs = kitchen.folder / "trainval.txt", kitchen.folder / "trainval_pairs.tsv"
    join_train_and_val(kitchen.lists["train"], kitchen.lists["val"], out, pairs)
    assert out.read_text() == "".join([Path(kitchen.lists[split]).read_text() for split in CSV])
    every = pd.concat([train, val]).groupby(["verb", "noun"]).size()
    assert read_pairs(pairs) == [(*pair, count) for pair, count in every.items()]
    only_train = {pair[:2] for pair in read_pairs(kitchen.folder / "clean/pairs.tsv")}
    # The val list has a pair that train lacks.
    assert only_train < set(every.index)
    words = f"{len(train) + len(val)} segments, {len(every)} verb-noun pairs in train and val"
    assert words in caplog.text


def test_segments_of_who_takes_no_part_and_of_who_has_no_video_go_with_the_reason(kitchen):
    out, absent, *rest = sorted({video.participant_id for video in VIDEOS.values()})
    kitchen.rows = {i: r for i, r in kitchen.rows.items() if VIDEOS[i].participant_id in rest}
    kitchen.clean(include=[absent, *rest], absent=[absent])
    reasons = {
        out: "participant left out by the config (participants: include)",
        absent: "video missing",
    }
    dropped = kitchen.dropped()
    segments = pd.concat(map(read_segments, kitchen.segments.values()))
    owner = dict(zip(segments["narration_id"], segments["path"].str[:3], strict=True))
    assert len(dropped) == sum(name in reasons for name in owner.values()) > 0
    for row in dropped.itertuples():
        assert row.reason == reasons[owner[row.narration_id]]
