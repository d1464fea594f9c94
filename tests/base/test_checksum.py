import hashlib
import subprocess

import pytest

from epic100.base.checksum import Checksum, digest
from epic100.base.errors import EpicError


@pytest.mark.parametrize("content", [b"", b"a\n", bytes(3 << 20)])
def test_checksums_are_those_of_the_usual_tools(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest(path, "md5").value == hashlib.md5(content).hexdigest()
    assert digest(path, "sha256").value == hashlib.sha256(content).hexdigest()
    git = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
    assert digest(path, "git").value == git.stdout.strip()


def test_every_byte_is_watched(tmp_path):
    path, seen = tmp_path / "file", []
    path.write_bytes(bytes(2_500_000))
    digest(path, "md5", seen.append)
    assert sum(seen) == 2_500_000 and len(seen) == 3


def test_a_checksum_is_read_in_any_case():
    assert Checksum.parse(" MD5:" + "AB" * 16, "x") == Checksum("md5", "ab" * 16)


@pytest.mark.parametrize(
    "text", ["", "md5:", "md5:zz", "sha1:" + "0" * 40, "a" * 32, "git:" + "g" * 40]
)
def test_what_is_no_checksum_is_named(text):
    with pytest.raises(EpicError, match=r"sheet\.tsv: line 2: checksum is .*expected md5, sha256"):
        Checksum.parse(text, "sheet.tsv: line 2")
