import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
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
from support.lab import Lab
from support.tables import rows_of
from support.this_process import records_of

pytestmark = pytest.mark.slow

DECODERS = ("PyAV", "Decord") if importlib.util.find_spec("decord") else ("PyAV",)


class Kitchen:
    """P01's train segments of the lab, and a folder for their clips."""

    def __init__(self, lab: Lab, folder: Path):
        self.videos = [v for v in lab.videos.values() if v.participant_id == "P01"]
        self.results, self.root = Path(lab.results), Path(lab.root)
        self.segments = folder / "train.txt"
        lines = (self.results / "clean/train.txt").read_text().splitlines(keepends=True)
        self.segments.write_text("".join(line for line in lines if line.startswith("P01/P01_01")))
        self.table = folder / "clips/train/P01.tsv"
        self.orders = Orders(folder / "orders", cut_clips)

    def cut(self, height=48, stall=60.0, root=None):
        settings = {"clips": {"height": height, "crf": 30}, "scan": {"stall_seconds": stall}}
        inputs = {"segments": self.segments, "index": self.results / "scan/P01.index.npz"}
        options = inputs | {"settings": read_settings(settings), "cut": self.orders.function}
        with records_of("epic100.proxy.precut") as self.lines:
            return cut_participant(self.videos, root or self.root, self.table, **options)

    def clips(self) -> dict[str, tuple[bytes, int]]:
        """The bytes and the time of change of each clip, by the name of the clip."""
        found = self.table.with_suffix("").glob("*")
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.fixture
def kitchen(lab, tmp_path):
    """The segments and the folder before any clip is cut."""
    return Kitchen(lab, tmp_path)


@pytest.fixture(scope="module")
def first(lab, tmp_path_factory):
    """The folder with the clips that are cut, and their rows."""
    folder = tmp_path_factory.mktemp("first")
    return folder, Kitchen(lab, folder).cut()


@pytest.fixture
def cut(kitchen, first, tmp_path):
    """The segments and the folder after all clips are cut."""
    folder, _ = first
    shutil.copytree(folder / "clips", tmp_path / "clips")
    return kitchen


def test_a_participant_gets_a_clip_and_a_row_for_each_segment_and_keeps_them(cut, first, tmp_path):
    rows, listed, clips = first[1], read_segments(cut.segments), cut.clips()
    assert [row[0] for row in rows] == listed["narration_id"].tolist()
    assert [row[1] for row in rows] == (listed["stop"] - listed["start"]).tolist()
    assert list(clips) and set(clips) == {f"{row[0]}.mp4" for row in rows}
    assert [row[2] for row in rows] == [len(clips[f"{row[0]}.mp4"][0]) for row in rows]
    assert [row["reason"] for row in rows_of(cut.table)] == [""] * len(rows)
    # The same bytes elsewhere, and of another time, are the same video.
    moved = shutil.copytree(cut.root, tmp_path / "moved")
    os.utime(moved / "P01/P01_01.MP4")
    for root in (cut.root, moved):
        assert cut.cut(root=root) == rows and "0 videos worked on now" in cut.lines[-1]
    assert cut.clips() == clips and cut.orders.runs() == []


def test_other_settings_or_a_spoilt_clip_are_made_anew(cut):
    before, folder = cut.clips(), cut.table.with_suffix("")
    gone, short, none, *others = sorted(before)
    (folder / gone).unlink()
    (folder / short).write_bytes(before[short][0][:-5])
    (folder / none).write_bytes(b"no video")
    cut.cut()
    now = cut.clips()
    assert all((now[name] == before[name]) == (name in others) for name in before)
    assert all(len(now[name][0]) == len(before[name][0]) for name in before)
    cut.cut(height=32)
    assert all(clip[1] != now[name][1] for name, clip in cut.clips().items())


