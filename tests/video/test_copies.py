"""The copies of a participant's videos: which are made, which stay, and which are links."""

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import zero_block
from epic100.settings.data import ProxySettings, ScanLimits
from epic100.video.copies import make_proxies
from epic100.video.copy_encoder import copy_video
from epic100.video.index import load_index
from epic100.video.reader import VideoReader
from epic100.video.scan_table import write_scan_table
from support.bad_decoders import Orders
from support.checkout import rows_of
from support.decoder_stand_in import ShortVideos
from support.this_process import records_of

pytestmark = pytest.mark.slow

SMALL = {"height": 48, "gop": 12, "crf": 18}


class Copies:
    """The copies of a participant's videos, made by an encoder that obeys `orders`."""

    def __init__(self, originals: ShortVideos, folder: Path):
        self.originals, self.folder = originals, folder
        self.videos = originals.videos
        self.table, self.index = folder / "made/P01.tsv", folder / "made/P01.index.npz"
        self.orders = Orders(folder / "orders", copy_video)
        self.first = originals.videos[0].path(folder / "copies")
        self.notes_of_first = self.first.with_suffix(".npz")

    def make(self, proxy=None, scan=None, **arguments):
        """Make the copies.

        Args:
            proxy: Changes of the settings of copies, `SMALL`.
            scan: Settings of the section `scan:`.
            arguments: Other arguments for `make_proxies` than the usual ones.
        """
        usual = {
            "root": self.originals.folder,
            "copies": self.folder / "copies",
            "scan_table": self.originals.table,
            "scan_index": self.originals.index,
            "table": self.table,
            "index": self.index,
            "settings": ProxySettings(**SMALL | (proxy or {})),
            "limits": ScanLimits(**scan or {}),
            "encode": self.orders.function,
        }
        with records_of("epic100.video.copies") as self.log:
            return make_proxies(self.videos, **usual | arguments)

    def states(self, **changes) -> list[str]:
        """Make the copies, and return the state of each video."""
        return [row.state for row in self.make(**changes)]

    def videos_encoded(self) -> list[str]:
        """List the videos for which the encoder was called since the last call of this method."""
        return self.orders.runs()

    def frames(self, numbers=range(90)) -> np.ndarray:
        """Read frames of the first video as training does: with the index next to the table."""
        return VideoReader(self.first, load_index(self.index, "P01_01")).get_frames(numbers)


@pytest.fixture(scope="module")
def scanned(short_video, tmp_path_factory) -> ShortVideos:
    """Two undamaged videos of 90 frames with their scan, which no test may change."""
    originals = ShortVideos(tmp_path_factory.mktemp("scanned"), short_video, count=2)
    originals.scan()
    return originals


@pytest.fixture(scope="module")
def made(scanned, tmp_path_factory) -> Copies:
    """Copies with the settings `SMALL` and their rows, which no test may change."""
    copies = Copies(scanned, tmp_path_factory.mktemp("made"))
    copies.rows = copies.make(threads=2)
    return copies


@pytest.fixture
def nothing_made(scanned, tmp_path) -> Copies:
    """The scanned videos, before any copy is made."""
    return Copies(scanned, tmp_path)


@pytest.fixture
def copied(made, tmp_path) -> Copies:
    """A second `made`, which a test may change."""
    shutil.copytree(made.folder, tmp_path, dirs_exist_ok=True)
    copies = Copies(made.originals, tmp_path)
    # This forgets the videos that `made` has worked on.
    copies.videos_encoded()
    return copies


def test_every_video_gets_a_copy_and_row(made):
    # The originals have 96 x 64 pixels.
    assert [(row.video_id, row.state, row.width, row.height) for row in made.rows] == [
        ("P01_01", "copied", 72, 48),
        ("P01_02", "copied", 72, 48),
    ]
    table = rows_of(made.table)
    assert [row["state"] for row in table] == ["copied", "copied"]
    assert int(table[0]["bytes"]) == made.first.stat().st_size
    assert made.log[-1].startswith("2 videos: 2 copied; 2 of them worked on now; ")


def move_the_originals(copies: Copies) -> None:
    """Put the originals into another folder, where they have another time of change."""
    moved = ShortVideos(copies.folder / "moved", copies.originals.paths[0].read_bytes(), count=2)
    moved.table, moved.index = copies.originals.table, copies.originals.index
    copies.originals = moved


@pytest.mark.parametrize(
    "change",
    [
        # People touch files so that a scratch disk keeps them.
        pytest.param(lambda copies: os.utime(copies.first), id="touched copy"),
        pytest.param(move_the_originals, id="moved originals"),
    ],
)
def test_a_second_run_makes_no_copy(change, copied, made):
    change(copied)
    copied.table.unlink()
    copied.index.unlink()
    assert copied.make() == made.rows and copied.videos_encoded() == []
    assert copied.table.read_bytes() == made.table.read_bytes()
    assert copied.index.read_bytes() == made.index.read_bytes()


@pytest.mark.parametrize("change", [{"height": 32}, {"gop": 6}, {"crf": 30}])
def test_a_copy_is_made_again_with_other_settings(change, copied, made):
    copied.videos = copied.videos[:1]
    assert copied.states(proxy=change) == ["copied"]
    assert copied.videos_encoded() == ["P01_01"]
    assert copied.first.read_bytes() != made.first.read_bytes()
    copied.frames()  # This raises an error if the copy and its index do not fit together.


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda copies: copies.first.unlink(), id="copy removed"),
        pytest.param(lambda copies: os.truncate(copies.first, 1000), id="copy cut"),
        pytest.param(lambda copies: copies.notes_of_first.unlink(), id="notes removed"),
        pytest.param(lambda copies: copies.notes_of_first.write_bytes(b"x"), id="notes damaged"),
        pytest.param(
            lambda copies: np.savez(copies.notes_of_first, facts=np.array("{}")),
            id="notes of another version",
        ),
    ],
)
def test_an_incomplete_copy_is_made_again(spoil, copied):
    spoil(copied)
    assert copied.states() == ["copied", "copied"]
    assert copied.videos_encoded() == ["P01_01"]
    copied.frames()  # This raises an error if the copy and its index do not fit together.


