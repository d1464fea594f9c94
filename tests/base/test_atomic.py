import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from epic100.base.atomic import DiskFullError, atomic_path
from epic100.base.errors import EpicError
from support.limits import largest_file


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_has_its_name_only_when_it_is_whole_and_replaces_an_old_one_then(tmp_path, old):
    target = tmp_path / "new" / "folder" / "video.MP4"
    if old:
        target.parent.mkdir(parents=True)
        target.write_bytes(old)
    with atomic_path(str(target)) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".MP4"
        temporary.write_bytes(b"first second")
        assert (target.read_bytes() if target.exists() else None) == old
    assert target.read_bytes() == b"first second" and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("written", [True, False])
def test_whatever_stops_a_writer_the_old_file_stays_and_no_other(tmp_path, failure, written):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(failure), atomic_path(target) as temporary:
        if written:
            temporary.write_text("half")
        raise failure
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name, words", [
    ("folder", "folder: not written: Is a directory"),
    ("file/a.txt", r"file/a\.txt: not written: File exists"),
])  # fmt: skip
def test_a_name_that_cannot_be_had_is_one_line_and_nothing_stays_behind(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EpicError, match=words), atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_the_old_one(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    words = r"a\.txt: not written: No space left on device; make room and run again"
    with pytest.raises(EpicError, match=words), atomic_path(target) as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("new")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


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


def test_an_error_about_another_file_keeps_its_own_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "other").read_bytes()


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


def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_living_one_s_is_not(tmp_path):
    code = (
        "import os, signal, sys, time; from epic100.base.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as outer, atomic_path(outer) as path:\n"
        "    path.write_text('half'); print(outer, path, sep='\\t', flush=True); time.sleep(60)\n"
    )
    target = tmp_path / "a [1].txt"
    run = [sys.executable, "-c", code, target]
    with (
        subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as living,
    ):
        left, busy = (
            [Path(name) for name in each.stdout.readline().strip().split("\t")]
            for each in (killed, living)
        )
        killed.kill()
        killed.wait()
        old = tmp_path / ".a [1].4711.tmp.txt"  # as it was named before
        other = tmp_path / ".b.4711.tmp.txt"
        for path in (old, other):
            path.write_text("half")
        with atomic_path(target) as temporary:
            temporary.write_text("whole")
        assert sorted(tmp_path.iterdir()) == sorted([*busy, other, target])
        assert not any(path.exists() for path in left)
        living.kill()
    assert target.read_text() == "whole"
