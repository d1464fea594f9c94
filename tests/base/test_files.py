"""Reads and writes on a disk that may fail, folders with several writers, and text tables."""

import gc
import gzip
import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import av
import pytest
import torch

from epic100.base.atomic import LEFTOVER_SECONDS, DiskFullError, atomic_path, new_folder
from epic100.base.disk import WAITS, Checksum, HashedFile, WatchedFile, digest, read_text
from epic100.base.errors import BrokenFile, DiskError, EpicError
from epic100.base.text_table import read_frame, read_table
from epic100.data.segment_list import read_segments
from epic100.minikitchen.damage import coded_data
from support.packets import rewrite
from support.this_process import largest_file
from support.tricky_videos import encode

# Nothing is mapped at the start of this file, so reads there fail with "Input/output error".
FAILING_FILE = "/proc/self/mem"
needs_failing_file = pytest.mark.skipif(
    not os.path.exists(FAILING_FILE), reason="no file here that gives EIO"
)


@needs_failing_file
def test_a_failed_read_is_repeated_after_reopening(tmp_path, monkeypatch):
    link = tmp_path / "v.MP4"
    link.symlink_to(FAILING_FILE)
    file = WatchedFile(link)
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(DiskError, match=r"v\.MP4: reading at byte 5 failed 4 times: Input/output"):
        file.read_at(5, 8)
    assert waits == list(WAITS)

    # During the first wait, an undamaged file takes the place of the failing one.
    (tmp_path / "undamaged").write_bytes(b"0123456789")
    monkeypatch.setattr("time.sleep", lambda _: (tmp_path / "undamaged").replace(link))
    assert file.read_at(5, 8) == b"56789"
    assert file.size == 10


@needs_failing_file
@pytest.mark.parametrize("read", [read_text, read_frame, read_segments])
def test_every_reader_names_the_file_whose_read_failed(read, monkeypatch):
    monkeypatch.setattr("epic100.base.disk.WAITS", ())
    with pytest.raises(DiskError, match=f"{FAILING_FILE}: reading.* failed 1 times: Input/output"):
        read(FAILING_FILE)


def test_seeking_before_the_start_is_an_error(tmp_path):
    (tmp_path / "v.MP4").write_bytes(b"0123456789")
    file = WatchedFile(tmp_path / "v.MP4")
    assert file.seek(-2, os.SEEK_END) == 8
    # A damaged video makes FFmpeg ask for such a position.
    assert file.seek(-11, os.SEEK_END) < 0
    assert file.read(4) == b"89"


@pytest.mark.parametrize(
    "layout, is_index_last",
    [
        pytest.param({}, True, id="index last"),
        pytest.param({"movflags": "faststart"}, False, id="index first"),
        pytest.param({"moov_size": str(2**18)}, False, id="free box between index and frames"),
    ],
)
def test_an_md5_reads_each_byte_once(layout, is_index_last, tmp_path, monkeypatch):
    path = rewrite(encode(tmp_path / "v.MP4", 90), **layout)
    index_start, index_stop = coded_data(path, "moov")
    pread = Mock(wraps=os.pread)
    with HashedFile(path) as file:
        with av.open(file, "r") as container:
            list(container.demux())
        monkeypatch.setattr(os, "pread", pread)
        assert file.md5() == hashlib.md5(path.read_bytes()).hexdigest()
    # The arguments of `os.pread` are a descriptor, a number of bytes and a position.
    positions = [read.args[2] for read in pread.call_args_list]
    # The header of the index box, its size and its name, has 8 bytes.
    index_bytes = index_stop - index_start + 8
    assert min(positions) >= path.stat().st_size - (index_bytes if is_index_last else 0)


