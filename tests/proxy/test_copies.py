import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import truncate, zero_block
from epic100.proxy import ProxySettings, make_proxies
from epic100.scan import scan_participant
from epic100.video.decoder_process import ScanLimits
from epic100.video.index_file import load_index
from epic100.video.reader import VideoReader
from epic100.video.sheet import Video
from support.decoder_stand_in import House
from support.records import records_of
from support.tricky_videos import encode

pytestmark = pytest.mark.slow

SMALL = ProxySettings(height=48, gop=12, crf=18)
QUICK_LIMITS = ScanLimits(stall_seconds=5.0, min_seconds=60.0, seconds_per_second=0.0)

# Stands in for the encoder: what it does to a video is written in a file beside the copies. It
# counts its runs there too.
STAND_IN = """
import os, pathlib, resource, runpy, signal, sys
target = pathlib.Path(sys.argv[2])
orders = target.parent.parent
with open(orders / "runs", "a") as runs:
    print(target.stem, file=runs)
order = orders / target.stem
order = order.read_text() if order.exists() else ""
if order == "spin":
    while True: pass
if order == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if order == "nothing":
    sys.exit(0)
if order == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if order == "import":
    import no_such_module
if order == "full disk":
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
runpy.run_module("epic100.proxy.encoder", run_name="__main__")
"""


class Copies(House):
    """A participant's videos, their scan and their copies."""

    def __init__(self, folder: Path, video: bytes, count: int):
        self.copies = folder / "copies"
        self.copies.mkdir()
        super().__init__(folder, video, count, STAND_IN, counted=self.copies)

    def copy(self, video: Video) -> Path:
        return video.path(self.copies)

    def order(self, video: Video, what: str) -> None:
        (self.copies / video.video_id).write_text(what)

    def scan(self, **options):
        return scan_participant(self.videos, self.folder, self.folder / "P01.tsv",
                                self.folder / "P01.index.npz", **options)  # fmt: skip

    def make(self, settings=SMALL, **options):
        with records_of("epic100.proxy.copies") as self.lines:
            return make_proxies(
                self.videos, self.folder, options.pop("copies", self.copies), settings=settings,
                scan_table=self.folder / "P01.tsv", scan_index=self.folder / "P01.index.npz",
                table=self.folder / "made/P01.tsv", index=self.folder / "made/P01.index.npz",
                encoder=self.stand_in, **options,
            )  # fmt: skip

    def reader(self, video: Video) -> VideoReader:
        """As training opens a copy: by its place and the index beside the table."""
        found = load_index(self.folder / "made/P01.index.npz", video.video_id)
        assert found is not None
        return VideoReader(self.copy(video), found)


@pytest.fixture
def house(tmp_path, short_video):
    def build(count: int) -> Copies:
        lab = Copies(tmp_path, short_video, count)
        lab.scan()
        return lab

    return build


def test_every_video_gets_a_copy_an_index_and_a_row(house):
    lab = house(2)
    rows = lab.make(threads=2)
    assert [(row.video_id, row.state, row.width, row.height) for row in rows] == [
        ("P01_01", "copied", 72, 48),
        ("P01_02", "copied", 72, 48),
    ]
    scanned = load_index(lab.folder / "P01.index.npz", "P01_02")
    reader = lab.reader(lab.videos[1])
    assert np.allclose(reader.index.times, scanned.times, atol=1e-9)
    assert reader.get_frames([89, 0]).shape == (2, 48, 72, 3)
    with open(lab.folder / "made/P01.tsv") as handle:
        table = list(csv.DictReader(handle, delimiter="\t"))
    assert [row["state"] for row in table] == ["copied", "copied"]
    assert int(table[0]["bytes"]) == lab.copy(lab.videos[0]).stat().st_size
    assert float(table[0]["psnr"]) > 30
    assert lab.lines[-1].startswith("2 videos: 2 copied; 2 of them worked on now; ")


