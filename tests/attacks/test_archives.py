"""Archives of arrays and scores that unpack to gigabytes, or whose values contradict each other."""

import functools
import json
import struct
import zipfile

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.prediction.features import read_features
from epic100.scoring.submission_check import check
from epic100.scoring.submission_file import LARGEST, MAX_OBJECTS, MAX_VALUES, read_zip
from support.crafted import zip_of
from support.fuzzing import write_small_features
from support.this_process import measured

pytestmark = pytest.mark.slow


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
def test_features_that_do_not_fit_together_or_unpack_to_gigabytes_are_one_error(
    tmp_path, spoil, words
):
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
LONG = b"x" * 100_000_000
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
    "one long string": (lambda: results(b'"', LONG, b'"'), '"results": Input should'),
    "one letter beyond ASCII": (
        lambda: results(b'"', "\U0001f600".encode(), LONG, b'"'),
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
def test_a_zip_that_would_take_gigabytes_is_rejected_in_short_lines(tmp_path, name):
    make, words = ZIPS[name]
    (tmp_path / "submission.zip").write_bytes(make())
    lines, grown_kib, _ = measured(problems_of, tmp_path / "submission.zip")
    assert any(words in line for line in lines), lines
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert grown_kib < 600 * 1024


def test_a_submission_for_the_complete_test_split_is_within_the_limits():
    # The split has 13,092 segments, each with a score for 97 verbs and 300 nouns.
    scores = {
        "verb": {str(verb): 0.1234567890123 for verb in range(97)},
        "noun": {str(noun): -0.1234567890123 for noun in range(300)},
    }
    assert len(json.dumps(scores)) * 13_092 < LARGEST
    assert MAX_VALUES > (97 + 300) * 13_092
    # Each segment is an object with two objects in it.
    assert MAX_OBJECTS > 3 * 13_092
