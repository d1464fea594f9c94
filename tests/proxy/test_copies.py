import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import zero_block
from epic100.proxy.copies import make_proxies
from epic100.proxy.encoder import copy_video
from epic100.settings import read_settings
from epic100.video.index_file import load_index
from epic100.video.reader import VideoReader
from epic100.video.scan_table import write_scan_table
from support.bad_decoders import Orders
from support.decoder_stand_in import House
from support.tables import rows_of
from support.this_process import records_of

pytestmark = pytest.mark.slow

SMALL = {"height": 48, "gop": 12, "crf": 18}


class Copies:
    """Copies of two videos, made by an encoder that obeys `orders`."""

    def __init__(self, originals: House, folder: Path):
        self.originals, self.videos, self.copies = originals, originals.videos, folder / "copies"
        self.table, self.index = folder / "made/P01.tsv", folder / "made/P01.index.npz"
        self.orders = Orders(folder / "orders", copy_video)
        self.copy = originals.videos[0].path(self.copies)
        self.notes = self.copy.with_suffix(".npz")

    def make(self, changes=None, limits=None, **options):
        """Make the copies, with `changes` of the settings `SMALL` and `limits` for the scan."""
        settings = {"videos": {"proxy": SMALL | (changes or {})}, "scan": limits or {}}
        own = {"scan_table": self.originals.table, "scan_index": self.originals.index}
        own |= {"copies": self.copies, "table": self.table, "index": self.index}
        own |= {"settings": read_settings(settings), "encode": self.orders.function}
        with records_of("epic100.proxy.copies") as self.lines:
            return make_proxies(self.videos, self.originals.folder, **own | options)

    def states(self, *arguments, **options) -> list[str]:
        return [row.state for row in self.make(*arguments, **options)]

    def reader(self, name: str = "P01_01") -> VideoReader:
        """Open the copy as training does: by its path and the index beside the table."""
        return VideoReader(self.copies / f"P01/{name}.MP4", load_index(self.index, name))


@pytest.fixture(scope="module")
def scanned(short_video, tmp_path_factory) -> House:
    """Two sound videos with their scan, which no test may change."""
    house = House(tmp_path_factory.mktemp("scanned"), short_video, 2)
    house.scan()
    return house


@pytest.fixture(scope="module")
def made(scanned, tmp_path_factory) -> Copies:
    """Copies with the settings `SMALL` and their rows, which no test may change."""
    lab = Copies(scanned, tmp_path_factory.mktemp("made"))
    lab.rows = lab.make(threads=2)
    assert lab.orders.runs() == ["P01_01", "P01_02"]
    return lab


@pytest.fixture
def lab(scanned, tmp_path) -> Copies:
    """Videos that are scanned, but not copied yet."""
    return Copies(scanned, tmp_path)


@pytest.fixture
def copied(made, tmp_path) -> Copies:
    """`made` once more; a test may spoil it."""
    shutil.copytree(made.copies.parent, tmp_path, dirs_exist_ok=True)
    return Copies(made.originals, tmp_path)


@pytest.fixture(scope="module")
def damaged(short_video, tmp_path_factory) -> House:
    """Two scanned videos, the first of which has lost a block of the file."""
    house = House(tmp_path_factory.mktemp("damaged"), short_video, 2)
    zero_block(house.paths[0], 0.4, 2000)
    house.rows = house.scan()
    return house


def test_every_video_gets_a_copy_an_index_and_a_row(made):
    assert [(row.video_id, row.state, row.width, row.height) for row in made.rows] == [
        ("P01_01", "copied", 72, 48),
        ("P01_02", "copied", 72, 48),
    ]
    scanned = load_index(made.originals.index, "P01_02")
    reader = made.reader("P01_02")
    assert np.allclose(reader.index.times, scanned.times, atol=1e-9)
    assert reader.get_frames([89, 0]).shape == (2, 48, 72, 3)
    table = rows_of(made.table)
    assert [row["state"] for row in table] == ["copied", "copied"]
    assert int(table[0]["bytes"]) == made.copy.stat().st_size
    assert made.lines[-1].startswith("2 videos: 2 copied; 2 of them worked on now; ")


def test_a_second_run_makes_nothing_and_says_the_same_also_of_a_moved_archive(
    copied, made, tmp_path
):
    # People touch files so that a scratch disk keeps them.
    os.utime(copied.copy)
    copied.table.unlink()
    copied.index.unlink()
    assert copied.make() == made.rows and copied.orders.runs() == []
    assert copied.table.read_bytes() == made.table.read_bytes()
    assert copied.index.read_bytes() == made.index.read_bytes()
    moved = House(tmp_path / "moved", copied.originals.paths[0].read_bytes(), 2)
    moved.table, moved.index = copied.originals.table, copied.originals.index
    copied.originals = moved
    assert copied.make() == made.rows and copied.orders.runs() == []


@pytest.mark.parametrize("change", [{"height": 32}, {"gop": 6}, {"crf": 30}, {"b_frames": 0}])
def test_other_settings_make_a_copy_anew(change, copied, made):
    copied.videos = copied.videos[:1]
    assert copied.states(change) == ["copied"]
    assert copied.orders.runs() == ["P01_01"]
    assert copied.copy.read_bytes() != made.copy.read_bytes()
    copied.reader().get_frames(range(90))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lab: lab.copy.unlink(),
        lambda lab: lab.copy.write_bytes(lab.copy.read_bytes()[:-100]),
        lambda lab: lab.notes.write_bytes(b"rubbish"),
        lambda lab: np.savez(lab.notes, facts=np.array("{}")),
        lambda lab: lab.notes.unlink(),
    ],
    ids=["gone", "cut", "notes spoilt", "notes of another version", "notes gone"],
)
def test_a_copy_that_is_not_whole_any_more_is_made_again(spoil, copied):
    spoil(copied)
    assert copied.states() == ["copied", "copied"]
    assert copied.orders.runs() == ["P01_01"]
    copied.reader().get_frames(range(90))