def test_a_decoder_that_hangs_and_damage_that_no_scan_saw_cost_only_their_segments(
    kitchen, tmp_path
):
    damaged = shutil.copytree(kitchen.root, tmp_path / "damaged")
    zero_block(damaged / "P01/P01_01.MP4", 0.5, 3000)
    rows = kitchen.cut(root=damaged)
    gone = [row for row in rows if row[3]]
    assert 0 < len(gone) < len(rows)
    assert all("does not decode" in row[3] and row[2] == 0 for row in gone)
    assert set(kitchen.clips()) == {f"{row[0]}.mp4" for row in rows if not row[3]}
    assert f"{gone[0][0]}: no clip: {gone[0][3]}" in kitchen.lines
    out = kitchen.table.with_name("list.txt")
    write_list(kitchen.segments, kitchen.results / "clean/pairs.tsv", [kitchen.table], out)
    names = [line.split()[0] for line in out.read_text().splitlines()]
    assert names == [f"P01/{row[0]}.mp4" for row in rows if not row[3]]
    kitchen.orders.give("P01_01", "sleep")
    rows = kitchen.cut(height=32, root=damaged, stall=2.0)
    assert {row[3] for row in rows} == {"no progress in 2 s"}


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


def test_mmaction2s_own_dataset_reads_list_labels_and_frames(cut):
    pairs, out = cut.results / "clean/pairs.tsv", cut.table.with_name("list.txt")
    write_list(cut.segments, pairs, [cut.table], out)
    segments = read_segments(cut.segments).to_dict("records")
    classes, seen = [pair[:2] for pair in read_pairs(pairs)], []
    for decoder in DECODERS:
        dataset = VideoDataset(str(out), pipeline(decoder), {"video": str(out.parent)})
        assert len(dataset) == len(segments)
        for number, row in enumerate(segments):
            item = dataset[number]
            assert classes[int(item["data_samples"].gt_label)] == (row["verb"], row["noun"])
            assert item["data_samples"].total_frames == row["stop"] - row["start"]
            seen.append(item["inputs"].numpy().astype(float))
    assert all(clip.shape == (1, 3, 4, 64, 64) and np.ptp(clip) > 50 for clip in seen)
    for one, other in zip(seen, seen[len(segments) :], strict=False):
        assert np.abs(one - other).mean() < 2


def test_a_pair_that_train_lacks_has_no_label_and_a_segment_without_a_row_is_an_error(
    cut, first, tmp_path
):
    write_pairs(pair_table(pd.DataFrame({"verb": [96], "noun": [299]})), tmp_path / "pairs.tsv")
    write_list(cut.segments, tmp_path / "pairs.tsv", [cut.table], tmp_path / "list.txt")
    lines = (tmp_path / "list.txt").read_text().splitlines()
    assert lines == [f"P01/{row[0]}.mp4 -1" for row in first[1]]
    with pytest.raises(EpicError, match="P01_01_0 is in no table of clips; expected its video"):
        write_list(cut.segments, tmp_path / "pairs.tsv", [], tmp_path / "list.txt")


def test_the_rules_cut_a_split_on_request_and_leave_the_rest_of_the_run_alone(
    clean_archive, tmp_path
):
    folder = clean_archive(tmp_path)
    assert set(jobs(run(folder, "results/clips/val/list.txt"))) == {"clips", "clips_list"}
    lines = [line.split() for line in (folder / "results/clips/val/list.txt").open()]
    segments = read_segments(folder / "results/clean/val.txt")
    ids = zip(segments["path"], segments["narration_id"], strict=True)
    names = [f"{Path(path).parent}/{name}.mp4" for path, name in ids]
    assert names and [name for name, _ in lines] == names
    assert all((folder / "results/clips/val" / name).is_file() for name in names)
    rest = jobs(run(folder, "all", "results/clips/val/list.txt", "-n"))
    assert "train" in rest and not {"clips", "clips_list", "clean"} & set(rest), (
        "nothing is made again, and clips of train and test are not of `all`"
    )
