"""Archives of arrays and scores that unpack to gigabytes, or whose values do not fit together."""

import functools
import io
import json
import struct
import zipfile

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.features.participant import read_features
from epic100.submission.check import check
from epic100.submission.files import LARGEST, MOST_OPENED, MOST_VALUES, read_zip
from support.fuzzing import write_small_features
from support.own_process import measured

pytestmark = pytest.mark.slow


def packed_zeros(path):
    """600 MiB of zeros in 600 KB, as one more array."""
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("more.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(600):
            member.write(bytes(2**20))


def changed(**change):
    """Rewrite a file with some arrays replaced."""

    def spoil(path):
        with np.load(path) as arrays:
            kept = dict(arrays)
        np.savez(path, **(kept | {name: np.array(value) for name, value in change.items()}))

    return spoil


@pytest.mark.parametrize(
    "spoil, words",
    [
        (packed_zeros, "600 MiB unpacked, at most 512"),
        (changed(feats=[[np.nan] * 3] * 4), "its feats: .* 4 of .* NaN"),
        (changed(feats=np.ones((3, 3), np.float32)), "its valid: .* 4 rows, but 3 elsewhere"),
        (changed(valid=[False] * 4), "no row that is free of damage"),
        (changed(times=[0.5, 0.25, 1.0, 2.0]), "its times: .* do not rise"),
        (changed(middle=np.arange(4.0)), "its middle: .* is float64"),
        (changed(frames=np.zeros((4, 3), int)), "its frames: .* 3 2, but 2 elsewhere"),
        (changed(fps=-1.0), "its fps is -1.0: "),
        (changed(made_from="[]"), "its made_from is "),
    ],
)
def test_features_that_do_not_fit_together_or_unpack_to_gigabytes_are_one_error(
    tmp_path, spoil, words
):
    path = tmp_path / "P01_01.npz"
    write_small_features(path)
    assert read_features(path).feats.shape == (4, 3)
    spoil(path)
    with pytest.raises(EpicError, match=rf"P01_01\.npz: not whole features .*{words}"):
        read_features(path)


HEAD = (
    b'{"version": "0.2", "challenge": "action_recognition", "sls_pt": 2, "sls_tl": 3, "sls_td": 3,'
    b' "results": '
)
# TEXT counts bytes, of which five copies may be in memory. MOST limits memory, in KiB.
TEXT = 100_000_000
MOST = 600 * 1024


def packed(*pieces: bytes, method=zipfile.ZIP_DEFLATED, name="test.json") -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive,
        archive.open(name, "w") as member,
    ):
        for piece in pieces:
            member.write(piece)
    return buffer.getvalue()


@functools.cache
def bomb(claimed: int = LARGEST + 2**20) -> bytes:
    """Zeros of more than may be, whose size in both headers of the zip is another."""
    data = bytearray(packed(*[bytes(2**20)] * (LARGEST // 2**20 + 1)) if claimed > 10 else bomb())
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.rfind(mark) + offset, claimed)
    return bytes(data)


def results(*pieces: bytes) -> bytes:
    return packed(HEAD, *pieces, b"}")


SCORES = b'{"a": {"verb": {"0": %s}, "noun": {"0": 1}}}' % (b"9" * 400)
SOUND = packed(b"[1, 2, 3]", method=zipfile.ZIP_STORED)
ZIPS = {
    "bzip2": (lambda: packed(bytes(99), method=zipfile.ZIP_BZIP2), "is packed by method 12"),
    "lzma": (lambda: packed(bytes(99), method=zipfile.ZIP_LZMA), "is packed by method 14"),
    "zeros": (bomb, "is over 256 MiB unpacked"),
    "zeros that claim 10 bytes": (lambda: bomb(10), "a truncated or damaged one"),
    "lists": (lambda: results(b"[", b"[]," * MOST_OPENED, b"[]]"), "objects and lists and "),
    "objects": (lambda: results(b"[", b"{}," * MOST_OPENED, b"{}]"), "objects and lists and "),
    "numbers": (lambda: results(b"[", b"1," * (MOST_VALUES + 1), b"1]"), " values, expected"),
    "one long string": (lambda: results(b'"', b"x" * TEXT, b'"'), '"results": Input should'),
    "one letter beyond ASCII": (
        lambda: results(b'"', "\U0001f600".encode(), b"x" * TEXT, b'"'),
        '"results": Input should',
    ),
    "400 digits": (lambda: results(SCORES), "a number beyond floats in 1 segment"),
    "5,000,000 digits": (lambda: results(b"9" * 5_000_000), "number out of range"),
    "deep": (lambda: packed(b"[" * 100_000), "Invalid JSON: "),
    "deep objects": (lambda: packed(b'{"a":' * 100_000), "Invalid JSON: "),
    "a name that clears the screen": (lambda: packed(b'{"\x1b[2J\\u001b[2J": 1}'), "Invalid JSON"),
    "members": (lambda: packed(b"x", name="../../x"), "expected exactly one member"),
    "nothing": (lambda: b"PK\5\6" + bytes(18), "expected exactly one member"),
    "half a header": (lambda: b"PK\3\4" + bytes(30), "not a zip file"),
    "half": (lambda: SOUND[: len(SOUND) // 2], "not a zip file, or a truncated or damaged one"),
    "another bit": (lambda: SOUND.replace(b"[1, 2", b"[1,22"), "a truncated or damaged one"),
    "no zip": (lambda: b"{}", "not a zip file, or a truncated or damaged one"),
}


def problems_of(path) -> list[str]:
    try:
        return check(read_zip(path), ["P01_01_0"], 97, 300)
    except EpicError as error:
        return str(error).splitlines()


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_that_would_take_gigabytes_is_a_line_within_the_limits(tmp_path, name):
    make, words = ZIPS[name]
    (tmp_path / "submission.zip").write_bytes(make())
    lines, taken, _ = measured(problems_of, tmp_path / "submission.zip")
    assert any(words in line for line in lines), lines
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert taken < MOST


def test_an_honest_zip_of_the_test_split_s_size_is_well_within(tmp_path):
    scores = {
        "verb": {str(i): 0.1234567890123 for i in range(97)},
        "noun": {str(i): -0.1234567890123 for i in range(300)},
    }
    text = json.dumps(scores).encode()
    assert len(text) * 13_092 < LARGEST and text.count(b",") * 13_092 < 6_000_000
    names = [f"P01_01_{i}" for i in range(50)]
    entries = b", ".join(f'"{name}": '.encode() + text for name in names)
    (tmp_path / "a.zip").write_bytes(results(b"{", entries, b"}"))
    problems = check(read_zip(tmp_path / "a.zip"), names, 97, 300)
    assert [p for p in problems if not p.startswith("hint")] == []