def test_a_second_run_makes_nothing_and_says_the_same(house):
    lab = house(2)
    first = lab.make()
    written = [(lab.folder / f"made/P01{end}").read_bytes() for end in (".tsv", ".index.npz")]
    assert lab.runs() == ["P01_01", "P01_02"]
    assert lab.make() == first
    assert lab.runs() == []
    assert [
        (lab.folder / f"made/P01{end}").read_bytes() for end in (".tsv", ".index.npz")
    ] == written
    os.utime(lab.copy(lab.videos[0]))  # as one does to keep files on a scratch disk
    lab.make()
    assert lab.runs() == []


@pytest.mark.parametrize("change", [{"height": 32}, {"gop": 6}, {"crf": 30}, {"b_frames": 0}])
def test_other_settings_make_every_copy_anew(change, house):
    lab = house(2)
    lab.make()
    before = lab.copy(lab.videos[0]).read_bytes()
    lab.runs()
    rows = lab.make(replace(SMALL, **change))
    assert lab.runs() == ["P01_01", "P01_02"]
    assert {row.state for row in rows} == {"copied"}
    assert lab.copy(lab.videos[0]).read_bytes() != before
    lab.reader(lab.videos[0]).get_frames(range(90))


def keys_of(lab: Copies) -> list[dict]:
    """What the notes say that the copies were made of."""
    notes = (lab.copy(video).with_suffix(".npz") for video in lab.videos)
    return [json.loads(json.loads(str(np.load(path)["facts"]))["key"]) for path in notes]


def test_copies_of_earlier_defaults_are_kept_until_the_user_sets_one(house):
    """An update changes the defaults: 12, 20 and no B-frames were those of before."""
    lab = house(3)
    one = lab.videos.pop()
    lab.make(ProxySettings(48, 12, 20, 0), given=["height"])
    assert all({"gop": 12, "crf": 20}.items() <= key.items() for key in keys_of(lab))
    # As notes of that version have them: no word of B-frames.
    assert not any("b_frames" in key for key in keys_of(lab))
    before = [lab.copy(video).read_bytes() for video in lab.videos]
    lab.runs()
    lab.videos.append(one)
    rows = lab.make(ProxySettings(48), given=["height"])
    assert lab.runs() == ["P01_03"] and {row.state for row in rows} == {"copied"}
    assert [lab.copy(video).read_bytes() for video in lab.videos[:2]] == before
    assert keys_of(lab)[2]["gop"] == ProxySettings().gop != 12
    assert any(line.startswith("2 copies were made with earlier defaults") for line in lab.lines)
    lab.make(ProxySettings(48, gop=12), given=["height", "gop"])  # these have it
    assert lab.runs() == ["P01_03"]
    lab.make(ProxySettings(48), given=["height", "gop"])
    assert lab.runs() == ["P01_01", "P01_02", "P01_03"]
    assert not any("earlier defaults" in line for line in lab.lines)
    lab.make(ProxySettings(48), given=["height"])
    assert lab.runs() == []


def test_earlier_copies_of_another_height_or_of_other_settings_are_not_kept(house):
    lab = house(1)
    lab.make(ProxySettings(48, 12, 20, 0))
    lab.make(ProxySettings(32), given=["height"])
    assert lab.runs() == ["P01_01", "P01_01"]
    lab.make(ProxySettings(48, 12, 23, 0))  # the user's
    lab.make(ProxySettings(48))
    assert lab.runs() == ["P01_01", "P01_01"]


def test_a_replaced_video_alone_is_copied_anew(house):
    lab = house(2)
    lab.make()
    lab.runs()
    encode(lab.path(lab.videos[1]), 80, seed=4)
    lab.scan()
    rows = lab.make()
    assert lab.runs() == ["P01_02"]
    assert [row.frames for row in rows] == [90, 80]


@pytest.mark.parametrize("spoil", [
    lambda copy: copy.unlink(),
    lambda copy: copy.write_bytes(copy.read_bytes()[:-100]),
    lambda copy: copy.with_suffix(".npz").write_bytes(b"rubbish"),
    lambda copy: copy.with_suffix(".npz").unlink(),
], ids=["gone", "cut", "notes spoilt", "notes gone"])  # fmt: skip
def test_a_copy_that_is_not_whole_any_more_is_made_again(spoil, house):
    lab = house(2)
    lab.make()
    lab.runs()
    spoil(lab.copy(lab.videos[0]))
    assert [row.state for row in lab.make()] == ["copied", "copied"]
    assert lab.runs() == ["P01_01"]
    lab.reader(lab.videos[0]).get_frames(range(90))


