"""Tensor files that are damaged, run code, never end or ask for gigabytes: each is one error.

`FILES` are for every reader. `attacks` are for readers of other people's files, which read in a
process with limits. Their names say what `torch.load(weights_only=True)` alone would do.
"""

import itertools
import os
import pickle
import zipfile
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from epic100.base import untrusted_tensors
from epic100.base.errors import EpicError
from epic100.cli import adopt
from epic100.cli import lab_checkpoint as checkpoint
from epic100.model.model_file import FORMAT, load_model
from epic100.model.weights import read_weights
from epic100.scoring import predictions
from epic100.scoring.submission_check import check
from epic100.scoring.submission_file import read_submission
from support.crafted import Unpickled, members_of, saved, zip_of
from support.this_process import measured

pytestmark = pytest.mark.slow

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
def test_what_is_no_complete_file_or_holds_code_is_one_error_with_the_reason(
    tmp_path, monkeypatch, reader, file
):
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


def assert_rejected(read, contents: dict[str, bytes]) -> None:
    """Check that each content is one short error, and that no process takes more than 1 GiB."""
    found, *kib = measured(messages, read, contents)
    for name, message in found.items():
        assert message.startswith("a.pth: ") and message.isprintable(), name
        assert len(message) < 1000, name
    assert max(kib) < 2**20
    assert os.listdir() == ["a.pth"]


@pytest.mark.parametrize("read", [read_weights, load_model, read_submission])
def test_what_would_never_end_or_take_gigabytes_is_one_error(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    # Attacks that never end take all their time, so one reader alone tries them.
    tries_all = read is read_weights
    assert_rejected(
        read,
        {name: attack for name, attack in attacks().items() if tries_all or "never" not in name},
    )


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
def test_another_type_or_a_huge_value_anywhere_is_one_short_error(
    tmp_path, monkeypatch, read, content, pack
):
    monkeypatch.chdir(tmp_path)
    Path("a.pth").write_bytes(pack(content))
    read("a.pth")
    changes = itertools.product(content, LONG)
    assert_rejected(
        read, {f"{key}: {kind}": pack(content | {key: LONG[kind]}) for key, kind in changes}
    )
