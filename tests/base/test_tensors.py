"""Tensor files of ours and of others: what is read, and what is not blamed on them."""

import multiprocessing
import os
import resource
import zipfile
from collections import OrderedDict
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
import torch

from epic100.base import foreign_tensors
from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import CACHE, KEPT, limited_call, read_foreign
from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors
from support.crafted import members_of, saved, zip_of

SHARED = torch.arange(12.0).reshape(3, 4)
CONTENT = {
    "weights": OrderedDict(a=torch.arange(500.0), b=torch.zeros(2, 3, dtype=torch.int64)),
    "names": ["x", ("y", 1.5, None, True), {0: "take"}, "\n\udce9"],
    "halves": [torch.ones(3, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16)],
    "views": [SHARED[1], SHARED.T, SHARED],
    "none": torch.empty(0, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "one": torch.tensor(7),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path, **options):
    return read_foreign(path, "a thing", "do it again", **options)


def same(one, other) -> bool:
    """Whether two contents are equal, in types of containers and of numbers too."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other)) and len(one) == len(other)
    return type(one) is type(other) and one == other


def read_ours(path):
    return read_tensors(path, "a thing", "do it again")


# `False` means the format before torch 1.6.
@pytest.mark.slow
@pytest.mark.parametrize("is_new", [True, False])
def test_a_content_comes_out_as_it_went_in_and_no_tensor_shares_its_values(is_new):
    torch.save(CONTENT, "a.pt", _use_new_zipfile_serialization=is_new)
    assert same(CONTENT, read_ours("a.pt"))
    content = read("a.pt")
    assert same(CONTENT, content)
    row, across, whole = content["views"]
    row.fill_(0)
    assert torch.equal(across, SHARED.T) and torch.equal(whole, SHARED)
    assert across.untyped_storage().nbytes() == across.nbytes
    for content in (7, "text", None, [], torch.tensor(1)):
        write_tensors(content, "a.pt")
        assert read("a.pt") == read_ours("a.pt") == content
    assert os.listdir() == ["a.pt"]


@pytest.mark.slow
def test_objects_of_foreign_classes_are_left_out_of_a_checkpoint_and_refused_elsewhere():
    share = {"share": Fraction(1, 3), "epoch": 3}
    torch.save({"state_dict": {"a": torch.ones(3)}, "meta": share, "optimizer": share}, "a.pt")
    words = r"^a\.pt: not a thing \(holds fractions\.Fraction besides tensors, which only running "
    with pytest.raises(BrokenFile, match=f"{words}.*; do it again$"):
        read("a.pt")
    checkpoint = read("a.pt", weights_alone=True)
    assert checkpoint["state_dict"]["a"].sum() == 3
    assert checkpoint["meta"] == {"share": None, "epoch": 3} and "optimizer" not in checkpoint


@pytest.mark.slow
def test_a_run_asks_the_guard_once_a_file_and_keeps_the_newest_results(monkeypatch):
    CACHE.parent.mkdir()
    for number in range(KEPT + 2):
        write_tensors([number], f"{number}.pt")
        assert read(f"{number}.pt") == [number]
    kept = sorted(CACHE.iterdir(), key=os.path.getmtime)
    assert len(kept) == KEPT
    kept[0].write_bytes(b"no more")
    assert read("2.pt") == [2], "made anew"

    def refuse(*arguments, **options):
        raise AssertionError("the guard is asked again")

    monkeypatch.setattr(foreign_tensors, "call", refuse)
    os.rename("8.pt", "other.pt")
    assert read("other.pt") == [8]
    write_tensors(["changed"], "8.pt")
    with pytest.raises(AssertionError, match="asked again"):
        read("8.pt")
    assert {path.name for path in Path().iterdir()} >= {"other.pt", ".snakemake"}


@pytest.mark.slow
def test_a_result_goes_into_the_file_that_is_locked_and_not_into_a_new_one():
    """Another job that read the same file took that one for a leftover, and removed it."""
    write_tensors([1], "1.pt")
    with atomic_path("result") as temporary:
        before = temporary.stat().st_ino
        limited_call(REDUCE, "1.pt", str(temporary), False, file="1.pt", size=2000)
        assert temporary.stat().st_ino == before


@pytest.mark.slow
def test_a_small_zip_of_large_members_is_refused_before_they_are_written(tmp_path):
    """One of 8 MiB wrote 1.8 GiB below `.snakemake` first."""
    members = members_of(saved({"a": torch.zeros(2**22)}))
    (tmp_path / "a.pth").write_bytes(zip_of(*members, method=zipfile.ZIP_DEFLATED))
    with pytest.raises(BrokenFile, match="a zip whose members are much larger than it is"):
        read(tmp_path / "a.pth")


@pytest.mark.slow
def test_a_machine_without_memory_is_not_the_file_s_fault(monkeypatch):
    write_tensors(torch.zeros(2**24), "large.pt")
    monkeypatch.setattr(foreign_tensors, "_reduce", short_of_memory)
    with pytest.raises(
        EpicError, match=r"^large\.pt: cannot be read: too little memory for its 64"
    ):
        read("large.pt")


def short_of_memory(*arguments, progress):
    """What the guard does on a machine whose own limit is lower than the file's."""
    low = psutil.Process().memory_info().vms + 2**24
    resource.setrlimit(resource.RLIMIT_AS, (low, low))
    return REDUCE(*arguments, progress)


REDUCE = foreign_tensors._reduce


def test_bytes_altered_anywhere_give_the_content_or_one_error_and_the_name_does_not_matter():
    content = CONTENT | {"few": bytearray(b"abc")}
    write_tensors(content, "a.pt")
    write_tensors(content, "b.pt")
    whole = Path("a.pt").read_bytes()
    assert whole == Path("b.pt").read_bytes()
    for at in range(0, len(whole), 97):
        Path("a.pt").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with suppress(BrokenFile):
            assert same(content, read_ours("a.pt")), at


@pytest.mark.parametrize("reader", [read_tensors, read_foreign])
@pytest.mark.parametrize(
    "name, words",
    [
        (".", "cannot be read: Is a directory; expected a file"),
        ("none.pt", "no such file; do it again$"),
    ],
)
def test_a_disk_or_a_missing_file_is_not_the_file_s_fault(tmp_path, reader, name, words):
    with pytest.raises(EpicError, match=f"{tmp_path / name}: {words}") as caught:
        reader(tmp_path / name, "a thing", "do it again")
    assert not isinstance(caught.value, BrokenFile)


def read_within(path, mib):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + mib * 2**20,) * 2)
    read_ours(path)


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
