"""A disk that refuses a read is asked again; then it is at fault, and no file is."""

import errno
import hashlib
import os
import subprocess

import pytest

from epic100.base import disk
from epic100.base.disk import Checksum, WatchedFile, digest, read_text
from epic100.base.errors import DiskError, EpicError
from epic100.base.text_table import read_frame
from epic100.segments.segment_list import read_segments


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO")
def test_a_read_that_the_disk_refuses_is_tried_again_on_the_file_opened_anew(tmp_path, monkeypatch):
    waited, link = [], tmp_path / "v.MP4"
    link.symlink_to("/proc/self/mem")  # nothing is mapped at its start: EIO
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


def test_what_a_file_is_by_itself_is_no_fault_of_the_disk(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        WatchedFile(tmp_path / "none")
    (tmp_path / "v.MP4").write_bytes(b"0123456789")
    file = WatchedFile(tmp_path / "v.MP4")
    assert (file.size, file.read(4), file.tell()) == (10, b"0123", 4)
    assert (file.seek(-2, os.SEEK_END), file.read(4)) == (8, b"89")
    assert file.read_at(2, 3) == b"234"
    assert file.seek(-11, os.SEEK_END) < 0  # and so it is in a spoilt file, which asks for it

    def refuse(handle):
        close(handle)
        raise OSError(errno.EIO, "Input/output error")

    close = os.close
    monkeypatch.setattr(disk.os, "close", refuse)
    file.close()  # which takes nothing from what was read


@pytest.mark.parametrize("content", [b"", b"a\n", bytes(3 << 20)])
def test_checksums_are_those_of_the_usual_tools(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest(path, "md5").value == hashlib.md5(content).hexdigest()
    assert digest(path, "sha256").value == hashlib.sha256(content).hexdigest()
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert digest(path, "git").value == git.stdout.strip()


def test_every_byte_is_watched(tmp_path):
    path, seen = tmp_path / "file", []
    path.write_bytes(bytes(2_500_000))
    digest(path, "md5", seen.append)
    assert sum(seen) == 2_500_000 and len(seen) == 3


def test_a_checksum_is_read_in_any_case():
    assert Checksum.parse(" MD5:" + "AB" * 16, "x") == Checksum("md5", "ab" * 16)


@pytest.mark.parametrize(
    "text", ["", "md5:", "md5:zz", "sha1:" + "0" * 40, "a" * 32, "git:" + "g" * 40]
)
def test_what_is_no_checksum_is_named(text):
    with pytest.raises(EpicError, match=r"sheet\.tsv: line 2: checksum is .*expected md5, sha256"):
        Checksum.parse(text, "sheet.tsv: line 2")
