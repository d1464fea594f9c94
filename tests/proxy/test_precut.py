"""The clips of a participant's segments, and the list of them that MMAction2 reads."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mmaction.datasets import VideoDataset

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import zero_block
from epic100.proxy.cutter import cut_clips
from epic100.proxy.precut import cut_participant, write_list
from epic100.segments.pairs import pair_table, read_pairs, write_pairs
from epic100.segments.segment_list import read_segments
from epic100.settings import read_settings
from support.archive import jobs, run
from support.bad_decoders import Orders
from support.checkout import needs_decord
from support.lab import Lab
from support.tables import rows_of
from support.this_process import records_of

pytestmark = pytest.mark.slow


class Kitchen:
    """Train segments of one of the lab's videos, P01_01, and a folder for their clips."""

    def __init__(self, lab: Lab, folder: Path):
        self.videos, self.folder = [lab.videos["P01_01"]], folder
        self.results, self.root = Path(lab.results), Path(lab.root)
        self.segments = folder / "train.txt"
        lines = (self.results / "clean/train.txt").read_text().splitlines(keepends=True)
        self.segments.write_text("".join(line for line in lines if line.startswith("P01/P01_01")))
        self.table = folder / "clips/train/P01.tsv"
        self.orders = Orders(folder / "orders", cut_clips)

    def cut(self, height=48, stall_seconds=60.0, root=None):
        """Cut the clips with an encoder that obeys `orders`, and return the rows of the table."""
        settings = {
            "clips": {"height": height, "crf": 30},
            "scan": {"stall_seconds": stall_seconds},
        }
        with records_of("epic100.proxy.precut") as self.log:
            return cut_participant(
                self.videos,
                root or self.root,
                self.table,
                segments=self.segments,
                index=self.results / "scan/P01.index.npz",
                settings=read_settings(settings),
                cut=self.orders.function,
            )

    def clips(self) -> dict[str, tuple[bytes, int]]:
        """The bytes and the time of change of each clip, by the name of the clip."""
        files = sorted(self.table.with_suffix("").glob("*"))
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    def listed(self, pairs: Path | None = None) -> list[str]:
        """Write the list of the clips, and return its lines."""
        out = self.table.with_name("list.txt")
        write_list(self.segments, pairs or self.results / "clean/pairs.tsv", [self.table], out)
        return out.read_text().splitlines()


@pytest.fixture(scope="module")
def first(lab, tmp_path_factory) -> Kitchen:
    """The segments and their clips, which no test may change."""
    kitchen = Kitchen(lab, tmp_path_factory.mktemp("first"))
    kitchen.rows = kitchen.cut()
    return kitchen


@pytest.fixture
def kitchen(lab, tmp_path) -> Kitchen:
    """The segments, before any clip is cut."""
    return Kitchen(lab, tmp_path)


@pytest.fixture
def cut(kitchen, first) -> Kitchen:
    """The segments and their clips, which a test may change."""
    shutil.copytree(first.folder / "clips", kitchen.folder / "clips")
    return kitchen


def test_each_segment_has_a_clip_and_a_row_of_the_table(first):
    segments, clips = read_segments(first.segments), first.clips()
    assert set(clips) == {f"{name}.mp4" for name in segments["narration_id"]}
    lengths = segments["stop"] - segments["start"]
    assert [(name, frames) for name, frames, _, _ in first.rows] == list(
        zip(segments["narration_id"], lengths, strict=True)
    )
    for name, _, size, reason in first.rows:
        assert size == len(clips[f"{name}.mp4"][0]) and reason == ""
    assert [row["narration_id"] for row in rows_of(first.table)] == [row[0] for row in first.rows]


def test_no_clip_is_cut_again_of_the_same_bytes_elsewhere(cut, first, tmp_path):
    before = cut.clips()
    moved = shutil.copytree(cut.root, tmp_path / "moved")
    os.utime(moved / "P01/P01_01.MP4")
    assert cut.cut(root=moved) == first.rows
    assert "0 videos worked on now" in cut.log[-1]
    assert cut.clips() == before and cut.orders.runs() == []


def test_only_missing_and_damaged_clips_are_cut_again(cut):
    before, folder = cut.clips(), cut.table.with_suffix("")
    missing, short, foreign, *others = sorted(before)
    (folder / missing).unlink()
    (folder / short).write_bytes(before[short][0][:-5])
    (folder / foreign).write_bytes(b"no video")
    cut.cut()
    after = cut.clips()
    assert [name for name in before if after[name] == before[name]] == others
    assert [len(after[name][0]) for name in before] == [len(before[name][0]) for name in before]


