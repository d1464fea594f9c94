"""A disk that fails under a rule or its log: one clear line, and no work lost for a log."""

import subprocess
import sys

import pytest

CODE = (
    "import sys; from epic100.base.log import rule_log\n"
    "with rule_log(sys.argv[1]): {body}\n"
    "print('done')\n"
)


def run(log, body: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", CODE.format(body=body), log]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_error_of_the_system_is_one_line_that_names_the_file(tmp_path):
    done = run(tmp_path / "rule.log", "open('/no/such/file')")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: /no/such/file: No such file or directory; the system refuses it, {tmp_path}/"
        "rule.log has where: look at the disk, then run again"
    ]
    assert "Traceback" in (tmp_path / "rule.log").read_text()


@pytest.mark.parametrize(
    "body",
    [
        "__import__('pathlib').Path('/proc/self/mem').read_bytes()",
        "__import__('pandas').read_csv('/proc/self/mem')",
        "__import__('hashlib').file_digest(open('/proc/self/mem', 'rb'), 'md5')",
    ],
)
def test_a_failed_read_names_the_file_which_the_system_does_not(body, tmp_path):
    done = run(tmp_path / "rule.log", body)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: /proc/self/mem: Input/output error; ")


def test_a_log_that_cannot_be_opened_stops_no_work(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file" / "rule.log", "pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
