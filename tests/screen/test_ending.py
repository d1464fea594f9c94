"""The last lines on the screen of a run of Snakemake that is stopped, or that fails."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow
# The logger `epic100` is the one of this workflow.
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "epic100"]
RULES = """
rule all:
    input: "out.txt"
rule slow:
    output: "out.txt"
    log: "slow.log"
    script: "slow.py"
"""
# Each text is the script of the rule `slow`. This one has written to its log, and waits.
WAITS = "import time\nopen('slow.log', 'w').write('--- 2026-01-02 \\nhalf\\n')\ntime.sleep(99)\n"
# This one writes an error to its log at SIGTERM, as a training does.
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
# This one fails at once.
FAILS = "open('slow.log', 'w').write('error: SIGTERM.csv: no such file\\n')\nraise SystemExit(1)\n"


# The end of the last line of such a run.
NEXT = "give the same command; jobs that are done stay done."


@pytest.mark.parametrize(
    "script, number, last_lines",
    [
        # A run that was stopped must not be called failed.
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
            # A file that has the name of a signal is no signal.
            ["FAILED slow: SIGTERM.csv: no such file", f"Next: fix this and {NEXT}"],
        ),
    ],
    ids=["SIGTERM", "Ctrl-C", "SIGTERM, and the job saves", "error of the job"],
)
def test_the_last_lines_say_why_a_run_ended_and_what_to_do(tmp_path, script, number, last_lines):
    (tmp_path / "Snakefile").write_text(RULES)
    (tmp_path / "slow.py").write_text(script)
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(
            COMMAND, cwd=tmp_path, stdout=output, stderr=output, start_new_session=True
        )
    if number is not None:
        log = tmp_path / "slow.log"
        while not log.exists() or not log.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, number)
    assert process.wait(60) == 1
    failure, next_step = last_lines
    # The path of the log stands between both.
    lines = (tmp_path / "output.txt").read_text().splitlines()
    assert lines[-3:] == [failure, "  log: slow.log", next_step]


RETRIED = """
rule all:
    input: "out.txt"
    retries: 0
rule works:
    output: "out.txt"
    log: "works.log"
    retries: 1
    shell: "echo 'error: no such shelf' > {log}; echo >> tries.txt; exit 3"
"""


def test_a_failure_is_shown_at_its_retry_and_at_the_end_on_a_terminal_that_was_paused(tmp_path):
    (tmp_path / "Snakefile").write_text(RETRIED)
    # A full pipe takes no line until it is read, as a terminal at Ctrl-S. Snakemake goes on, and
    # removes the log of the first try.
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"\n" * size)
    process = subprocess.Popen(COMMAND, cwd=tmp_path, stderr=writing)
    os.close(writing)
    tries = tmp_path / "tries.txt"
    while not tries.exists() or tries.read_text() != "\n\n":
        assert process.poll() is None
        time.sleep(0.05)
    with os.fdopen(reading) as screen:
        lines = screen.read().splitlines()
    assert process.wait(60) == 1
    assert lines.count("FAILED works: no such shelf") == 2 and "  works is tried again" in lines
    assert lines[-3:-1] == ["FAILED works: no such shelf", "  log: works.log"]
