"""The last lines of a run that is stopped, and of one that fails, by Snakemake with our logger."""

import os
import signal
import subprocess
import sys
import time

import pytest

RULES = """
rule all:
    input: "out.txt"
rule slow:
    output: "out.txt"
    log: "slow.log"
    script: "slow.py"
"""
WAITS = "import time\nopen('slow.log', 'w').write('--- 2026-01-02 \\nhalf\\n')\ntime.sleep(99)\n"
SAVES = """
import signal
from pathlib import Path

def save(number, frame):
    Path("slow.log").write_text("error: SIGTERM came: saved iter_7.pth; the rest is to come\\n")
    raise SystemExit(1)

signal.signal(signal.SIGTERM, save)
Path("slow.log").write_text("half\\n")
signal.pause()
"""
FAILS = "open('slow.log', 'w').write('error: SIGTERM.csv: no such file\\n')\nraise SystemExit(1)\n"


@pytest.fixture
def run(tmp_path):
    """Runs a rule with this script, signals all of the run, and returns its last lines."""

    def ended(script: str, number: int | None) -> list[str]:
        (tmp_path / "Snakefile").write_text(RULES)
        (tmp_path / "slow.py").write_text(script)
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "epic100"]
        with (tmp_path / "said.txt").open("w") as said:
            process = subprocess.Popen(
                command, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True
            )
        if number is not None:
            while not (tmp_path / "slow.log").exists() or not (tmp_path / "slow.log").read_text():
                assert process.poll() is None
                time.sleep(0.05)
            os.killpg(process.pid, number)
        assert process.wait(60) == 1
        return (tmp_path / "said.txt").read_text().splitlines()[-3:]

    return ended


@pytest.mark.parametrize("script, number, state, by", [
    (WAITS, signal.SIGTERM, "STOPPED slow: SIGTERM", "SIGTERM"),
    (WAITS, signal.SIGINT, "STOPPED slow: Ctrl-C", "Ctrl-C"),
    (SAVES, signal.SIGTERM, "STOPPED slow: SIGTERM came: saved iter_7.pth; the rest is to come",
     "SIGTERM"),
])  # fmt: skip
def test_a_run_that_is_stopped_says_by_what_and_names_nothing_to_fix(
    run, script, number, state, by
):
    """It said "FAILED slow: see its log" and "Next: fix this"."""
    assert run(script, number) == [
        state,
        "  log: slow.log",
        f"Stopped by {by}. Next: give the same command; jobs that are done stay done.",
    ]


def test_a_run_that_fails_says_what_to_fix(run):
    assert run(FAILS, None) == [
        "FAILED slow: SIGTERM.csv: no such file",
        "  log: slow.log",
        "Next: fix this and give the same command; jobs that are done stay done.",
    ]


RETRIED = """
rule all:
    input: "out.txt"
    retries: 0
rule works:
    output: "out.txt"
    log: "works.log"
    retries: 1
    shell: "echo 'error: no such shelf' > {log}; exit 3"
"""


def test_a_failure_is_said_at_its_retry_and_at_the_end_and_no_more(tmp_path):
    (tmp_path / "Snakefile").write_text(RETRIED)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "epic100"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert lines.count("FAILED works: no such shelf") == 2 and "  works is tried again" in lines
    assert lines[-3:-1] == ["FAILED works: no such shelf", "  log: works.log"]