def test_all_clips_are_cut_again_with_other_settings(cut):
    before = cut.clips()
    cut.cut(height=32)
    assert all(clip != before[name] for name, clip in cut.clips().items())


def test_damage_that_the_scan_did_not_see_costs_only_its_segments(kitchen, tmp_path):
    damaged = shutil.copytree(kitchen.root, tmp_path / "damaged")
    zero_block(damaged / "P01/P01_01.MP4", 0.5, 3000)
    rows = kitchen.cut(root=damaged)
    failed = {name: reason for name, _, _, reason in rows if reason}
    assert 0 < len(failed) < len(rows)
    for name, reason in failed.items():
        assert "does not decode" in reason and f"{name}: no clip: {reason}" in kitchen.log
    made = [name for name, *_ in rows if name not in failed]
    assert sorted(kitchen.clips()) == sorted(f"{name}.mp4" for name in made)
    assert [line.split()[0] for line in kitchen.listed()] == [f"P01/{name}.mp4" for name in made]


def test_a_decoder_that_hangs_is_the_reason_for_the_missing_clips(kitchen):
    kitchen.orders.give("P01_01", "sleep")
    assert {row[3] for row in kitchen.cut(stall_seconds=2.0)} == {"no progress in 2 s"}


def pipeline(decoder: str) -> list[dict]:
    """MMAction2's own steps from a file to a clip of four frames, from its first one on."""
    return [
        {"type": f"mmaction.{decoder}Init"},
        {"type": "mmaction.SampleFrames", "clip_len": 4, "frame_interval": 9, "test_mode": True},
        {"type": f"mmaction.{decoder}Decode"},
        {"type": "mmaction.Resize", "scale": (-1, 64)},
        {"type": "mmaction.CenterCrop", "crop_size": 64},
        {"type": "mmaction.FormatShape", "input_format": "NCTHW"},
        {"type": "mmaction.PackActionInputs", "meta_keys": ("total_frames",)},
    ]


@pytest.mark.parametrize("decoder", ["PyAV", pytest.param("Decord", marks=needs_decord)])
def test_the_dataset_of_mmaction2_reads_labels_and_frames_of_the_list(decoder, cut):
    lines, segments = cut.listed(), read_segments(cut.segments).to_dict("records")
    assert len(lines) == len(segments)
    pairs = read_pairs(cut.results / "clean/pairs.tsv")
    folder = cut.table.parent
    dataset = VideoDataset(str(folder / "list.txt"), pipeline(decoder), {"video": str(folder)})
    for number, segment in enumerate(segments):
        item = dataset[number]
        sample = item["data_samples"]
        assert pairs[int(sample.gt_label)][:2] == (segment["verb"], segment["noun"])
        assert sample.total_frames == segment["stop"] - segment["start"]
        assert item["inputs"].shape == (1, 3, 4, 64, 64) and item["inputs"].float().std() > 5


def test_a_pair_that_is_not_in_train_has_the_label_minus_1_and_is_reported(cut, first, tmp_path):
    other_pair = pd.DataFrame({"verb": [96], "noun": [299]})
    write_pairs(pair_table(other_pair), tmp_path / "pairs.tsv")
    with records_of("epic100.proxy.precut") as lines:
        assert cut.listed(tmp_path / "pairs.tsv") == [f"P01/{row[0]}.mp4 -1" for row in first.rows]
        assert f"{len(first.rows)} of them have the label -1" in lines[-1]
        cut.listed()
    assert "of them have the label -1" not in lines[-1]


def test_a_segment_that_is_in_no_table_of_clips_is_an_error(kitchen, tmp_path):
    pairs = kitchen.results / "clean/pairs.tsv"
    with pytest.raises(EpicError, match="P01_01_0 is in no table of clips; expected its video"):
        write_list(kitchen.segments, pairs, [], tmp_path / "list.txt")


def test_the_rules_cut_the_clips_of_a_split_and_make_nothing_else_again(clean_archive, tmp_path):
    folder = clean_archive(tmp_path)
    assert set(jobs(run(folder, "results/clips/val/list.txt"))) == {"clips", "clips_list"}
    clips = [line.split()[0] for line in (folder / "results/clips/val/list.txt").open()]
    assert clips and all((folder / "results/clips/val" / clip).is_file() for clip in clips)
    ids = read_segments(folder / "results/clean/val.txt")["narration_id"].tolist()
    assert [Path(clip).stem for clip in clips] == ids
    # A dry run (-n) lists the jobs that would be run now.
    planned = jobs(run(folder, "all", "results/clips/val/list.txt", "-n"))
    # The clips of train and test are not made for `all`.
    assert "train" in planned and planned.keys().isdisjoint({"clips", "clips_list", "clean"})
