"""The screen of real runs of Snakemake: while they run, and how they end."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from support.this_process import Terminal

pytestmark = pytest.mark.slow
FAILED = "Next: fix this and give the same command; jobs that are done stay done."
STOPPED = "Stopped by {}. Next: give the same command; jobs that are done stay done."


def workflow(rule, script, more='log: "slow.log"'):
    """A workflow of one rule, whose script is for the shell."""
    return f'''
rule all:
    input: "out.txt"
    retries: 0
rule {rule}:
    output: "out.txt"
    {more}
    shell: """{script}"""
'''


def start(folder, rules, screen, *options):
    """Start Snakemake in a folder with a Snakefile of this text."""
    (folder / "Snakefile").write_text(rules)
    # The logger `epic100` is the one of this workflow.
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "epic100", *options]
    return subprocess.Popen(command, cwd=folder, stderr=screen, start_new_session=True)


def wait_for(process, path, words):
    """Wait until a file has these words, or until Snakemake has ended."""
    while process.poll() is None and (not path.exists() or words not in path.read_text()):
        time.sleep(0.05)


def lines_of_screen(folder, rules, number=None):
    """Run Snakemake, signal it once the job logs `half`, and return the lines of its screen."""
    with (folder / "screen").open("w") as screen:
        process = start(folder, rules, screen)
    wait_for(process, folder / "slow.log", "half")
    if number:
        os.killpg(process.pid, number)
    process.wait(60)
    return (folder / "screen").read_text().splitlines()


WAITS = "echo half > {log}; sleep 99"
# This job writes an error to its log at SIGTERM, as a training does.
SAVES = (
    "trap 'echo error: SIGTERM came: saved iter_7.pth; exit 1' TERM; exec > {log}; echo half; "
    "sleep 99 & wait"
)


@pytest.mark.parametrize(
    "script, number, last_lines",
    [
        pytest.param(
            WAITS,
            signal.SIGTERM,
            ["STOPPED slow: SIGTERM", "  log: slow.log", STOPPED.format("SIGTERM")],
            id="SIGTERM",
        ),
        pytest.param(
            WAITS,
            signal.SIGINT,
            ["STOPPED slow: Ctrl-C", "  log: slow.log", STOPPED.format("Ctrl-C")],
            id="Ctrl-C",
        ),
        pytest.param(
            SAVES,
            signal.SIGTERM,
            [
                "STOPPED slow: SIGTERM came: saved iter_7.pth",
                "  log: slow.log",
                STOPPED.format("SIGTERM"),
            ],
            id="SIGTERM, and the job saves",
        ),
        # A file that has the name of a signal is no signal.
        pytest.param(
            "echo 'error: SIGTERM.csv: no such file' > {log}; exit 1",
            None,
            ["FAILED slow: SIGTERM.csv: no such file", "  log: slow.log", FAILED],
            id="error of the job",
        ),
    ],
)
def test_last_lines_say_why_and_what_next(tmp_path, script, number, last_lines):
    lines = lines_of_screen(tmp_path, workflow("slow", script), number)
    assert lines[-3:] == last_lines
    # A file has no block.
    assert not any("\x1b" in line or "1 running" in line for line in lines)


@pytest.mark.parametrize(
    "rules, expected",
    [
        pytest.param(
            workflow("clean", "echo 'train 3 kept, 1 dropped; val 1 kept' > {log}; touch {output}"),
            r"clean: train 3 kept, 1 dropped; val 1 kept, 0:00:\d+",
            id="segments kept by split",
        ),
        pytest.param(
            workflow("train", "touch {output}", more=""),
            r"2 jobs done in 0:00:\d+\.",
            id="no log",
        ),
        pytest.param(
            workflow("scan", "echo no such film >&2; exit 1", more=""),
            r"  log: \.snakemake/epic100-output\.log",
            id="no log and a failure",
        ),
        pytest.param(
            workflow("scan", "echo 'RuntimeError: no disk' > {log}; exit 1"),
            "FAILED scan: RuntimeError: no disk",
            id="last exception",
        ),
        pytest.param(
            workflow("scan", "echo 'WARNING: P01_01: is short' > {log}; touch {output}"),
            "scan: WARNING: P01_01: is short",
            id="warning of a scan",
        ),
    ],
)
def test_an_ended_job_shows_its_log(tmp_path, rules, expected):
    assert any(re.fullmatch(expected, line) for line in lines_of_screen(tmp_path, rules))


def test_a_failure_shows_at_retry_and_end(tmp_path):
    script = "echo 'error: no such shelf' > {log}; echo >> tries.txt; exit 3"
    # A full pipe takes no line until it is read, as a terminal at Ctrl-S. Snakemake goes on, and
    # removes the log of the first try.
    reading, writing = os.pipe()
    os.write(writing, b"\n" * fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096))
    rules = workflow("works", script, more='log: "slow.log"\n    retries: 1')
    process = start(tmp_path, rules, writing)
    os.close(writing)
    wait_for(process, tmp_path / "tries.txt", "\n\n")
    assert process.poll() is None
    with os.fdopen(reading) as screen:
        lines = screen.read().splitlines()
    failure = ["FAILED works: no such shelf", "  log: slow.log"]
    assert lines[-3:] == [*failure, FAILED]
    assert "\n".join([*failure, "  works is tried again"]) in "\n".join(lines[:-3])


# The executor's reports of the job's id and of the queue are sent after nine seconds.
REPORTS = """
import threading
def report():
    reason = "Priority: other jobs come first"
    job = dict(state="PENDING", where="wice/batch", reason=reason)
    logger.info("Job 1 has been submitted with SLURM jobid 4711 (log: x).")
    logger.info("Slurm: 0 running, 1 pending", extra=dict(slurm_jobs={"4711": job}))
onstart:
    threading.Timer(9, report).start()
"""


def test_the_block_updates_in_place_and_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    rules = workflow("slow", "echo 'half of 3 films' > {log}; sleep 9; touch {output}")
    # The job is submitted to `sh`, which runs it at once.
    cluster = ("--executor", "cluster-generic", "--cluster-generic-submit-cmd", "sh", "--jobs=1")
    assert start(tmp_path, REPORTS + rules, terminal.stream, *cluster).wait(90) == 0
    # This code clears a line of the block before the block is drawn anew.
    blocks, _, last_lines = terminal.shown().rpartition("\x1b[2K")
    shown = [
        "1 running, 0:00:",
        "  slow: half of 3 films",
        "1 pending, 0:00:",
        "  slow: wice/batch pending (Priority: other jobs come first)",
    ]
    assert [words for words in shown if words not in blocks] == []
    assert "2 jobs done in 0:00:" in last_lines and "Slurm: " not in blocks