def test_a_run_that_is_killed_keeps_what_it_had_and_leaves_no_rubbish(house):
    lab = house(3)
    lab.order(lab.videos[2], "spin")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from epic100.proxy import ProxySettings, make_proxies\n"
        "from epic100.video.sheet import Video\n"
        f"videos = [Video(**v) for v in {[vars(video) for video in lab.videos]!r}]\n"
        f"folder = Path({str(lab.folder)!r})\n"
        "make_proxies(videos, folder, folder / 'copies', scan_table=folder / 'P01.tsv',"
        " scan_index=folder / 'P01.index.npz', table=folder / 'made/P01.tsv',"
        " index=folder / 'made/P01.index.npz', settings=ProxySettings(48, 12, 18),"
        f" encoder={lab.stand_in!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        until = time.monotonic() + 60
        runs = lab.copies / "runs"
        while time.monotonic() < until:
            if runs.exists() and "P01_03" in runs.read_text():
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (lab.folder / "made/P01.tsv").exists()
    assert lab.runs() == ["P01_01", "P01_02", "P01_03"]
    left = lab.copy(lab.videos[2]).with_name(".P01_03.4711.tmp.MP4")  # as a killed encoder does
    left.write_bytes(b"half")
    (lab.copies / "P01_03").unlink()
    assert [row.state for row in lab.make()] == ["copied"] * 3
    assert lab.runs() == ["P01_03"]
    assert not left.exists()


@pytest.mark.parametrize("order, reason", [
    ("spin", "no progress in 5 s"),
    ("crash", "the decoder crashed (SIGSEGV)"),
])  # fmt: skip
def test_where_no_copy_can_be_made_the_original_is_read(order, reason, house):
    lab = house(2)
    lab.make()  # an old copy must not stay in its place
    lab.order(lab.videos[0], order)
    bad, good = lab.make(replace(SMALL, gop=6), limits=QUICK_LIMITS)
    assert (bad.state, bad.reason, good.state) == ("original", reason, "copied")
    assert f"P01_01: no copy, the original is read: {reason}" in lab.lines
    frames = [0, 40, 89]
    original = VideoReader(lab.path(lab.videos[0])).get_frames(frames)
    assert np.array_equal(lab.reader(lab.videos[0]).get_frames(frames), original)
    (lab.copies / "P01_01").unlink()
    lab.runs()
    assert [row.state for row in lab.make(replace(SMALL, gop=6))] == ["copied", "copied"]
    assert lab.runs() == ["P01_01"]
    assert not lab.copy(lab.videos[0]).is_symlink()
    assert lab.path(lab.videos[0]).stat().st_size == bad.original_bytes


def test_a_full_disk_stops_the_rule_in_one_sentence_and_keeps_the_others(house):
    lab = house(3)
    lab.order(lab.videos[1], "full disk")
    with pytest.raises(EpicError, match=r"cannot write the copy: .*no copy of P01_02; the others"):
        lab.make()
    assert not (lab.folder / "made/P01.index.npz").exists()
    assert not lab.copy(lab.videos[1]).exists()
    lab.runs()
    (lab.copies / "P01_02").unlink()
    assert [row.state for row in lab.make()] == ["copied"] * 3
    assert lab.runs() == ["P01_02"]


@pytest.mark.parametrize(("order", "words"), [
    ("nothing", "the encoder left no copy"),
    ("kill", "ended from outside"),
    ("import", "did not start"),
])  # fmt: skip
def test_what_the_machine_does_puts_no_link_in_a_copy_s_place(order, words, house):
    lab = house(2)
    lab.order(lab.videos[0], order)
    with pytest.raises(EpicError, match=rf"{words}.*no copy of P01_01; the others"):
        lab.make()
    assert not lab.copy(lab.videos[0]).is_symlink()


