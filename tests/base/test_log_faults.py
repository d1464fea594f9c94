"""A disk that fails under a rule or its log: one clear line, and no work lost for a log."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from epic100.base.log import rule_log

MEMORY = Path("/proc/self/mem")  # a file that is there, and whose reads fail
NO_FILE = "/no/such/file: No such file or directory; "


@pytest.mark.parametrize("read, words", [
    (Path("/no/such/file").read_bytes, NO_FILE),
    (MEMORY.read_bytes, "/proc/self/mem: Input/output error; "),
    (lambda: pd.read_csv(MEMORY), "/proc/self/mem: Input/output error; "),
    (lambda: hashlib.file_digest(MEMORY.open("rb"), "md5"), "/proc/self/mem: Input/output error; "),
])  # fmt: skip
def test_an_error_of_the_system_is_one_line_that_names_the_file(tmp_path, capsys, read, words):
    with pytest.raises(SystemExit, match="^1$"), rule_log(tmp_path / "rule.log"):
        read()
    assert capsys.readouterr().err.splitlines() == [
        f"error: {words}the system refuses it, {tmp_path}/rule.log has where: look at the disk, "
        "then run again"
    ]
    assert "Traceback" in (tmp_path / "rule.log").read_text()


def test_a_log_that_cannot_be_opened_stops_no_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with rule_log(tmp_path / "file" / "rule.log"):
        print("done")
    assert capsys.readouterr() == ("", "done\n")
