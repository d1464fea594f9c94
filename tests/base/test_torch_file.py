"""Tensor files of ours: what is read, what is damaged, and what is not blamed on them."""

import multiprocessing
import os
import resource
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import read_foreign
from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors

CONTENT = {
    "weights": OrderedDict(a=torch.arange(500.0), b=torch.zeros(2, 3, dtype=torch.int64)),
    "names": ["x", ("y", 1.5)],
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def read(path, **options):
    return read_tensors(path, "a thing", "do it again", **options)


@pytest.fixture
def path(tmp_path):
    write_tensors(CONTENT, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_what_is_written_is_read_and_the_bytes_do_not_depend_on_the_name(path, tmp_path):
    content = read(path)
    assert torch.equal(content["weights"]["a"], CONTENT["weights"]["a"])
    assert content["names"] == CONTENT["names"] and content["half"].dtype == torch.bfloat16
    write_tensors(CONTENT, tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_bytes() == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "b.pt"]
    for content in (7, "text", None, [], torch.tensor(1), {"few": bytearray(b"abc")}):
        write_tensors(content, path)
        assert read(path) == content


def test_bytes_altered_anywhere_give_the_content_or_one_error(path):
    whole = path.read_bytes()
    for at in range(0, len(whole), 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with suppress(BrokenFile):
            assert torch.equal(read(path)["weights"]["a"], CONTENT["weights"]["a"]), at


@pytest.mark.parametrize("reader", [read_tensors, read_foreign])
@pytest.mark.parametrize("name, words", [
    (".", "cannot be read: Is a directory; expected a file"),
    ("none.pt", "no such file; do it again$"),
])  # fmt: skip
def test_a_disk_or_a_missing_file_is_not_the_file_s_fault(tmp_path, reader, name, words):
    with pytest.raises(EpicError, match=f"{tmp_path / name}: {words}") as caught:
        reader(tmp_path / name, "a thing", "do it again")
    assert not isinstance(caught.value, BrokenFile)


def read_within(path, mib):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + mib * 2**20,) * 2)
    read(path)


def test_too_little_memory_is_not_the_file_s_fault(tmp_path):
    write_tensors(torch.zeros(2**24), tmp_path / "large.pt")
    words = r"large\.pt: cannot be read: too little memory for its 64\.0 MiB"
    with (
        # A spawned process has no free memory of this one that it could use.
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(EpicError, match=words) as caught,
    ):
        pool.apply(read_within, (tmp_path / "large.pt", 40))
    assert not isinstance(caught.value, BrokenFile)


def test_a_file_that_cannot_be_written_leaves_the_old_one(path):
    whole = path.read_bytes()
    with pytest.raises(Exception, match="lambda"):
        write_tensors({"a": lambda: 0}, path)
    assert path.read_bytes() == whole and os.listdir(path.parent) == ["a.pt"]
