import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from epic100.minikitchen.damage import truncate, zero_block
from epic100.minikitchen.packet_damage import rewrite
from epic100.scan import scan_participant
from epic100.video.decoder_process import ScanLimits
from epic100.video.index import build_index
from epic100.video.index_file import load_index
from epic100.video.scan_table import read_scan_table
from epic100.video.sheet import Video
from support.decoder_stand_in import SECONDS, House
from support.records import records_of

pytestmark = pytest.mark.slow

QUICK_LIMITS = ScanLimits(
    stall_seconds=5.0, min_seconds=60.0, seconds_per_second=0.0, memory_mib=512
)

# Stands in for the decoder: what it does is written in the file that it is given. It counts its
# runs in a file beside its results.
STAND_IN = """
import os, pathlib, runpy, signal, sys, time
from epic100.video.fork_server import arguments_of_orders
sys.argv[1:] = arguments_of_orders()
path, out = map(pathlib.Path, sys.argv[1:3])
with open(out.parent / "runs", "a") as runs:
    print(path.name, file=runs)
order = path.read_bytes()[:16].strip()
if order == b"wait":
    time.sleep(60)
if order == b"spin":
    while True: pass
if order == b"eat":
    data = []
    while True: data.append(bytearray(16 << 20))
if order == b"crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if order == b"creep":
    for n in range(10**6):
        print("frames", n, flush=True)
        time.sleep(0.02)
sys.argv = ["scan_worker", *sys.argv[1:]]
runpy.run_module("epic100.scan.worker", run_name="__main__")
"""


class Scans(House):
    """A participant's folder and results."""

    def __init__(self, folder: Path, video: bytes, count: int):
        super().__init__(folder, video, count, STAND_IN, counted=folder / "scan/cache/P01")

    @property
    def table(self) -> Path:
        return self.folder / "scan" / "P01.tsv"

    @property
    def cache(self) -> Path:
        return self.table.parent / "cache" / "P01"

    def scan(self, **options):
        with records_of("epic100.scan.participant") as self.lines:
            return scan_participant(
                self.videos, self.folder, self.table, self.table.with_suffix(".index.npz"),
                worker=self.stand_in, **options,
            )  # fmt: skip


@pytest.fixture
def house(tmp_path, short_video):
    return lambda count: Scans(tmp_path, short_video, count)


def test_the_table_has_a_row_a_video_and_the_index_beside_it_its_pictures(house):
    lab = house(2)
    rows = lab.scan(threads=2)
    assert [(row.video_id, row.status, row.reason) for row in rows] == [
        ("P01_01", "ok", ""),
        ("P01_02", "ok", ""),
    ]
    assert read_scan_table(lab.table) == [
        type(row)(**{**vars(row), "fps": pytest.approx(row.fps, abs=1e-5)}) for row in rows
    ]
    index = load_index(lab.table.with_suffix(".index.npz"), "P01_02")
    assert np.array_equal(index.pts, build_index(lab.path(lab.videos[1])).pts)
    assert load_index(lab.table.with_suffix(".index.npz"), "P01_99") is None


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (b"spin", "no progress in 5 s"),
        (b"eat", "the decoder asked for more than 512 MiB of memory"),
        (b"crash", "the decoder crashed (SIGSEGV)"),
    ],
)
def test_whatever_a_decoder_does_ends_as_a_row_beside_the_others(order, reason, house):
    lab = house(2)
    lab.path(lab.videos[0]).write_bytes(order.ljust(16))
    started = time.monotonic()
    bad, good = lab.scan(limits=QUICK_LIMITS)
    assert time.monotonic() - started < 40
    assert (bad.status, bad.reason, bad.damaged) == ("unreadable", reason, [])
    assert good.status == "ok"
    assert f"P01_01: unreadable: {reason}" in lab.lines
    assert lab.lines[-1] == "2 videos: 1 ok, 1 unreadable; 2 of them decoded now"


def test_the_total_limit_grows_with_the_length_in_the_sheet(house):
    lab = house(1)
    lab.path(lab.videos[0]).write_bytes(b"creep".ljust(16))
    limits = ScanLimits(stall_seconds=60, min_seconds=0.5, seconds_per_second=0.2)
    (row,) = lab.scan(limits=limits)
    assert row.reason == f"not decoded within {0.5 + 0.2 * SECONDS:g} s"