@pytest.mark.parametrize("content", [b"", b"a\n", bytes(2_500_000)], ids=["empty", "text", "large"])
def test_checksums_are_those_of_the_usual_tools(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    expected = {
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "git": git.stdout.strip(),
    }
    assert {name: digest(path, name).value for name in expected} == expected


def test_a_rejected_file_closes_no_other_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    rejected = pytest.raises(BrokenFile, WatchedFile, tmp_path / "pipe")
    # The system gives the number of the closed descriptor to this file.
    other = os.open(tmp_path / "file", os.O_RDONLY)
    del rejected
    gc.collect()
    assert os.read(other, 9) == b"x"
    os.close(other)


def test_a_checksum_is_read_in_upper_case_too():
    assert Checksum.parse(" MD5:" + "AB" * 16, "x") == Checksum("md5", "ab" * 16)


@pytest.mark.parametrize(
    "text", ["", "md5:", "md5:zz", "sha1:" + "0" * 40, "a" * 32, "git:" + "g" * 40]
)
def test_a_bad_checksum_is_rejected_with_its_place(text):
    with pytest.raises(EpicError, match=r"sheet\.tsv: line 2: checksum is .*expected md5, sha256"):
        Checksum.parse(text, "sheet.tsv: line 2")


def test_only_a_complete_file_has_its_name(tmp_path):
    target = tmp_path / "new/folder/video.MP4"
    with atomic_path(str(target)) as temporary:
        temporary.write_bytes(b"complete")
        assert re.fullmatch(r"\.video\.[0-9a-f]{16}\.tmp\.MP4", temporary.name)
        assert os.listdir(target.parent) == [temporary.name]
    assert target.read_bytes() == b"complete"
    assert os.listdir(target.parent) == [target.name]


def stop_half_way(temporary, error):
    temporary.write_text("half")
    raise error


def fill_the_disk(temporary):
    temporary.unlink()
    temporary.symlink_to("/dev/full")
    temporary.write_text("new")


@pytest.mark.parametrize(
    "write, failure, words",
    [
        pytest.param(
            partial(stop_half_way, error=ValueError("torn")), ValueError, "^torn$", id="an error"
        ),
        pytest.param(
            partial(stop_half_way, error=KeyboardInterrupt()), KeyboardInterrupt, "^$", id="Ctrl-C"
        ),
        pytest.param(lambda temporary: sys.exit(3), SystemExit, "3", id="an exit before a write"),
        pytest.param(
            lambda temporary: Path("other").read_bytes(),
            FileNotFoundError,
            "No such .* 'other'$",
            id="an error about a second file",
        ),
        pytest.param(
            fill_the_disk,
            DiskFullError,
            r"a\.txt: not written: No space left on device; make room",
            id="a full disk",
        ),
    ],
)
def test_a_stopped_writer_keeps_the_old_file(tmp_path, write, failure, words):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(failure, match=words), atomic_path(target) as temporary:
        write(temporary)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "name, words",
    [
        ("folder", "folder: not written: Is a directory"),
        ("file/a.txt", r"file/a\.txt: not written: File exists"),
    ],
)
def test_impossible_paths_are_rejected_and_leave_no_file(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EpicError, match=words), atomic_path(tmp_path / name) as temporary:
        temporary.write_text("content")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_torch_s_error_hides_no_full_disk(tmp_path):
    # 500 tensors of 1200 bytes are more than the 10,000 bytes that a file may have here.
    tensors = [torch.zeros(300) for _ in range(500)]
    with (
        largest_file(10_000),
        pytest.raises(DiskFullError, match=r"a\.pt: not written: File too large;"),
        atomic_path(tmp_path / "a.pt") as path,
        path.open("wb") as file,
    ):
        torch.save(tensors, file)
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_its_name_are_synced(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    synced = []

    def record(descriptor):
        synced.append((os.fstat(descriptor).st_ino, target.exists()))

    monkeypatch.setattr(os, "fsync", record)
    with atomic_path(target) as temporary:
        temporary.write_text("content")
    # The file is synced before it has its name, and the folder afterwards.
    assert synced == [(target.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_writers_remove_day_old_files_of_killed_writers(tmp_path):
    target = tmp_path / "a [1].txt"
    yesterday = time.time() - LEFTOVER_SECONDS - 60
    names = [".a [1].0123456789abcdef.tmp.txt", "..a [1].01.tmp.23.tmp.txt", ".b.01.tmp.txt"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (yesterday, yesterday))
    of_living_writer = tmp_path / ".a [1].4567.tmp.txt"
    of_living_writer.touch()
    with atomic_path(target) as temporary:
        temporary.write_text("complete")
    assert set(tmp_path.iterdir()) == {target, of_living_writer, tmp_path / ".b.01.tmp.txt"}


def test_the_last_of_two_writers_wins(tmp_path):
    folder = tmp_path / "browse"
    with new_folder(folder) as first:
        (first / "first").touch()
        with new_folder(folder) as second:
            (second / "second").touch()
        assert os.listdir(folder) == ["second"]
    assert os.listdir(folder) == ["first"]
    assert os.listdir(tmp_path) == ["browse"]


def test_a_folder_is_of_one_simultaneous_writer(tmp_path):
    folder = tmp_path / "browse"

    def write_often(number):
        for _ in range(25):
            with new_folder(folder) as new:
                (new / "a").write_text(str(number))
                (new / "b").write_text(str(number))

    with ThreadPoolExecutor(4) as pool:
        # The list raises the first error of a writer.
        list(pool.map(write_often, range(4)))
    assert (folder / "a").read_text() == (folder / "b").read_text()
    assert os.listdir(tmp_path) == ["browse"]


def test_what_killed_writers_left_is_removed_later(tmp_path):
    for name in ("old", "new"):
        (tmp_path / f".browse.new-{name}/new").mkdir(parents=True)
    os.utime(tmp_path / ".browse.new-old", (time.time() - 2 * 24 * 3600,) * 2)
    with new_folder(tmp_path / "browse"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".browse.new-new", "browse"]


ABOUT = "a table of mine"


def table_of(tmp_path, content, delimiter=","):
    """Write a file of this content, and read it as a table with columns `a` and `b`."""
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return read_table(path, ("a", "b"), about=ABOUT, delimiter=delimiter)


@pytest.mark.parametrize(
    "content, rows",
    [
        pytest.param(
            b'a\tc\tb\n\n1\t"two\nlines"\t3\n\n\n"x\ty"\t\t\n',
            [(3, {"a": "1", "c": "two\nlines", "b": "3"}), (7, {"a": "x\ty", "c": "", "b": ""})],
            id="blank lines",
        ),
        pytest.param(b"\xef\xbb\xbfa\tb\r\n1\t2\r\n", [(2, {"a": "1", "b": "2"})], id="Windows"),
        pytest.param(
            b"a\tb\tc\n1\n", [(2, {"a": "1", "b": "", "c": ""})], id="empty fields left out"
        ),
        pytest.param(b"a\tb\n", [], id="a header alone"),
    ],
)
def test_rows_are_numbered_by_their_first_line(tmp_path, content, rows):
    assert table_of(tmp_path, content, delimiter="\t") == rows


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", rf"line 1: column a, b missing \(found: nothing, .* is empty\); expected {ABOUT}"),
        (b"a,c\n1,2\n", rf"line 1: column b missing \(found: a, c\); expected {ABOUT}"),
        (b"a,b,a\n1,2,3\n", f"line 1: column a is there twice; expected {ABOUT}"),
        (b"a,b\n1,2\n\n1,2,3\n", f"line 4: 3 fields, the header has 2; expected {ABOUT}"),
        (b'a,b\n1,2\n"1,2\n3,4\n', f"line 3: unexpected end of data; expected {ABOUT}"),
        ("a,b\nKüche,1\n".encode("latin-1"), f"not UTF-8 text .*; expected {ABOUT}"),
        (
            "a,b\n1,2\n".encode("utf-16"),
            rf"not UTF-8 text \(UTF-16: save it as UTF-8\); expected {ABOUT}",
        ),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), ".*packed by gzip: unpack it.*"),
        (
            b"PK\x03\x04\xff",
            r"not UTF-8 text \(a zip or a spreadsheet: unpack it, or save it as .*",
        ),
        (b"a;b;c\n1;2;3\n", ".*found: semicolons between the fields: save it with commas.*"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", f"line 2: field larger.*; expected {ABOUT}"),
    ],
    ids=[
        "empty",
        "a missing column",
        "a column twice",
        "too many fields",
        "an open quote",
        "Latin-1",
        "UTF-16",
        "gzip",
        "a spreadsheet",
        "semicolons",
        "a long field",
    ],
)
def test_a_bad_table_is_one_error_with_line(tmp_path, content, words):
    with pytest.raises(EpicError, match=rf"table\.csv: {words}$"):
        table_of(tmp_path, content)


@pytest.mark.parametrize("name, reason", [("none.csv", "no such file"), ("", "is a folder")])
def test_an_error_about_a_missing_file_explains_it(tmp_path, name, reason):
    with pytest.raises(EpicError, match=f"{tmp_path / name}: {reason}; expected {ABOUT}"):
        read_table(tmp_path / name, ("a",), about=ABOUT)
