"""The last lines of a run that is stopped, and of one that fails, by Snakemake with our logger."""

import os
import signal
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "epic100"]
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


NEXT = "give the same command; jobs that are done stay done."


@pytest.mark.parametrize(
    "script, number, last_lines",
    [
        # It said "FAILED slow: see its log" and "Next: fix this" of a run that was stopped.
        (WAITS, signal.SIGTERM, ["STOPPED slow: SIGTERM", f"Stopped by SIGTERM. Next: {NEXT}"]),
        (WAITS, signal.SIGINT, ["STOPPED slow: Ctrl-C", f"Stopped by Ctrl-C. Next: {NEXT}"]),
        (
            SAVES,
            signal.SIGTERM,
            [
                "STOPPED slow: SIGTERM came: saved iter_7.pth; the rest is to come",
                f"Stopped by SIGTERM. Next: {NEXT}",
            ],
        ),
        (
            FAILS,
            None,
            ["FAILED slow: SIGTERM.csv: no such file", f"Next: fix this and {NEXT}"],
        ),
    ],
)
def test_a_run_that_ends_early_says_by_what_and_names_what_is_to_fix(
    tmp_path, script, number, last_lines
):
    (tmp_path / "Snakefile").write_text(RULES)
    (tmp_path / "slow.py").write_text(script)
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(
            COMMAND, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True
        )
    if number is not None:
        log = tmp_path / "slow.log"
        while not log.exists() or not log.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, number)
    assert process.wait(60) == 1
    failure, next_step = last_lines
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert lines[-3:] == [failure, "  log: slow.log", next_step]


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
    done = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert lines.count("FAILED works: no such shelf") == 2 and "  works is tried again" in lines
    assert lines[-3:-1] == ["FAILED works: no such shelf", "  log: works.log"]