def test_videos_that_no_one_can_read_get_no_copy(house):
    lab = house(3)
    lab.path(lab.videos[0]).unlink()
    lab.path(lab.videos[1]).write_bytes(b"")
    lab.scan()
    rows = lab.make()
    assert [(row.state, row.reason) for row in rows] == [
        ("none", f"no file {lab.path(lab.videos[0])}"),
        ("none", "cannot open: the file is empty"),
        ("copied", ""),
    ]
    assert lab.runs() == ["P01_03"]
    assert not lab.copy(lab.videos[0]).exists()
    assert load_index(lab.folder / "made/P01.index.npz", "P01_01") is None


def test_a_participant_of_whom_nothing_can_be_read_is_no_error(house):
    lab = house(1)
    lab.path(lab.videos[0]).write_bytes(b"")
    lab.scan()
    assert [row.state for row in lab.make()] == ["none"]
    assert load_index(lab.folder / "made/P01.index.npz", "P01_01") is None


def test_damaged_videos_keep_their_numbers_and_it_is_said(house):
    lab = house(2)
    zero_block(lab.path(lab.videos[0]), 0.4, 2000)
    truncate(lab.path(lab.videos[1]), 0.6)
    damaged = lab.scan()
    rows = lab.make()
    assert [row.state for row in rows] == ["copied", "copied"]
    assert rows[0].stand_ins > 0
    assert f"P01_01: {rows[0].stand_ins} damaged frames are grey in its copy" in lab.lines
    for video, row in zip(lab.videos, damaged, strict=True):
        original, copy = VideoReader(lab.path(video)), lab.reader(video)
        assert np.allclose(copy.index.times, original.index.times, atol=1e-9)
        good = [n for n in range(original.index.frames)
                if not any(a <= n < b for a, b in row.damaged)]  # fmt: skip
        small = original.get_frames(good, size=(48, 72)).mean(3)
        assert np.abs(copy.get_frames(good).mean(3) - small).mean((1, 2)).max() < 20


def test_damage_that_a_quick_look_missed_is_not_hidden_behind_grey_pictures(house):
    lab = house(1)
    zero_block(lab.path(lab.videos[0]), 0.4, 2000)
    (full,) = lab.scan()
    assert full.status == "damaged"
    # As a quick look that saw nothing, or a person who thinks better, has it.
    table = (lab.folder / "P01.tsv").read_text().splitlines()
    fields = table[1].split("\t")
    assert fields[1] == "damaged"
    fields[1], fields[4] = "ok", ""
    (lab.folder / "P01.tsv").write_text("\n".join([table[0], "\t".join(fields)]) + "\n")
    (row,) = lab.make()
    assert row.state == "original"
    assert row.reason.endswith("frames that the scan calls sound do not decode")
    assert lab.copy(lab.videos[0]).resolve() == lab.path(lab.videos[0])


def test_the_folder_of_the_originals_is_refused_for_copies(house):
    lab = house(1)
    before = lab.path(lab.videos[0]).read_bytes()
    with pytest.raises(EpicError, match="holds the originals.*proxy: root"):
        lab.make(copies=lab.folder)
    assert lab.path(lab.videos[0]).read_bytes() == before


def test_a_folder_that_cannot_be_made_is_one_sentence(house):
    lab = house(1)
    (lab.folder / "a_file").write_text("")
    with pytest.raises(EpicError, match="copies go there"):
        lab.make(copies=lab.folder / "a_file")


def test_a_video_that_the_scan_does_not_know_is_one_sentence(house):
    lab = house(1)
    lab.videos.append(replace(lab.videos[0], video_id="P01_02"))
    with pytest.raises(EpicError, match="P01_02.*scan its participant again"):
        lab.make()


def test_notes_that_cannot_be_written_are_the_disk_s_fault_too(house):
    """The copy is on the disk then, and was replaced by a link to the original."""
    lab = house(2)
    notes = lab.copy(lab.videos[0]).with_suffix(".npz")
    (notes / "in the way").mkdir(parents=True)
    words = r"P01_01\.npz: not written: .*no copy of P01_01; the others"
    with pytest.raises(EpicError, match=words):
        lab.make()
    assert not lab.copy(lab.videos[0]).is_symlink()
    shutil.rmtree(notes)
    assert [row.state for row in lab.make()] == ["copied"] * 2
