"""What the machine does to a scan is never a property of a video."""

import errno
import os
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.scan import WORKER, participant, scan_participant
from epic100.video import watched_file
from epic100.video.watched_file import WatchedFile
from support.decoder_stand_in import House

pytestmark = pytest.mark.slow

# Does what the file `order` beside it says, once for each line, then scans.
STAND_IN = """
import os, pathlib, runpy, shutil, signal, sys
from epic100.video.fork_server import arguments_of_orders
sys.argv[1:] = arguments_of_orders()
path, out = map(pathlib.Path, sys.argv[1:3])
with open(out.parent / "runs", "a") as runs:
    print(path.name, file=runs)
orders = path.with_suffix(".order")
now, *later = (orders.read_text().split() if orders.exists() else []) or [""]
orders.write_text(" ".join(later))
if now == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if now == "io":
    sys.exit(74)
if now == "import":
    import no_such_module
if now == "rubbish":
    out.write_bytes(b"no result")
if now in ("rubbish", "nothing"):
    print("frames 0", flush=True)
    sys.exit(0)
sys.argv = ["scan_worker", *sys.argv[1:]]
runpy.run_module("epic100.scan.worker", run_name="__main__")
if now == "touch":
    os.utime(path)
if now == "replace":
    shutil.copyfile(path, path.with_suffix(".other"))
    state = path.stat()
    os.utime(path.with_suffix(".other"), ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(path.with_suffix(".other"), path)
if now == "cut":
    os.truncate(path, path.stat().st_size // 2)
"""


class Scans(House):
    def __init__(self, folder: Path, video: bytes, count: int):
        super().__init__(folder, video, count, STAND_IN, counted=folder / "scan/cache/P01")
        self.table = folder / "scan/P01.tsv"

    def order(self, number: int, *words: str) -> None:
        self.path(self.videos[number]).with_suffix(".order").write_text(" ".join(words))

    def scan(self, worker=None):
        return scan_participant(
            self.videos, self.folder, self.table, self.folder / "scan/P01.index.npz",
            worker=worker or self.stand_in,
        )  # fmt: skip


@pytest.fixture
def house(tmp_path, short_video, monkeypatch):
    monkeypatch.setattr(participant, "RETRY_SECONDS", (0.0, 0.0))
    return lambda count: Scans(tmp_path, short_video, count)


@pytest.mark.parametrize(
    "fault", ["kill", "io", "import", "rubbish", "nothing", "touch", "replace", "cut"]
)
def test_a_fault_that_passes_is_tried_again_and_leaves_no_trace(fault, house):
    lab = house(2)
    lab.order(0, fault)
    rows = lab.scan()
    expected = "damaged" if fault == "cut" else "ok"  # as the file is now
    assert [row.status for row in rows] == [expected, "ok"]
    assert lab.runs() == ["P01_01"] * 2 + ["P01_02"]
    assert lab.scan() == rows
    assert lab.runs() == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("kill", "ended from outside"),
        ("io", "exit code 74"),
        ("import", "did not start"),
        ("nothing", "left no result"),
        ("touch", "changed while it was scanned"),
    ],
)
def test_a_fault_that_stays_ends_the_scan_once_all_others_are_done(fault, words, house):
    lab = house(3)
    lab.order(0, *[fault] * 3)
    with pytest.raises(
        EpicError, match=rf"P01\.tsv: not written, .* P01_01: .*{words}.* run again"
    ):
        lab.scan()
    assert not lab.table.exists()
    lab.runs()
    assert [row.status for row in lab.scan()] == ["ok"] * 3
    assert lab.runs() == ["P01_01"]


def test_a_full_cache_makes_no_sound_video_unreadable(house):
    lab = house(2)
    small = ("sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *WORKER)  # files of one block at most
    with pytest.raises(EpicError, match=r"P01_01: .*not written: File too large"):
        lab.scan(small)
    assert not lab.table.exists()
    assert [row.status for row in lab.scan()] == ["ok", "ok"]


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
def test_a_read_that_the_disk_refuses_is_tried_again_and_then_an_error(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(watched_file.time, "sleep", waited.append)
    with pytest.raises(EpicError, match=r"/proc/self/mem: reading at byte 5 failed 4 times"):
        WatchedFile("/proc/self/mem").read_at(5, 8)  # nothing is mapped there: EIO
    assert waited == list(watched_file.RETRY_SECONDS)


def test_what_a_file_is_by_itself_is_no_fault_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        WatchedFile(tmp_path / "none")
    (tmp_path / "v.MP4").write_bytes(b"0123456789")
    file = WatchedFile(tmp_path / "v.MP4")
    assert (file.size, file.read(4), file.tell()) == (10, b"0123", 4)
    assert (file.seek(-2, os.SEEK_END), file.read(4)) == (8, b"89")
    assert file.read_at(2, 3) == b"234"
    assert file.seek(-11, os.SEEK_END) < 0  # and so it is in a spoilt file, which asks for it
    file.close()


def test_a_refused_close_takes_nothing_from_what_was_read(tmp_path, monkeypatch):
    (tmp_path / "v.MP4").write_bytes(b"0123456789")
    file = WatchedFile(tmp_path / "v.MP4")
    assert file.read(10) == b"0123456789"

    def refuse(handle):
        close(handle)
        raise OSError(errno.EIO, "Input/output error")

    close = os.close
    monkeypatch.setattr(watched_file.os, "close", refuse)
    file.close()