def test_what_could_not_be_scanned_is_tried_again(house):
    lab = house(2)
    path = lab.path(lab.videos[0])
    sound, state = path.read_bytes(), path.stat()
    path.write_bytes(b"crash".ljust(16))
    lab.scan(limits=QUICK_LIMITS)
    assert lab.runs() == ["P01_01", "P01_02"]
    path.write_bytes(sound)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert [row.status for row in lab.scan()] == ["ok", "ok"]
    assert lab.runs() == ["P01_01"]


def test_a_second_scan_decodes_nothing_and_says_the_same(house):
    lab = house(3)
    zero_block(lab.path(lab.videos[1]), 0.5, 500)
    first, lines = lab.scan(threads=2), lab.lines
    table = lab.table.read_bytes()
    assert lab.runs() == ["P01_01", "P01_02", "P01_03"]
    assert lab.scan() == first
    assert lab.runs() == []
    assert lab.table.read_bytes() == table
    assert lab.lines[:-1] == lines[:-1]
    assert lab.lines[-1] == "3 videos: 2 ok, 1 damaged; 0 of them decoded now"


def test_a_replaced_file_is_decoded_anew_and_its_old_result_is_gone(house):
    lab = house(2)
    lab.scan()
    lab.runs()
    path = lab.path(lab.videos[0])
    zero_block(path, 0.5, 500)  # of the same size
    assert lab.scan()[0].status == "damaged"
    assert lab.runs() == ["P01_01"]
    assert sorted(file.name.split(".")[0] for file in lab.cache.glob("*.npz")) == [
        "P01_01",
        "P01_02",
    ]


@pytest.mark.parametrize("change", [{"md5": "0" * 32}, {"duration": SECONDS + 3}])
def test_another_md5_or_length_in_the_sheet_means_another_scan(change, house):
    lab = house(1)
    lab.scan()
    lab.runs()
    lab.videos = [Video(**{**vars(lab.videos[0]), **change})]
    lab.scan()
    assert lab.runs() == ["P01_01"]


