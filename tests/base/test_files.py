"""Files: what a disk does when they are read and written, and tables in them.

A disk that refuses a read is asked again; then it is at fault, and no file is.
"""

import gc
import gzip
import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
import torch

from epic100.base import disk
from epic100.base.atomic import DiskFullError, atomic_path
from epic100.base.disk import Checksum, HashedFile, WatchedFile, digest, read_text
from epic100.base.errors import BrokenFile, DiskError, EpicError
from epic100.base.text_table import read_frame, read_own_table, read_table
from epic100.minikitchen.damage import coded_data
from epic100.segments.segment_list import read_segments
from support.packets import rewrite
from support.this_process import fork, largest_file
from support.tricky_videos import encode


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
def test_a_read_that_the_disk_refuses_is_tried_again_on_the_file_opened_anew(tmp_path, monkeypatch):
    waited, link = [], tmp_path / "v.MP4"
    # Nothing is mapped at the start of this file, so reads there fail with EIO.
    link.symlink_to("/proc/self/mem")
    (tmp_path / "whole").write_bytes(b"0123456789")
    monkeypatch.setattr(disk.time, "sleep", waited.append)
    file = WatchedFile(link)
    with pytest.raises(DiskError, match=r"v\.MP4: reading at byte 5 failed 4 times: Input/output"):
        file.read_at(5, 8)
    assert waited == list(disk.WAITS)
    monkeypatch.setattr(disk.time, "sleep", lambda _: (tmp_path / "whole").replace(link))
    assert file.read_at(5, 8) == b"56789" and file.size == 10


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
@pytest.mark.parametrize("read", [read_text, read_frame, read_segments])
def test_a_read_that_fails_names_its_file_whatever_reads_it(read, monkeypatch):
    monkeypatch.setattr(disk, "WAITS", ())
    with pytest.raises(DiskError, match="/proc/self/mem: reading.* failed 1 times: Input/output"):
        read("/proc/self/mem")


def test_what_a_file_is_by_itself_is_no_fault_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        WatchedFile(tmp_path / "none")
    (tmp_path / "v.MP4").write_bytes(b"0123456789")
    file = WatchedFile(tmp_path / "v.MP4")
    assert (file.size, file.read(4), file.tell()) == (10, b"0123", 4)
    assert (file.seek(-2, os.SEEK_END), file.read(4)) == (8, b"89")
    assert file.read_at(2, 3) == b"234"
    # A spoilt file may ask for a place before its start.
    assert file.seek(-11, os.SEEK_END) < 0
    os.close(file.descriptor)
    # An error of closing takes nothing from the bytes that were read, so none is raised.
    file.close()


@pytest.mark.parametrize(
    "order",
    [{}, {"movflags": "faststart"}, {"moov_size": str(2**18)}],
    ids=["index last", "index first", "a free box between index and pictures"],
)
def test_an_md5_takes_no_second_read_of_what_is_read_anyway(order, tmp_path, monkeypatch):
    path = rewrite(encode(tmp_path / "v.MP4", 90), **order)
    start, stop = coded_data(path, "moov")
    again, pread = [], os.pread
    with HashedFile(path) as file:
        with av.open(file, "r") as container:
            assert len(list(container.demux())) > 90
        monkeypatch.setattr(disk.os, "pread", lambda *what: again.append(pread(*what)) or again[-1])
        assert file.md5() == hashlib.md5(path.read_bytes()).hexdigest()
    assert sum(map(len, again)) <= (0 if order else stop - start + 8)


