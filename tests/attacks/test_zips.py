"""Submissions that unpack to gigabytes, or whose claims would."""

import io
import json
import pickle
import resource
import struct
import subprocess
import sys
import time
import zipfile

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.submission.check import LARGEST, check_zip
from epic100.submission.files import read_pt

pytestmark = pytest.mark.slow

GIB = 2**30
HEAD = b'{"version": "0.2", "challenge": "action_recognition", "results": '


def packed(path, chunks, method=zipfile.ZIP_DEFLATED, name="test.json"):
    with zipfile.ZipFile(path, "w", method) as archive, archive.open(name, "w") as member:
        for chunk in chunks:
            member.write(chunk)
    return path


def lie(path, size):
    """Let the zip claim another unpacked size, in both of its headers."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.rfind(mark) + offset, size)
    path.write_bytes(data)
    return path


def bomb(method):
    return lambda path: packed(path, (bytes(2**20) for _ in range(600)), method)


def text_of(*parts):
    return lambda path: packed(path, parts)


ZIPS = {
    "bzip2": bomb(zipfile.ZIP_BZIP2),
    "lzma": bomb(zipfile.ZIP_LZMA),
    "deflated zeros": bomb(zipfile.ZIP_DEFLATED),
    "deflated zeros that claim 10 bytes": lambda path: lie(bomb(zipfile.ZIP_DEFLATED)(path), 10),
    "empty lists": text_of(HEAD, b"[", b"[]," * 30_000_000, b"[]]}"),
    "empty objects": text_of(HEAD, b"[", b"{}," * 30_000_000, b"{}]}"),
    "numbers": text_of(HEAD, b"[", b"1," * 50_000_000, b"1]}"),
    "one long string": text_of(HEAD, b'"', b"x" * 200_000_000, b'"}'),
    "one letter beyond ASCII": text_of(HEAD, '"\U0001f600'.encode(), b"x" * 200_000_000, b'"}'),
    "400 digits": text_of(HEAD, b'{"a": {"verb": {"0": ', b"9" * 400, b'}, "noun": {"0": 1}}}}'),
    "5,000,000 digits": text_of(HEAD, b"9" * 5_000_000, b"}"),
    "deep": text_of(b"[" * 100_000),
    "deep objects": text_of(b'{"a":' * 100_000),
    "a name that clears the screen": text_of(b'{"\x1b[2J\\u001b[2J": 1}'),
    "members": lambda path: [packed(path, [b"x"], name=n) for n in ("../../x",)][-1],
    "nothing": lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
    "half a header": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(30)),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_a_zip_that_would_take_gigabytes_is_a_line_within_the_limits(tmp_path, kind):
    path = tmp_path / "submission.zip"
    ZIPS[kind](path)
    program = (
        "import resource, sys; from epic100.submission.check import check_zip\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({5 * GIB}, {5 * GIB}))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "lines = check_zip(sys.argv[1], ['P01_01_0'], 97, 300)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        "print(*lines, sep='\\n')\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    taken, *lines = done.stdout.splitlines()
    assert lines and all(line.isprintable() and len(line) < 500 for line in lines)
    assert int(taken) < 2**20, "KiB: over 1 GiB"
    assert time.monotonic() - started < 60


def test_an_honest_zip_of_the_test_split_s_size_is_well_within(tmp_path):
    scores = {"verb": {str(i): 0.1234567890123 for i in range(97)},
              "noun": {str(i): -0.1234567890123 for i in range(300)}}  # fmt: skip
    text = json.dumps(scores).encode()
    assert len(text) * 13_092 < LARGEST and text.count(b",") * 13_092 < 6_000_000
    entries = ", ".join(f'"P01_01_{i}": {text.decode()}' for i in range(50))
    path = packed(tmp_path / "a.zip", [HEAD, b"{", entries.encode(), b"}}"])
    problems = check_zip(path, [f"P01_01_{i}" for i in range(50)], 97, 300)
    assert [p for p in problems if not p.startswith(("hint", '"sls'))] == []


def shared(count):
    """Rows that are all views of a few bytes."""
    row = torch.zeros(1).expand(50_000_000)
    return [{"narration_id": f"P01_{i}", "verb_output": row, "noun_output": row}
            for i in range(count)]  # fmt: skip


class Touch:
    def __reduce__(self):
        return (eval, ("open('ran', 'w')",))


def written(content, **changes):
    buffer = io.BytesIO()
    torch.save(content, buffer, **changes)
    return buffer.getvalue()


PTS = {
    "strides of 0": written(shared(20)),
    "code": written([{"narration_id": Touch(), "verb_output": 1, "noun_output": 1}]),
    "a bare pickle with code": pickle.dumps(Touch()),
    "an old format with code": written(Touch(), _use_new_zipfile_serialization=False),
    "deep lists": written([[[[[[[[1]]]]]]]]),
    "another layout": written({"narration_id": 5, "verb_output": 3, "noun_output": "x"}),
    "no bytes": b"",
    "zeros": bytes(10_000),
    "a claim of 8 EiB in a pickle": b"\x80\x02\x8e" + b"\xff" * 7 + b"\x7f",
    "a long integer": b"\x80\x02\x8b\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("kind", PTS)
def test_a_pt_file_that_would_run_code_or_take_gigabytes_is_one_error(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(PTS[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EpicError, match="a.pt: ") as refused:
        read_pt(tmp_path / "a.pt")
    assert len(str(refused.value)) < 1000 and str(refused.value).isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20
    assert not (tmp_path / "ran").exists()