@pytest.mark.parametrize(
    "order, scan, reason",
    [
        ("sleep", {"stall_seconds": 2.0}, "no progress in 2 s"),
        ("get:SIGSEGV", {}, "reading it crashed (SIGSEGV)"),
    ],
)
def test_a_link_replaces_an_impossible_copy(order, scan, reason, copied):
    copied.videos = copied.videos[:1]
    copied.orders.give("P01_01", order)
    (row,) = copied.make(proxy={"gop": 6}, scan=scan)
    assert (row.state, row.reason) == ("original", reason)
    assert f"P01_01: no copy, the original is read: {reason}" in copied.log
    original = VideoReader(copied.originals.paths[0]).get_frames(range(90))
    assert np.array_equal(copied.frames(), original)
    # The order was for one call, so the next one makes the copy in place of the link.
    assert copied.states(proxy={"gop": 6}) == ["copied"]
    assert not copied.first.is_symlink() and copied.originals.paths[0].stat().st_size > 0


@pytest.mark.parametrize(
    "order, text",
    [
        pytest.param("find_the_disk_full", "cannot write the copy: ", id="disk full"),
        pytest.param("give_up:0", "left no result", id="the encoder ended early"),
        pytest.param("get:SIGKILL", "ended from outside", id="the machine killed the encoder"),
    ],
)
def test_no_link_after_a_machine_s_error(order, text, nothing_made):
    nothing_made.orders.give("P01_01", order)
    with pytest.raises(EpicError, match=rf"P01_01: .*{text}.*is kept: make room"):
        nothing_made.make()
    assert not nothing_made.index.exists() and not os.path.lexists(nothing_made.first)
    # The other copy was made, so only the missing one is left to do.
    assert nothing_made.videos_encoded() == ["P01_01", "P01_02"]
    assert nothing_made.states() == ["copied", "copied"]
    assert nothing_made.videos_encoded() == ["P01_01"]


def test_missing_and_unreadable_videos_get_no_copy(short_video, tmp_path):
    copies = Copies(ShortVideos(tmp_path / "originals", short_video, count=2), tmp_path)
    missing, empty = copies.originals.paths
    missing.unlink()
    empty.write_bytes(b"")
    copies.originals.scan()
    assert [(row.state, row.reason) for row in copies.make()] == [
        ("none", f"no file {missing}"),
        ("none", "cannot open: the file is empty"),
    ]
    assert copies.videos_encoded() == []  # The encoder was not called.
    assert not copies.first.exists()


@pytest.fixture
def damaged(short_video, tmp_path) -> Copies:
    """Two videos, the first of which has lost a block of the file, and their scan."""
    originals = ShortVideos(tmp_path / "originals", short_video, count=2)
    zero_block(originals.paths[0], 0.4, 2000)
    originals.rows = originals.scan()
    return Copies(originals, tmp_path)


def test_a_damaged_video_is_read_from_the_original(damaged):
    damaged.first.parent.mkdir(parents=True)
    damaged.first.write_bytes(b"a copy of an earlier version")
    first, second = damaged.make()
    assert (first.state, first.reason, second.state) == ("original", "damaged", "copied")
    assert damaged.videos_encoded() == ["P01_02"]
    assert damaged.log[0] == "1 damaged videos are read from the originals: P01_01"
    assert damaged.log[1].startswith("2 videos: 1 copied, 1 original; 1 of them worked on now; ")
    undamaged = list(range(10))
    original = VideoReader(damaged.originals.paths[0])
    assert np.array_equal(damaged.frames(undamaged), original.get_frames(undamaged))


def test_unseen_damage_leaves_a_link(damaged):
    # A quick scan may have seen no damage, or a person may have edited the table.
    undamaged = [replace(row, status="ok", damaged=[]) for row in damaged.originals.rows]
    write_scan_table(undamaged, damaged.originals.table)
    first, second = damaged.make()
    assert (first.state, second.state) == ("original", "copied") and damaged.first.is_symlink()
    assert first.reason.startswith("frame ") and first.reason.endswith(" does not decode")
    assert f"P01_01: no copy, the original is read: {first.reason}" in damaged.log


@pytest.mark.parametrize(
    "folder, text",
    [
        pytest.param(".", "holds the originals.*proxy: root", id="folder of the originals"),
        pytest.param("P01/P01_01.MP4", "copies go there", id="a file"),
    ],
)
def test_a_folder_that_cannot_take_copies_is_rejected(folder, text, nothing_made):
    with pytest.raises(EpicError, match=text):
        nothing_made.make(copies=nothing_made.originals.folder / folder)


def test_a_video_outside_the_table_is_rejected(nothing_made):
    nothing_made.videos = [replace(nothing_made.videos[0], video_id="P01_03")]
    with pytest.raises(EpicError, match="P01_03.*scan its participant again"):
        nothing_made.make()


def make_a_copy_and_fail(other_attempt: Copies, *_, progress):
    """Fail after another attempt has made the same copy."""
    other_attempt.make()
    raise EpicError("no time left")


def test_no_link_replaces_the_copy_of_another_attempt(nothing_made):
    nothing_made.videos = nothing_made.videos[:1]
    (row,) = nothing_made.make(encode=partial(make_a_copy_and_fail, nothing_made))
    assert row.state == "copied" and not nothing_made.first.is_symlink()
