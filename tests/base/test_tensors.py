"""Tensor files of this workflow and of others: what is read, and what is no defect of the file."""

import multiprocessing
import os
import pickle
import re
import resource
from collections import OrderedDict, defaultdict
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors
from epic100.base.untrusted_tensors import read_untrusted, require_finite
from support.crafted import saved

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
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(path, **options):
    """Read an untrusted file in this process, without limits: test_guarded.py tests both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epic100.base.guarded._in_a_call", True)
        patch.setattr("epic100.base.untrusted_tensors.limit_process", lambda limits: None)
        patch.setattr(torch, "set_num_threads", lambda number: None)
        return read_apart(path, **options)


read_apart = partial(read_untrusted, what="a thing", remedy="do it again")
read_ours = partial(read_tensors, what="a thing", remedy="do it again")


def same(one, other) -> bool:
    """Whether two contents have equal values and tensors, and the same types of them."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other)) and len(one) == len(other)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    "reader, is_zip",
    [
        pytest.param(read_apart, True, id="untrusted", marks=pytest.mark.slow),
        pytest.param(read, False, id="untrusted, before torch 1.6"),
        pytest.param(read_ours, True, id="ours"),
        pytest.param(read_ours, False, id="ours, before torch 1.6"),
    ],
)
def test_a_content_comes_out_as_it_went_in(reader, is_zip):
    torch.save(CONTENT, "a.pt", _use_new_zipfile_serialization=is_zip)
    assert same(CONTENT, reader("a.pt"))
    assert os.listdir() == ["a.pt"]


def test_tensors_of_an_untrusted_file_share_no_values():
    torch.save(CONTENT, "a.pt")
    row, transposed, whole = read("a.pt")["views"]
    row.fill_(0)
    assert torch.equal(transposed, SHARED.T) and torch.equal(whole, SHARED)
    assert transposed.untyped_storage().nbytes() == transposed.nbytes


# A checkpoint with an object of a class that only its code can load, besides the weights.
CHECKPOINT = {
    "state_dict": {"a": torch.ones(3)},
    "meta": {"share": Fraction(1, 3), "epoch": 3},
    "optimizer": {"share": Fraction(1, 3)},
}


def test_only_weights_are_read_without_other_classes():
    torch.save(CHECKPOINT, "a.pt")
    expected = {"state_dict": {"a": torch.ones(3)}, "meta": {"share": None, "epoch": 3}}
    assert same(expected, read("a.pt", weights_alone=True))


class OwnDict(dict):
    """A dict subclass of a user, which has an attribute, too."""


class OwnOrderedDict(OrderedDict):
    """A subclass that is called when it is read, not made by `__new__`."""


class OwnList(list):
    """A list subclass of a user."""


def filled():
    """Make objects of subclasses of dict and list."""
    own = OwnDict(a=1, b=[2])
    own.note = "an attribute"
    counts = defaultdict(list, {"x": [1]})
    return {
        "own": own,
        "twice": [OwnDict(c=own), OwnList()],
        "ordered": OwnOrderedDict(d=4),
        "default": counts,
        "one": OwnList([1]),
        "list": OwnList([1, OwnDict(e=5)]),
    }


def test_subclasses_of_dict_are_read_as_plain():
    """Torch does not fill an object that is no plain dict or list."""
    state = OwnDict(a=torch.ones(3))
    torch.save({"state_dict": state, "meta": filled(), "hooks": filled()}, "a.pt")
    content = read("a.pt", weights_alone=True)
    assert same(content, {"state_dict": {"a": torch.ones(3)}, "meta": content["meta"]})
    meta = content["meta"]
    assert meta["list"] == [1, {"e": 5}] and meta["one"] == [1]
    assert meta["ordered"] == {"d": 4} and meta["default"] == {"x": [1]}
    assert meta["own"] == {"a": 1, "b": [2]} and meta["twice"] == [{"c": meta["own"]}, []]


NOT_THE_FILE = {
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e",
        r"a git-lfs pointer, not the file: run `git lfs pull`",
    ),
    "page": (b"<!DOCTYPE html><html>", r"a web page \(HTML\), not the file: sign in there, and "),
    "blank lines": (b"\xef\xbb\xbf\r\n\n <HTML lang=en>", r"a web page \(HTML\), not the file"),
    "comment": (b"<!-- sign in -->\n<html>", r"a web page \(HTML\), not the file"),
}


@pytest.mark.parametrize("reader", [read, read_ours], ids=["untrusted", "ours"])
@pytest.mark.parametrize("content, words", NOT_THE_FILE.values(), ids=NOT_THE_FILE)
def test_what_a_failed_download_left_is_named(reader, content, words):
    Path("a.pt").write_bytes(content)
    with pytest.raises(BrokenFile, match=rf"^a\.pt: not a thing \({words}.*\); do it again$"):
        reader("a.pt")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_weight_that_is_no_number_is_named(value):
    numbers = {"a": torch.ones(2, dtype=torch.float8_e4m3fn), "b": torch.ones(2, dtype=torch.int64)}
    require_finite("a.pt", numbers)
    words = r"^a\.pt: c has NaN or infinite weights, .*; take an earlier checkpoint, or download"
    with pytest.raises(BrokenFile, match=words):
        require_finite("a.pt", numbers | {"c": torch.tensor([1.0, value])})