@pytest.mark.parametrize("content", [b"", b"a\n", bytes(2_500_000)])
def test_checksums_are_those_of_the_usual_tools(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest(path, "md5").value == hashlib.md5(content).hexdigest()
    assert digest(path, "sha256").value == hashlib.sha256(content).hexdigest()
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert digest(path, "git").value == git.stdout.strip()


def test_a_file_that_was_refused_closes_no_other_when_it_is_forgotten(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    refused = pytest.raises(BrokenFile, WatchedFile, tmp_path / "pipe")
    other = os.open(tmp_path / "file", os.O_RDONLY)
    del refused
    gc.collect()
    assert os.read(other, 9) == b"x"
    os.close(other)


@pytest.mark.parametrize(
    "text", ["", "md5:", "md5:zz", "sha1:" + "0" * 40, "a" * 32, "git:" + "g" * 40]
)
def test_what_is_no_checksum_is_named_and_one_is_read_in_any_case(text):
    assert Checksum.parse(" MD5:" + "AB" * 16, "x") == Checksum("md5", "ab" * 16)
    with pytest.raises(EpicError, match=r"sheet\.tsv: line 2: checksum is .*expected md5, sha256"):
        Checksum.parse(text, "sheet.tsv: line 2")


def test_a_file_has_its_name_only_when_it_is_whole_and_replaces_an_old_one_then(tmp_path):
    target = tmp_path / "new" / "folder" / "video.MP4"
    for old, new in ((None, b"first"), (b"first", b"second")):
        with atomic_path(str(target)) as temporary:
            assert temporary.parent == target.parent and temporary.suffix == ".MP4"
            temporary.write_bytes(new)
            assert (target.read_bytes() if target.exists() else None) == old
        assert target.read_bytes() == new and list(target.parent.iterdir()) == [target]


def fill_the_disk(temporary):
    temporary.unlink()
    temporary.symlink_to("/dev/full")
    temporary.write_text("new")


def stop_half_way(error):
    def write(temporary):
        temporary.write_text("half")
        raise error

    return write


@pytest.mark.parametrize(
    "write, failure, words",
    [
        (stop_half_way(ValueError("torn")), ValueError, "^torn$"),
        (stop_half_way(KeyboardInterrupt()), KeyboardInterrupt, ""),
        (lambda temporary: sys.exit(3), SystemExit, "3"),
        # An error about another file keeps its own words.
        (lambda temporary: Path("other").read_bytes(), FileNotFoundError, "No such .* 'other'$"),
        (fill_the_disk, DiskFullError, r"a\.txt: not written: No space left on device; make room"),
    ],
    ids=["an error", "Ctrl-C", "an exit, and nothing written", "another file", "a full disk"],
)
def test_whatever_stops_a_writer_the_old_file_stays_and_no_other(tmp_path, write, failure, words):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(failure, match=words), atomic_path(target) as temporary:
        write(temporary)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "name, words",
    [
        ("folder", "folder: not written: Is a directory"),
        ("file/a.txt", r"file/a\.txt: not written: File exists"),
    ],
)
def test_a_name_that_cannot_be_had_is_one_line_and_nothing_stays_behind(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EpicError, match=words), atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_limit_that_torch_runs_into_is_one_line_too(tmp_path):
    words, many = r"a\.pt: not written: File too large;", [torch.zeros(300) for _ in range(500)]
    with (
        largest_file(10_000),
        pytest.raises(DiskFullError, match=words),
        atomic_path(tmp_path / "a.pt") as path,
        path.open("wb") as file,
    ):
        torch.save(many, file)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_it_is_used(
    tmp_path, monkeypatch
):
    done = []

    def noted(module, name, what):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (done.append(what(*given)), real(*given)))

    noted(os, "fsync", lambda handle: os.fstat(handle).st_ino)
    noted(os, "replace", lambda old, new: "rename")
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert done == [(tmp_path / "a.txt").stat().st_ino, "rename", tmp_path.stat().st_ino]


def write_until_killed(target, names):
    with atomic_path(target) as outer, atomic_path(outer) as path:
        path.write_text("half")
        names.send([outer, path])
        time.sleep(60)


