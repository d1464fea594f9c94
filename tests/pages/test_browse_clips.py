"""The clips of the page: which are cut, which stay, and which segments have none."""

import os
import shutil
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.data.segment_list import read_segments, write_segments
from epic100.minikitchen.damage import zero_block
from epic100.pages.browse_clips import make_clips, read_clips
from epic100.pages.clip_cutter import cut_video
from epic100.settings.data import ScanLimits
from support.archive import jobs, run
from support.bad_decoders import Orders
from support.checkout import rows_of
from support.lab import Lab
from support.this_process import records_of

pytestmark = pytest.mark.slow


class Kitchen:
    """Segments of one of the lab's videos, P01_01, and a folder for their clips."""

    def __init__(self, lab: Lab, folder: Path):
        self.videos, self.folder = [lab.videos["P01_01"]], folder
        self.results, self.root = Path(lab.results), Path(lab.root)
        self.segments = read_segments(self.results / "clean/train.txt")
        self.segments = self.segments[self.segments["path"] == "P01/P01_01.MP4"]
        self.table = folder / "browse_clips/P01.tsv"
        self.orders = Orders(folder / "orders", cut_video)

    def cut(self, stall_seconds=60.0, root=None) -> dict[str, str]:
        """Cut the clips with a function that obeys `orders`; return why segments have none."""
        segments = self.folder / "val.txt"
        write_segments(self.segments, segments)
        with records_of("epic100.pages.browse_clips") as self.log:
            return make_clips(
                self.videos,
                root or self.root,
                self.table,
                segments=segments,
                index=self.results / "scan/P01.index.npz",
                limits=ScanLimits(stall_seconds=stall_seconds),
                cut=self.orders.function,
            )

    def files(self) -> dict[str, tuple[bytes, int]]:
        """The bytes and the time of change of each clip, by the name of the file."""
        files = sorted(self.table.with_suffix("").iterdir())
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def first(lab, tmp_path_factory) -> Kitchen:
    """The segments and their clips, which no test may change."""
    kitchen = Kitchen(lab, tmp_path_factory.mktemp("first"))
    assert kitchen.cut() == {}
    return kitchen


@pytest.fixture
def kitchen(lab, tmp_path) -> Kitchen:
    """The segments, before any clip is cut."""
    return Kitchen(lab, tmp_path)


@pytest.fixture
def cut(kitchen, first) -> Kitchen:
    """The segments and their clips, which a test may change."""
    shutil.copytree(first.folder / "browse_clips", kitchen.folder / "browse_clips")
    return kitchen


def test_each_segment_has_a_clip_and_row(first):
    names = first.segments["narration_id"].tolist()
    assert [row["narration_id"] for row in rows_of(first.table)] == names
    clips = read_clips([first.table])
    assert list(clips) == names
    assert sorted(path.name for path in clips.values()) == list(first.files())


def test_the_same_bytes_are_not_cut_again(cut, tmp_path):
    before = cut.files()
    moved = shutil.copytree(cut.root, tmp_path / "moved")
    os.utime(moved / "P01/P01_01.MP4")
    assert cut.cut(root=moved) == {}
    assert "0 videos worked on now" in cut.log[-1]
    assert cut.files() == before and cut.orders.runs() == []


def test_only_missing_clips_are_cut_again(cut):
    before, (missing, *_) = cut.files(), read_clips([cut.table]).values()
    missing.unlink()
    assert missing not in read_clips([cut.table]).values()
    cut.cut()
    after = cut.files()
    assert [name for name in before if after[name] != before[name]] == [missing.name]


def test_other_frames_replace_the_old_clip(cut):
    before, clips = cut.files(), read_clips([cut.table])
    name = cut.segments["narration_id"].iloc[0]
    cut.segments = cut.segments.assign(
        start=cut.segments["start"].where(
            cut.segments["narration_id"] != name, cut.segments["stop"] - 5
        )
    )
    cut.cut()
    assert before.keys() - cut.files().keys() == {clips[name].name}
    assert clips.items() - read_clips([cut.table]).items() == {(name, clips[name])}


def test_unseen_damage_costs_only_its_segments(kitchen, tmp_path):
    damaged = shutil.copytree(kitchen.root, tmp_path / "damaged")
    zero_block(damaged / "P01/P01_01.MP4", 0.5, 3000)
    reasons = kitchen.cut(root=damaged)
    names = kitchen.segments["narration_id"].tolist()
    assert 0 < len(reasons) < len(names)
    for name, reason in reasons.items():
        assert f"{name}: no clip: {reason}" in kitchen.log
    assert list(read_clips([kitchen.table])) == [name for name in names if name not in reasons]
    reasons_of_table = {row["narration_id"]: row["reason"] for row in rows_of(kitchen.table)}
    assert reasons_of_table == {name: reasons.get(name, "") for name in names}


def test_a_hanging_decoder_explains_missing_clips(kitchen):
    kitchen.orders.give("P01_01", "sleep")
    assert set(kitchen.cut(stall_seconds=2.0).values()) == {"no progress in 2 s"}


@pytest.mark.parametrize("order", ["find_the_disk_full", "get:SIGKILL"])
def test_after_a_machine_s_fault_cutting_goes_on(order, kitchen):
    kitchen.orders.give("P01_01", order)
    with pytest.raises(EpicError, match="P01_01: .*is kept: make room"):
        kitchen.cut()
    assert not kitchen.table.exists() and kitchen.cut() == {}


def test_a_segment_beyond_the_index_is_an_error(kitchen):
    kitchen.segments = kitchen.segments.assign(stop=10**6)
    with pytest.raises(EpicError, match="P01_01_0 ends at frame 1000000, .*make the clean list"):
        kitchen.cut()


def test_the_rules_cut_val_and_nothing_else(clean_archive, tmp_path):
    folder = clean_archive(tmp_path)
    participants = {
        path.split("/")[0] for path in read_segments(folder / "results/clean/val.txt")["path"]
    }
    tables = [f"results/browse_clips/{name}.tsv" for name in participants]
    assert jobs(run(folder, *tables)) == {"browse_clips": len(tables)}
    ids = read_segments(folder / "results/clean/val.txt")["narration_id"]
    assert read_clips([folder / table for table in tables]).keys() == set(ids)
    # A dry run (-n) lists the jobs that would be run now.
    planned = jobs(run(folder, "results/browse/index.html", "-n"))
    assert "browse" in planned and planned.keys().isdisjoint({"browse_clips", "clean"})
    assert "browse_clips" not in jobs(run(folder, "all", "-n"))
