"""Tensor files, arrays and zips that are damaged, run code, never end or ask for gigabytes.

`FILES` are for every reader of tensors. `attacks` are for readers of other people's files, which
read in a process with limits. Their names say what `torch.load(weights_only=True)` alone would do.
"""

import functools
import itertools
import json
import os
import pickle
import struct
import zipfile
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from epic100.base import untrusted_tensors
from epic100.base.errors import EpicError
from epic100.cli import adopt
from epic100.cli import lab_checkpoint as checkpoint
from epic100.model.model_file import FORMAT, load_model
from epic100.model.weights import read_weights
from epic100.prediction.features import read_features
from epic100.scoring import predictions
from epic100.scoring.submission import check
from epic100.scoring.submission_file import (
    LARGEST,
    MAX_OBJECTS,
    MAX_VALUES,
    read_submission,
    read_zip,
)
from support.crafted import Unpickled, members_of, saved, zip_of
from support.forked_reads import forked_reads
from support.fuzzing import write_small_features
from support.this_process import measured

READERS = {
    "model": load_model,
    "predictions": partial(predictions.read_predictions, split="val"),
    "submission": read_submission,
    "a lab's checkpoint": checkpoint.read_checkpoint,
    "an encoder's checkpoint": partial(adopt.adopt_encoder, "avion_b", out="ours.pth"),
    "start weights": read_weights,
}
VALUES = torch.arange(500.0)
COMPLETE = saved({"state_dict": {"a": VALUES}})
# A bit of one of the values is another.
ALTERED = bytearray(COMPLETE)
ALTERED[COMPLETE.index(VALUES.numpy().tobytes()) + 801] ^= 4
MAKES_A_FOLDER = Unpickled(os.mkdir, "sprung")
CODE = "holds posix.mkdir besides tensors"
FILES = {
    "nothing": (b"", "it is empty"),
    "text": (b"a model of mine\n", r"\w+Error"),
    "half": (COMPLETE[: len(COMPLETE) // 2], "cut short, its end is missing"),
    "all but a byte": (COMPLETE[:-1], "cut short, its end is missing"),
    "another bit": (ALTERED, "the checksum of "),
    "another zip": (b"PK\3\4" + bytes(30) + b"PK\5\6" + bytes(18), "a zip, but not one of torch"),
    "code": (saved({"state_dict": MAKES_A_FOLDER}), CODE),
    "code in the old form": (saved(MAKES_A_FOLDER, _use_new_zipfile_serialization=False), CODE),
    "a bare pickle of code": (pickle.dumps(MAKES_A_FOLDER, protocol=2), CODE),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("reader", READERS)
def test_incomplete_files_and_code_are_rejected_with_reason(tmp_path, monkeypatch, reader, file):
    content, reason = FILES[file]
    monkeypatch.chdir(tmp_path)
    Path("a.pth").write_bytes(content)
    with pytest.raises(EpicError, match=rf"^a\.pth: not .*\({reason}") as caught:
        READERS[reader]("a.pth")
    assert "\n" not in str(caught.value) and os.listdir() == ["a.pth"]


def zipped(pickled: bytes, *members: tuple[str, bytes], method=zipfile.ZIP_STORED) -> bytes:
    """Return a file as torch.save writes it, with this pickle."""
    first_members = [("archive/data.pkl", pickled), ("archive/version", b"3\n")]
    return zip_of(*first_members, *members, method=method)


def old(pickled: bytes) -> bytes:
    """Return a file as torch before 1.6 wrote it, with this pickle."""
    heads = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(head, 2) for head in heads) + pickled + pickle.dumps([], 2)


def lists(levels: int) -> list:
    """Return a list of 2 ** levels items, of which a file has one for each level."""
    items: list = [1]
    for _ in range(levels):
        items = [items, items]
    return items


def nested(levels: int) -> bytes:
    """Return the pickle of a dict whose key is a pair of a pair twice, and so on.

    To hash the key takes 2 ** levels steps.
    """
    pairs = (b"h%c" * 2 % (at, at) + b"\x86q%c" % (at + 1) for at in range(levels))
    return b"\x80\x02}(K\x01\x85q\x00" + b"".join(pairs) + b"K\x01u."


# ROW has 50 million values, all views of one number.
ROW = torch.zeros(1).expand(50_000_000)
# This pickle asks for a bytearray of 4 GiB.
CLAIM = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x01\x85R."


@cache
def attacks() -> dict[str, bytes]:
    """Make the contents by name. They are made when a test runs, since some take a second."""
    return {
        "never ends: a nested tuple as a key": zipped(nested(60)),
        "never ends: a nested tuple as a key, in the old form": old(nested(60)),
        "4 GiB of zeros in 178 bytes": old(CLAIM),
        "4 GiB of zeros": zipped(CLAIM),
        "1 TiB of zeros": zipped(b"\x80\x05\x96" + (2**40).to_bytes(8, "little")),
        "a claim of 8 EiB": b"\x80\x02\x8e" + b"\xff" * 7 + b"\x7f",
        "a long integer": b"\x80\x02\x8b\xff\xff\xff\x7f",
        "zeros": bytes(10_000),
        "1 MB that unpacks to 600": zipped(
            b"", ("archive/data/0", bytes(600 * 2**20)), method=zipfile.ZIP_DEFLATED
        ),
        "a storage that reads beyond its member": zip_of(
            *(
                (name, data[:16] if name[-6:] == "data/0" else data)
                for name, data in members_of(COMPLETE)
            )
        ),
        "strides of 0": saved(
            [
                {"narration_id": f"P01_{i}", "verb_output": ROW, "noun_output": ROW}
                for i in range(20)
            ]
        ),
        "strides of 0 in the old form": saved({"a": ROW}, _use_new_zipfile_serialization=False),
        "strides of 0 as weights": saved({"state_dict": {"a": ROW}}),
        "lists in themselves": saved(lists(38)),
        "deep lists": saved(eval("[" * 90 + "]" * 90)),
        "a text many times": saved([["x" * 10**6] * 900] * 900),
        "sparse": saved({"state_dict": {"a": torch.eye(3).to_sparse()}}),
        "no values": saved({"state_dict": {"a": torch.ones(3, device="meta")}}),
        "quantized": saved(
            {"state_dict": {"a": torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8)}}
        ),
        "complex": saved({"state_dict": {"a": torch.ones(3, dtype=torch.complex64)}}),
        "5,000 digits": saved([10**5000]),
        "a dict whose keys are tensors": saved({"state_dict": {torch.ones(1): 1}}),
    }


def messages(read, contents: dict[str, bytes]) -> dict[str, str]:
    """Return the message of the error for each content of `a.pth`."""
    # An attack that never ends is stopped after 2 s here, not after 20 s.
    untrusted_tensors.SECONDS = 2.0
    found = {}
    for name, content in contents.items():
        Path("a.pth").write_bytes(content)
        try:
            found[name] = f"was read: {str(read('a.pth'))[:100]}"
        except EpicError as error:
            found[name] = str(error)
    return found


def messages_of_forks(read, contents: dict[str, bytes]) -> dict[str, str]:
    """Return what `messages` does, with guarded calls in forks, which takes less time."""
    with forked_reads():
        return messages(read, contents)


def assert_rejected(read, contents: dict[str, bytes], collect=messages_of_forks) -> None:
    """Check that each content is one short error, and that no process takes more than 1 GiB."""
    found, *kib = measured(collect, read, contents)
    for name, message in found.items():
        assert message.startswith("a.pth: ") and message.isprintable(), name
        assert len(message) < 1000, name
    assert max(kib) < 2**20
    assert os.listdir() == ["a.pth"]


def test_endless_or_huge_files_are_one_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_rejected(read_weights, attacks(), collect=messages)


@pytest.mark.parametrize("read", [load_model, read_submission])
def test_other_readers_reject_huge_files(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    # Attacks that never end take all their time, so one reader alone tries them.
    huge = {name: attack for name, attack in attacks().items() if "never" not in name}
    assert_rejected(read, huge)


MODEL = {
    "state_dict": {"a": VALUES},
    "pairs": [(0, 1, 5)],
    "num_verbs": 97,
    "num_nouns": 300,
    "config": {},
    "trained_on": {},
    "heads": "pair",
    "names": {},
    "format": FORMAT,
}
SCORES = {
    "split": "val",
    "narration_ids": ["P01_01_0"],
    "log_probs": torch.zeros(1, 1),
    "pairs": [(0, 1, 5)],
    "num_verbs": 97,
    "num_nouns": 300,
    "trained_on": {},
    "model": "",
    "verb_log_probs": None,
    "noun_log_probs": None,
    "pair_head": True,
    "format": predictions.FORMAT,
}
ENTRY = {"narration_id": "P01_01_0", "verb_output": VALUES[:4], "noun_output": VALUES[:5]}
# A list that is many times in a list takes a few bytes in a file, and pages in a message.
LONG = {"list": [[7] * 400] * 400, "number": 10**12, "text": "x" * 200_000}


def read_entries(path: str) -> None:
    """Read a submission, and raise the first problem of it."""
    if problems := check(read_submission(path), ["P01_01_0"], 4, 5):
        raise EpicError(f"{path}: {problems[0]}")


@pytest.mark.parametrize(
    "read, content, pack",
    [
        pytest.param(load_model, MODEL, saved, id="model"),
        pytest.param(READERS["predictions"], SCORES, saved, id="predictions"),
        pytest.param(read_entries, ENTRY, lambda entry: saved([entry]), id="submission"),
    ],
)
def test_wrong_types_and_huge_values_are_one_error(tmp_path, monkeypatch, read, content, pack):
    monkeypatch.chdir(tmp_path)
    Path("a.pth").write_bytes(pack(content))
    read("a.pth")
    changes = itertools.product(content, LONG)
    assert_rejected(
        read, {f"{key}: {kind}": pack(content | {key: LONG[kind]}) for key, kind in changes}
    )


def add_packed_zeros(path):
    """Add an array of 600 MiB of zeros to a zip, which take 600 KB there."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", bytes(600 * 2**20))


def replacing(**arrays):
    """Return a function that rewrites a file with these arrays in place of its arrays."""

    def spoil(path):
        with np.load(path) as file:
            old = dict(file)
        np.savez(path, **(old | arrays))

    return spoil


@pytest.mark.parametrize(
    "spoil, words",
    [
        (add_packed_zeros, "600 MiB unpacked, at most 512"),
        (replacing(feats=[[np.nan] * 3] * 4), "its feats: .* 4 of .* NaN"),
        (replacing(feats=np.ones((3, 3), np.float32)), "its valid: .* 4 rows, but 3 elsewhere"),
        (replacing(valid=[False] * 4), "no row that is free of damage"),
        (replacing(times=[0.5, 0.25, 1.0, 2.0]), "its times: .* do not rise"),
        (replacing(middle=np.arange(4.0)), "its middle: .* is float64"),
        (replacing(frames=np.zeros((4, 3), int)), "its frames: .* 3 2, but 2 elsewhere"),
        (replacing(fps=-1.0), "its fps is -1.0: "),
        (replacing(made_from="[]"), "its made_from is "),
    ],
)
def test_unfit_or_huge_features_are_one_error(tmp_path, spoil, words):
    path = tmp_path / "P01_01.npz"
    write_small_features(path)
    spoil(path)
    with pytest.raises(EpicError, match=rf"P01_01\.npz: not complete features .*{words}"):
        read_features(path)


def deflated(text: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a submission with this text as its JSON."""
    return zip_of(("test.json", text), method=method)


@functools.cache
def packed_zeros() -> bytes:
    """Return a zip of more zeros than a submission may have."""
    return deflated(bytes(LARGEST + 2**20))


def claiming(size: int, archive: bytes) -> bytes:
    """Return a zip of one member whose headers claim another size of it."""
    data = bytearray(archive)
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.rfind(signature) + offset, size)
    return bytes(data)


def results(*pieces: bytes) -> bytes:
    """Return a submission whose JSON has these pieces as its `results`."""
    head = (
        b'{"version": "0.2", "challenge": "action_recognition", "sls_pt": 2, "sls_tl": 3, '
        b'"sls_td": 3, "results": '
    )
    return deflated(b"".join([head, *pieces, b"}"]))


# Five copies of a text of this number of bytes may be in memory.
LONG_TEXT = b"x" * 100_000_000
NUMBER_OF_400_DIGITS = b'{"a": {"verb": {"0": %s}, "noun": {"0": 1}}}' % (b"9" * 400)
UNDAMAGED = deflated(b"[1, 2, 3]", method=zipfile.ZIP_STORED)
DAMAGED = "not a zip file, or a truncated or damaged one"
# Each value makes a file, and is followed by words of its error.
ZIPS = {
    "bzip2": (lambda: deflated(bytes(99), method=zipfile.ZIP_BZIP2), "is packed by method 12"),
    "lzma": (lambda: deflated(bytes(99), method=zipfile.ZIP_LZMA), "is packed by method 14"),
    "zeros": (packed_zeros, "is over 256 MiB unpacked"),
    "zeros that claim 10 bytes": (lambda: claiming(10, packed_zeros()), DAMAGED),
    "lists": (lambda: results(b"[", b"[]," * MAX_OBJECTS, b"[]]"), "objects and lists and "),
    "objects": (lambda: results(b"[", b"{}," * MAX_OBJECTS, b"{}]"), "objects and lists and "),
    "numbers": (lambda: results(b"[", b"1," * (MAX_VALUES + 1), b"1]"), " values, expected"),
    "one long string": (lambda: results(b'"', LONG_TEXT, b'"'), '"results": Input should'),
    "one letter beyond ASCII": (
        lambda: results(b'"', "\U0001f600".encode(), LONG_TEXT, b'"'),
        '"results": Input should',
    ),
    "400 digits": (lambda: results(NUMBER_OF_400_DIGITS), "a number beyond floats in 1 segment"),
    "5,000,000 digits": (lambda: results(b"9" * 5_000_000), "number out of range"),
    "deep": (lambda: deflated(b"[" * 100_000), "Invalid JSON: "),
    "deep objects": (lambda: deflated(b'{"a":' * 100_000), "Invalid JSON: "),
    "a name that clears the screen": (
        lambda: deflated(b'{"\x1b[2J\\u001b[2J": 1}'),
        "Invalid JSON",
    ),
    "another member": (lambda: zip_of(("../../x", b"x")), "expected exactly one member"),
    "no member": (lambda: b"PK\5\6" + bytes(18), "expected exactly one member"),
    "half a header": (lambda: b"PK\3\4" + bytes(30), DAMAGED),
    "half": (lambda: UNDAMAGED[: len(UNDAMAGED) // 2], DAMAGED),
    "another bit": (lambda: UNDAMAGED.replace(b"[1, 2", b"[1,22"), DAMAGED),
    "no zip": (lambda: b"{}", DAMAGED),
}


def problems_of(path) -> list[str]:
    try:
        return check(read_zip(path), ["P01_01_0"], 97, 300)
    except EpicError as error:
        return str(error).splitlines()


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_bomb_is_rejected_in_short_lines(tmp_path, name):
    make, words = ZIPS[name]
    (tmp_path / "submission.zip").write_bytes(make())
    lines, grown_kib, _ = measured(problems_of, tmp_path / "submission.zip")
    assert any(words in line for line in lines), lines
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert grown_kib < 600 * 1024


def test_the_complete_test_split_is_within_the_limits():
    # The split has 13,092 segments, each with a score for 97 verbs and 300 nouns.
    scores = {
        "verb": {str(verb): 0.1234567890123 for verb in range(97)},
        "noun": {str(noun): -0.1234567890123 for noun in range(300)},
    }
    assert len(json.dumps(scores)) * 13_092 < LARGEST
    assert MAX_VALUES > (97 + 300) * 13_092
    # Each segment is an object with two objects in it.
    assert MAX_OBJECTS > 3 * 13_092
