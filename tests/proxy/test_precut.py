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
from epic100.segments.pairs import write_pairs
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
        self.index = self.results / "scan/P01.index.npz"
        self._orders = Orders(folder / "orders", cut_clips)

    def order(self, what: str) -> None:
        self._orders.give("P01_01", what)

    def cut(self, height=48, stall=60.0, root=None):
        settings = {"clips": {"height": height, "crf": 30}, "scan": {"stall_seconds": stall}}
        with records_of("epic100.proxy.precut") as self.lines:
            return cut_participant(
                self.videos, root or self.root, self.table, segments=self.segments,
                index=self.index, settings=read_settings(settings), cut=self._orders.function,
            )  # fmt: skip

    def clips(self) -> dict[str, tuple[bytes, int]]:
        """Bytes and time of change of each clip, by name."""
        found = self.table.with_suffix("").glob("*")
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.fixture
def kitchen(lab, tmp_path):
    """Nothing is cut."""
    return Kitchen(lab, tmp_path)


@pytest.fixture(scope="module")
def first(lab, tmp_path_factory):
    """The folder of what is cut, and its rows."""
    folder = tmp_path_factory.mktemp("first")
    return folder, Kitchen(lab, folder).cut()


@pytest.fixture
def cut(kitchen, first, tmp_path):
    """All is cut."""
    shutil.copytree(first[0] / "clips", tmp_path / "clips")
    return kitchen


def test_a_participant_gets_a_clip_and_a_row_for_each_segment_and_keeps_them(cut, first, tmp_path):
    rows = first[1]
    listed = read_segments(cut.segments)
    assert [row[0] for row in rows] == listed["narration_id"].tolist()
    assert [row[1] for row in rows] == (listed["stop"] - listed["start"]).tolist()
    clips = cut.clips()
    assert list(clips) and set(clips) == {f"{row[0]}.mp4" for row in rows}
    assert [row[2] for row in rows] == [len(clips[f"{row[0]}.mp4"][0]) for row in rows]
    assert [row["reason"] for row in rows_of(cut.table)] == [""] * len(rows)
    # The order would make a cut hang, but nothing is left to cut.
    cut.order("sleep")
    assert cut.cut() == rows and "0 videos worked on now" in cut.lines[-1]
    moved = tmp_path / "moved"
    # The copied files keep their times.
    shutil.copytree(cut.root, moved)
    assert cut.cut(root=moved) == rows
    assert cut.clips() == clips


@pytest.mark.parametrize("order, words", [
    ("get:SIGKILL", r"its process was ended from outside \(SIGKILL\).*or wait for a free machine"),
    ("find_the_disk_full", "make room, or wait for a free machine"),
])  # fmt: skip
def test_a_fault_of_the_machine_is_one_line_and_the_next_run_makes_only_the_rest(order, words, cut):
    first = cut.clips()
    lost = cut.table.with_suffix("") / min(first)
    lost.unlink()
    cut.table.unlink()
    cut.order(order)
    with pytest.raises(EpicError, match=f"^[^\n]*{words}[^\n]*$"):
        cut.cut()
    assert not cut.table.exists() and not lost.exists()
    cut.cut()
    assert {**cut.clips(), lost.name: first[lost.name]} == first and lost.exists()


def test_other_settings_or_a_spoilt_clip_are_made_anew_and_a_moved_video_is_not(cut, tmp_path):
    before = cut.clips()
    short, none, *others = sorted(before)
    for name, content in ((short, before[short][0][:-5]), (none, b"no video")):
        (cut.table.with_suffix("") / name).write_bytes(content)
    cut.cut()
    now = cut.clips()
    assert all((now[name] == before[name]) == (name in others) for name in before)
    assert all(len(now[name][0]) == len(before[name][0]) for name in before)
    cut.cut(height=32)
    small = cut.clips()
    assert all(small[name][1] != now[name][1] for name in now)
    moved = tmp_path / "moved"
    shutil.copytree(cut.root, moved)
    os.utime(moved / "P01/P01_01.MP4")
    cut.cut(height=32, root=moved)
    assert cut.clips() == small, "the same bytes elsewhere, and of another time"


def test_a_decoder_that_hangs_and_damage_that_no_scan_saw_cost_only_their_segments(
    kitchen, tmp_path
):
    damaged = tmp_path / "damaged"
    shutil.copytree(kitchen.root, damaged)
    zero_block(damaged / "P01/P01_01.MP4", 0.5, 3000)
    rows = kitchen.cut(root=damaged)
    gone = [row for row in rows if row[3]]
    assert 0 < len(gone) < len(rows)
    assert all("does not decode" in row[3] and row[2] == 0 for row in gone)
    assert set(kitchen.clips()) == {f"{row[0]}.mp4" for row in rows if not row[3]}, "of no settings"
    assert f"{gone[0][0]}: no clip: {gone[0][3]}" in kitchen.lines
    out = kitchen.table.with_name("list.txt")
    write_list(kitchen.segments, kitchen.results / "clean/pairs.tsv", [kitchen.table], out)
    names = [line.split()[0] for line in out.read_text().splitlines()]
    assert names == [f"P01/{row[0]}.mp4" for row in rows if not row[3]]
    kitchen.order("sleep")
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


def test_mmaction2s_own_dataset_reads_list_labels_and_frames(cut, first, tmp_path):
    pairs, out = cut.results / "clean/pairs.tsv", cut.table.with_name("list.txt")
    segments = read_segments(cut.segments)
    table = pd.read_csv(pairs, sep="\t")
    own = (table[["verb", "noun"]] == segments.loc[0, ["verb", "noun"]]).all(axis=1)
    write_pairs(table[~own], tmp_path / "pairs.tsv")
    write_list(cut.segments, tmp_path / "pairs.tsv", [cut.table], out)
    assert out.read_text().splitlines()[0] == f"P01/{first[1][0][0]}.mp4 -1"
    with pytest.raises(EpicError, match="P01_01_0 is in no table of clips; expected its video"):
        write_list(cut.segments, pairs, [], out)

    write_list(cut.segments, pairs, [cut.table], out)
    classes, seen = table[["verb", "noun"]].values.tolist(), []
    for decoder in DECODERS:
        dataset = VideoDataset(str(out), pipeline(decoder), {"video": str(out.parent)})
        assert len(dataset) == len(segments)
        for number, row in segments.iterrows():
            item = dataset[number]
            assert classes[int(item["data_samples"].gt_label)] == [row["verb"], row["noun"]]
            assert item["data_samples"].total_frames == row["stop"] - row["start"]
            seen.append(item["inputs"].numpy().astype(float))
    assert all(clip.shape == (1, 3, 4, 64, 64) and np.ptp(clip) > 50 for clip in seen)
    for one, other in zip(seen, seen[len(segments) :], strict=False):
        assert np.abs(one - other).mean() < 2


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