class Array:
    """An array of NumPy in a pickle, with a data type of this name and this state."""

    def __init__(self, name, state, data):
        self.type, self.data = Type(name, state), data

    def __reduce__(self):
        state = (1, (2,), self.type, False, self.data)
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state


class Type:
    """A data type of NumPy, whose state in a pickle may be anything."""

    def __init__(self, name, state):
        self.name, self.state = name, state

    def __reduce__(self):
        return np.dtype, (self.name,), self.state


OBJECT = np.dtype("O")
PAIR = {"a": (OBJECT, 0), "b": (OBJECT, 8)}
# With each of these NumPy takes bytes of the file as addresses.
CRAFTED_ARRAYS = {
    "objects without their flag": Array("O8", (3, "|", None, None, None, -1, -1, 0), b"A" * 16),
    "objects": Array("O", (3, "|", None, None, None, -1, -1, 63), [Fraction(1, 3), 2]),
    "fields": Array("V16", (3, "|", None, ("a", "b"), PAIR, 16, 1, 0), b"A" * 32),
    "an array in an array": Array("V16", (3, "|", (OBJECT, (2,)), None, None, 16, 1, 0), b"A" * 32),
    "fields in numbers": Array("f4", (3, "|", None, ("a", "b"), PAIR, 16, 1, 0), b"A" * 32),
}


@pytest.mark.parametrize("pack", [pickle.dumps, saved], ids=["pickle", "torch"])
@pytest.mark.parametrize("array", CRAFTED_ARRAYS.values(), ids=CRAFTED_ARRAYS)
def test_arrays_of_other_types_are_rejected(array, pack):
    Path("a.pkl").write_bytes(pack({"scores": array}))
    with pytest.raises(BrokenFile, match=r"^a\.pkl: not a thing \(.*\); do it again$"):
        read("a.pkl")


@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_are_read_from_a_pickle(protocol):
    arrays = {
        "numbers": np.arange(6.0).reshape(2, 3).T,
        "other order of bytes": np.array([1.5], dtype=">f8"),
        "text": np.array(["P01_01_0", "P02"]),
        "one": np.float32(3),
    }
    Path("a.pkl").write_bytes(pickle.dumps(arrays, protocol))
    expected = {
        "numbers": torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T,
        "other order of bytes": torch.tensor([1.5], dtype=torch.float64),
        "text": ["P01_01_0", "P02"],
        "one": 3.0,
    }
    assert same(read("a.pkl"), expected)


@pytest.mark.parametrize(
    "content, words",
    [
        (CHECKPOINT, r"fractions\.Fraction besides tensors, which only running .*"),
        (torch.zeros(2, dtype=torch.uint8).view(torch.bits8), "a tensor of torch.bits8; .*"),
    ],
    ids=["an object", "a tensor without plain numbers"],
)
def test_a_content_that_is_not_plain_is_rejected(content, words):
    torch.save(content, "a.pt")
    with pytest.raises(BrokenFile, match=rf"^a\.pt: not a thing \(holds {words}\); do it again$"):
        read("a.pt")


def test_an_altered_byte_gives_content_or_error():
    content = CONTENT | {"few": bytearray(b"abc")}
    write_tensors(content, "a.pt")
    whole = Path("a.pt").read_bytes()
    for place in range(0, len(whole), 97):
        Path("a.pt").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with suppress(BrokenFile):
            assert same(content, read_ours("a.pt")), place


@pytest.mark.parametrize("reader", [read, read_ours], ids=["untrusted", "ours"])
@pytest.mark.parametrize(
    "path, words",
    [
        (".", "cannot be read: Is a directory; expected a file"),
        ("none.pt", "no such file; do it again$"),
    ],
)
def test_a_missing_file_is_not_a_broken_one(reader, path, words):
    with pytest.raises(EpicError, match=rf"^{re.escape(path)}: {words}") as caught:
        reader(path)
    assert not isinstance(caught.value, BrokenFile)


def read_within(path, mib):
    """Read a file in a process that may take this much more memory."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + mib * 2**20,) * 2)
    read_ours(path)


@pytest.mark.slow
def test_too_little_memory_is_no_file_error(tmp_path):
    path = tmp_path / "large.pt"
    # 2**24 numbers of 4 bytes are 64 MiB.
    write_tensors(torch.zeros(2**24), path)
    words = r"large\.pt: cannot be read: too little memory for its 64\.0 MiB"
    with (
        # A spawned process has no free memory of this one that it could use.
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(EpicError, match=words) as caught,
    ):
        pool.apply(read_within, (path, 40))
    assert not isinstance(caught.value, BrokenFile)