def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_living_one_s_is_not(tmp_path):
    target = tmp_path / "a [1].txt"
    ours, theirs = multiprocessing.Pipe()
    killed, living = (fork.Process(target=write_until_killed, args=(target, theirs)) for _ in "ab")
    killed.start()
    left = ours.recv()
    killed.kill()
    killed.join()
    old, other = tmp_path / ".a [1].4711.tmp.txt", tmp_path / ".b.4711.tmp.txt"
    # Temporary files of earlier versions had such names.
    for path in (old, other):
        path.write_text("half")
    living.start()
    busy = ours.recv()
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
    living.kill()
    assert sorted(tmp_path.iterdir()) == sorted([*busy, other, target])
    assert not any(path.exists() for path in left) and target.read_text() == "whole"


def table(tmp_path, content, delimiter=","):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, ("a", "b"), about="a table of mine", delimiter=delimiter)


@pytest.mark.parametrize(
    "content, rows",
    [
        (
            'a\tc\tb\n\n1\t"two\nlines"\t3\n\n\n"x\ty"\t\t\n',
            [(3, {"a": "1", "c": "two\nlines", "b": "3"}), (7, {"a": "x\ty", "c": "", "b": ""})],
        ),
        (b"\xef\xbb\xbfa\tb\r\n1\t2\r\n", [(2, {"a": "1", "b": "2"})]),
        ("a\tb\tc\n1\n", [(2, {"a": "1", "b": "", "c": ""})]),
        ("a\tb\n", []),
    ],
    ids=["blank lines", "Windows", "fields stripped by an editor", "a header alone"],
)
def test_rows_come_with_the_line_on_which_they_begin(tmp_path, content, rows):
    assert table(tmp_path, content, "\t") == rows


@pytest.mark.parametrize(
    "content, words",
    [
        ("", r"line 1: column a, b missing \(found: an empty line\); expected a table of mine"),
        ("a,c\n1,2\n", r"line 1: column b missing \(found: a, c\); expected a table of mine"),
        ("a,b,a\n1,2,3\n", r"line 1: column a is there twice; expected a table of mine"),
        ("a,b\n1,2\n\n1,2,3\n", r"line 4: 3 fields, the header has 2; expected a table of mine"),
        ('a,b\n1,2\n"1,2\n3,4\n', r"line 3: unexpected end of data; expected a table of mine"),
        ("a,b\nKüche,1\n".encode("latin-1"), r"not UTF-8 text .*; expected a table of mine"),
        (
            "a,b\n1,2\n".encode("utf-16"),
            r"not UTF-8 text \(UTF-16: save it as UTF-8\); expected a table of mine",
        ),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), r".*packed by gzip: unpack it.*"),
        (
            b"PK\x03\x04\xff",
            r"not UTF-8 text \(a zip or a spreadsheet: unpack it, or save it as .*",
        ),
        (b"a;b;c\n1;2;3\n", r".*fields separated by `;`.*: save them with commas.*"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", r"line 2: field larger.*; expected a table of mine"),
    ],
)
def test_what_is_no_such_table_is_one_error_with_file_and_line(tmp_path, content, words):
    with pytest.raises(EpicError, match=rf"table\.csv: {words}$"):
        table(tmp_path, content)


@pytest.mark.parametrize("name, what", [("none.csv", "no such file"), ("", "is a folder")])
def test_a_file_that_is_not_there_is_named_with_what_was_expected(tmp_path, name, what):
    with pytest.raises(EpicError, match=f"{tmp_path / name}: {what}; expected a table of mine"):
        read_table(tmp_path / name, ("a",), about="a table of mine")


def test_a_table_of_ours_comes_as_values_and_a_spoilt_one_as_one_error(tmp_path):
    path, kinds = tmp_path / "table.tsv", {"a": int, "b": str}
    path.write_text("b\ta\tc\nx\t1\t\n")
    assert read_own_table(path, kinds, about="a table of mine") == [{"a": 1, "b": "x"}]
    # The last line is cut.
    path.write_text("b\ta\nx\t1\ny\n")
    with pytest.raises(EpicError, match=r"table\.tsv: line 3: a is ''; expected a table of mine"):
        read_own_table(path, kinds, about="a table of mine")
