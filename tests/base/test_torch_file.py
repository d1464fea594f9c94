"""The one reader of tensor files: what it takes, what it refuses, and what it does not blame."""

import multiprocessing
import os
import resource
import zipfile
from collections import OrderedDict
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import BrokenFile, read_tensors, tensor_bytes, write_tensors

CONTENT = {
    "weights": OrderedDict(a=torch.arange(500.0), b=torch.zeros(2, 3, dtype=torch.int64)),
    "names": ["x", ("y", 1.5)],
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def read(path, **options):
    return read_tensors(path, "a thing", "do it again", **options)


def refused(path, words, **options) -> str:
    with pytest.raises(BrokenFile, match=words) as caught:
        read(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: not a thing (") and "\n" not in text
    return text


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


@pytest.mark.parametrize("is_new", [True, False])  # or the format before torch 1.6
def test_a_file_cut_short_is_refused_wherever_it_ends(path, is_new):
    torch.save(CONTENT, path, _use_new_zipfile_serialization=is_new)
    assert torch.equal(read(path)["half"], CONTENT["half"])
    whole = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.7, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        refused(path, "cut short, its end is missing" if share and is_new else "do it again$")


def test_bytes_altered_anywhere_give_the_content_or_one_error(path):
    whole = path.read_bytes()
    for at in range(0, len(whole), 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with suppress(BrokenFile):
            assert torch.equal(read(path)["weights"]["a"], CONTENT["weights"]["a"]), at


class Trap:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_objects_of_foreign_classes_are_dropped_and_code_is_run_only_on_wish(tmp_path):
    path, mark = tmp_path / "a.pt", tmp_path / "sprung"
    torch.save({"weights": torch.ones(3), "share": Fraction(1, 3)}, path)
    refused(path, "holds fractions.Fraction besides tensors, which only running")
    content = read(path, drop_objects=True)
    assert content["weights"].sum() == 3 and not isinstance(content["share"], Fraction)
    torch.save({"weights": torch.ones(3), "trap": Trap(mark)}, path)
    assert "mkdir besides tensors" in refused(path, "; do it again$")
    refused(path, "; trust it first$", code_remedy="trust it first")
    refused(path, "mkdir besides tensors", drop_objects=True)  # torch knows it for a danger
    assert not mark.exists()
    assert read(path, allow_pickle=True)["weights"].sum() == 3 and mark.exists()


PICKLE = "archive/data.pkl"
# BYTEARRAY8 makes as many bytes as it says before it reads any; torch calls bytearray.
EIGHT = b"\x80\x05\x96" + (2**40).to_bytes(8, "little")
CALLED = b"\x80\x02cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR."


@pytest.mark.parametrize("member, change, words", [
    # Of this one torch.load makes a tensor that reads the memory behind.
    ("archive/data/0", lambda data: data[:16], "storage 0 has fewer bytes than the file claims"),
    (PICKLE, lambda _: EIGHT, "do it again$"),
    (PICKLE, lambda _: CALLED, "asks for memory"),
])  # fmt: skip
def test_what_claims_bytes_that_are_not_there_is_refused(path, member, change, words):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = change(members[member])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)  # with sound checksums
    refused(path, words)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(PICKLE, bytes(65 * 2**20))
    assert path.stat().st_size < 2**20
    refused(path, "its members are packed")  # before they are unpacked


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_more_values_than_the_file_can_hold_are_refused(tmp_path, zipped):
    path = tmp_path / "a.pt"
    wide = torch.ones(1).expand(50_000, 50_000)
    torch.save([wide], path, _use_new_zipfile_serialization=zipped)
    assert path.stat().st_size < 4000
    refused(path, r"its tensors have more than 64 MiB of values")
    assert read(path, most=10**11)[0].shape == wide.shape
    rows = [torch.ones(1).expand(1000)] * 3  # small ones are no danger
    torch.save(rows, path)
    refused(path, "more than 0 MiB", most=11_999)
    assert len(read(path)) == 3
    nested = [torch.ones(1)]  # lists within themselves come to an end
    for _ in range(40):
        nested = [nested, nested]
    assert tensor_bytes(nested, most=10**6) > 10**6
    write_tensors(nested, path)
    refused(path, "more than 64 MiB of values")


@pytest.mark.parametrize("name, words", [
    (".", "cannot be read: Is a directory; check the disk.*"),
    ("none.pt", "no such file; do it again$"),
])  # fmt: skip
def test_a_disk_or_a_missing_file_is_not_the_file_s_fault(tmp_path, name, words):
    with pytest.raises(EpicError, match=f"{tmp_path / name}: {words}") as caught:
        read(tmp_path / name)
    assert not isinstance(caught.value, BrokenFile)


def read_within(path, mib):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + mib * 2**20,) * 2)
    read(path)


def test_too_little_memory_is_not_the_file_s_fault(tmp_path):
    write_tensors(torch.zeros(2**24), tmp_path / "large.pt")
    words = r"large\.pt: cannot be read: too little memory for its 64\.0 MiB"
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,  # no memory of ours to use
        pytest.raises(EpicError, match=words) as caught,
    ):
        pool.apply(read_within, (tmp_path / "large.pt", 40))
    assert not isinstance(caught.value, BrokenFile)


def test_a_file_that_cannot_be_written_leaves_the_old_one(path):
    whole = path.read_bytes()
    with pytest.raises(Exception, match="lambda"):
        write_tensors({"a": lambda: 0}, path)
    assert path.read_bytes() == whole and os.listdir(path.parent) == ["a.pt"]