@pytest.mark.parametrize(
    ("order", "limits", "reason"),
    [
        ("sleep", {"stall_seconds": 2.0}, "no progress in 2 s"),
        ("get:SIGSEGV", {}, "reading it crashed (SIGSEGV)"),
    ],
)
def test_where_no_copy_can_be_made_the_original_is_read(order, limits, reason, copied):
    copied.videos = copied.videos[:1]
    # The old copy must not stay in its place.
    copied.orders.give("P01_01", order)
    (bad,) = copied.make({"gop": 6}, limits)
    assert (bad.state, bad.reason) == ("original", reason)
    assert f"P01_01: no copy, the original is read: {reason}" in copied.lines
    original = VideoReader(copied.originals.paths[0]).get_frames([0, 40, 89])
    assert np.array_equal(copied.reader().get_frames([0, 40, 89]), original)
    assert copied.states({"gop": 6}) == ["copied"]
    assert not copied.copy.is_symlink()
    assert copied.originals.paths[0].stat().st_size == bad.original_bytes


@pytest.mark.parametrize(
    ("order", "words"),
    [
        pytest.param("find_the_disk_full", "cannot write the copy: ", id="no room for the copy"),
        # The copy is on the disk when this write fails.
        pytest.param("", r"P01_01\.npz: not written: ", id="notes not written"),
        pytest.param("give_up:0", "left no result", id="the encoder ended early"),
        pytest.param("get:SIGKILL", "ended from outside", id="the machine killed the encoder"),
    ],
)
def test_a_fault_of_disk_or_machine_is_one_error_and_the_other_copies_are_kept(order, words, lab):
    """No link to the original stands in for the copy, as it would after a fault of the file."""
    lab.orders.give("P01_01", order)
    # In place of the notes, a folder that is not empty makes writing them fail.
    (lab.notes if not order else lab.copies).joinpath("in the way").mkdir(parents=True)
    with pytest.raises(EpicError, match=rf"P01_01: .*{words}.*is kept: make room"):
        lab.make()
    assert not lab.index.exists() and not lab.copy.is_symlink()
    assert lab.copy.exists() == (order == "")
    # This call forgets the videos that were worked on up to now.
    lab.orders.runs()
    shutil.rmtree(lab.notes, ignore_errors=True)
    assert lab.states() == ["copied", "copied"]
    assert lab.orders.runs() == ["P01_01"]


def test_videos_that_no_one_can_read_get_no_copy(short_video, tmp_path):
    """Nor is it an error that a participant has no other."""
    lab = Copies(House(tmp_path / "originals", short_video, 2), tmp_path)
    lab.originals.paths[0].unlink()
    lab.originals.paths[1].write_bytes(b"")
    lab.originals.scan()
    assert [(row.state, row.reason) for row in lab.make()] == [
        ("none", f"no file {lab.originals.paths[0]}"),
        ("none", "cannot open: the file is empty"),
    ]
    assert lab.orders.runs() == []
    with pytest.raises(EpicError, match="no frame index of P01_01"):
        lab.reader()
    assert not lab.copy.exists()


def test_damaged_frames_are_grey_unless_the_scan_calls_them_sound(damaged, tmp_path):
    lab = Copies(damaged, tmp_path)
    first, second = lab.make()
    assert (first.state, second.state, second.stand_ins) == ("copied", "copied", 0)
    assert f"P01_01: {first.stand_ins} damaged frames are grey in its copy" in lab.lines
    assert lab.reader().frames == 90
    # A quick look may have seen no damage, or a person may have edited the table.
    seen = [replace(row, status="ok", damaged=[]) for row in damaged.rows]
    write_scan_table(seen, tmp_path / "seen.tsv")
    row, _ = lab.make(scan_table=tmp_path / "seen.tsv")
    assert row.state == "original"
    assert row.reason == f"{first.stand_ins} frames that the scan calls sound do not decode"
    assert lab.copy.resolve() == lab.originals.paths[0]


def add_a_video(lab) -> dict:
    lab.videos = [*lab.videos, replace(lab.videos[0], video_id="P01_03")]
    return {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lab: {"copies": lab.originals.folder}, "holds the originals.*proxy: root"),
        # The folder for copies is a file here.
        (lambda lab: {"copies": lab.originals.table}, "copies go there"),
        (add_a_video, "P01_03.*scan its participant again"),
    ],
)
def test_what_copies_cannot_be_made_of_or_in_is_one_sentence(change, words, lab):
    before = lab.originals.paths[0].read_bytes()
    with pytest.raises(EpicError, match=words):
        lab.make(**change(lab))
    assert lab.originals.paths[0].read_bytes() == before


def fail_after_another(attempt: Copies, *_, progress):
    attempt.make()
    raise EpicError("no time left")


def test_a_copy_that_another_attempt_made_is_not_replaced_by_a_link(lab):
    lab.videos = lab.videos[:1]
    (row,) = lab.make(encode=partial(fail_after_another, lab))
    assert row.state == "copied" and not row.reason and not lab.copy.is_symlink()