def test_a_result_that_was_spoilt_in_the_cache_is_made_again(house):
    lab = house(1)
    first = lab.scan()
    lab.runs()
    (kept,) = lab.cache.glob("P01_01.*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert lab.scan() == first
    assert lab.runs() == ["P01_01"]


def test_a_scan_that_is_killed_keeps_what_it_had(house, tmp_path):
    lab = house(3)
    lab.path(lab.videos[2]).write_bytes(b"spin".ljust(16))
    code = (
        "import sys\nfrom epic100.scan import scan_participant\n"
        "from epic100.video.sheet import Video\n"
        f"videos = {[vars(video) for video in lab.videos]!r}\n"
        f"scan_participant([Video(**v) for v in videos], {str(lab.folder)!r}, {str(lab.table)!r},"
        f" {str(lab.table.with_suffix('.index.npz'))!r},"
        f" worker={lab.stand_in!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        until = time.monotonic() + 20
        runs = lab.cache / "runs"
        while time.monotonic() < until:
            if runs.exists() and "P01_03" in runs.read_text():
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert not lab.table.exists()
    assert lab.runs() == ["P01_01", "P01_02", "P01_03"]
    rows = lab.scan(limits=QUICK_LIMITS)
    assert [row.status for row in rows] == ["ok", "ok", "unreadable"]
    assert lab.runs() == ["P01_03"]


def test_a_quick_look_is_never_taken_for_a_scan_but_a_scan_serves_as_one(house):
    lab = house(1)
    # Damage to a picture that is no key frame: a quick look cannot see it.
    path = lab.path(lab.videos[0])
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        victim = [p for p in container.demux(video=0) if p.size and not p.is_keyframe][20]
        position, size = victim.pos, victim.size
    data[position + size // 2] ^= 0x10
    data[position + size // 3] ^= 0x08
    path.write_bytes(data)
    (row,) = lab.scan(quick=True)
    assert row.status == "ok"
    assert row.reason.startswith("quick look: 3 of 90 pictures decoded")
    assert lab.runs() == ["P01_01"]
    lab.scan(quick=True)
    assert lab.runs() == []
    (full,) = lab.scan()
    assert lab.runs() == ["P01_01"]
    assert full.status == "damaged"
    assert "quick" not in full.reason
    assert lab.scan(quick=True) == [full]
    assert lab.runs() == []
    assert len(list(lab.cache.glob("P01_01.*.npz"))) == 1


def test_files_that_are_no_files_are_distinguished(house):
    lab = house(5)
    paths = [lab.path(video) for video in lab.videos]
    for path in paths[:4]:
        path.unlink()
    paths[1].mkdir()
    paths[2].symlink_to("gone.MP4")
    os.mkfifo(paths[3])
    rows = lab.scan(limits=QUICK_LIMITS)
    assert [(row.status, row.reason) for row in rows] == [
        ("missing", f"no file {paths[0]}"),
        ("unreadable", "cannot open: a directory"),
        ("unreadable", "cannot open: broken link to gone.MP4"),
        ("unreadable", "cannot open: not a regular file"),
        ("ok", ""),
    ]
    assert lab.runs() == ["P01_05"]
    assert lab.lines == [
        *(f"{row.video_id}: {row.status}: {row.reason}" for row in rows[:4]),
        "5 videos: 1 ok, 3 unreadable, 1 missing; 1 of them decoded now",
    ]


def test_every_video_that_is_not_sound_gets_one_line(house):
    lab = house(3)
    truncate(lab.path(lab.videos[1]), 0.6)
    zero_block(lab.path(lab.videos[2]), 0.5, 500)
    rows = lab.scan()
    assert [line.split(":")[0] for line in lab.lines[:-1]] == ["P01_02", "P01_03"]
    damaged = sum(stop - start for start, stop in rows[1].damaged)
    assert lab.lines[0].startswith(f"P01_02: damaged, {damaged} of 90 frames: truncated: ")
    assert all("\n" not in line for line in lab.lines)


def test_a_video_that_is_not_as_long_as_the_sheet_says_is_hinted_at(house):
    lab = house(1)
    lab.videos = [Video("P01_01", "P01", "train", 30000 / 1001, SECONDS + 2)]
    (row,) = lab.scan()
    assert row.status == "ok"
    assert row.reason == f"hint: it lasts {SECONDS:.1f} s, the sheet says {SECONDS + 2:.1f} s"


def test_a_link_to_a_file_of_another_name_is_that_video(house, tmp_path):
    lab = house(1)
    path = lab.path(lab.videos[0])
    path.rename(tmp_path / "elsewhere.mp4")
    path.symlink_to(tmp_path / "elsewhere.mp4")
    (row,) = lab.scan()
    assert (row.video_id, row.status) == ("P01_01", "ok")


def test_progress_tells_videos_speed_and_time_left(house, monkeypatch):
    monkeypatch.setattr("epic100.base.progress.PLAIN_SECONDS", 0.0)
    lab = house(3)
    with records_of("epic100.base.progress") as lines:
        lab.scan(threads=1)
    assert any("0/3 videos" in line and "x real time" in line for line in lines)
    assert any("2/3 videos" in line for line in lines)
    assert all(line.startswith("scan P01: ") for line in lines)
    assert lines[-1].startswith("scan P01: 270 frames in ")
    with records_of("epic100.base.progress") as lines:
        lab.scan()
    assert not lines  # nothing to decode, nothing to wait for


def test_videos_are_scanned_side_by_side(house):
    lab = house(4)
    for video in lab.videos:
        lab.path(video).write_bytes(b"wait".ljust(16))
    started = time.monotonic()
    lab.scan(limits=QUICK_LIMITS, threads=4)
    assert time.monotonic() - started < 18  # four times 5 s one after the other


def test_a_fragmented_file_is_scanned_like_any_other(house):
    lab = house(1)
    rewrite(lab.path(lab.videos[0]), lambda p: p, movflags="frag_keyframe+empty_moov")
    (row,) = lab.scan()
    assert (row.status, row.frames, row.reason) == ("ok", 90, "")
