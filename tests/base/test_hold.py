"""One run holds a working directory until it ends, or is known to be gone."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace

import psutil
import pytest

from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.base.hold import LOCKS, RECORD, SILENT_SECONDS, Hold, Run, read_run
from epic100.base.machine import process_space
from support.this_process import largest_file

# No process has this id, which is the largest that Linux gives.
NO_PROCESS = 2**22 - 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory of Snakemake."""
    # A hold sets this variable, and `monkeypatch` puts it back after the test.
    monkeypatch.setenv(FENCE, "")
    (tmp_path / ".snakemake").mkdir()
    return tmp_path


@pytest.fixture
def leave_record(folder):
    """Writes the record of a run like this process's but for some fields, `age` seconds old."""

    def leave(age: float = 0.0, **changes) -> Run:
        run = replace(Run.this(), **changes)
        (folder / RECORD).write_text(json.dumps(asdict(run)))
        touched = time.time() - age
        os.utime(folder / RECORD, (touched, touched))
        return run

    return leave


def test_one_of_many_simultaneous_runs_holds_the_folder(folder):
    def take(held):
        with suppress(EpicError):
            held.take()

    holds = [Hold(folder, print) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, holds))
    (holder,) = [held for held in holds if held.run is not None]
    assert read_run(folder) == holder.run
    holder.release()
    assert os.listdir(folder / ".snakemake") == []


def test_a_run_that_may_have_left_jobs_keeps_its_record(folder):
    held = Hold(folder, print)
    held.take()
    held.run = replace(held.run, scheduler="slurm")
    held.release()
    assert read_run(folder) is not None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"host": "elsewhere"}, id="another machine"),
        pytest.param(
            {"space": f"{process_space().split()[0]} pid:[1]", "pid": NO_PROCESS},
            id="another namespace of process ids",
        ),
    ],
)
def test_a_run_that_cannot_be_seen_holds_the_folder_until_its_record_is_silent(
    folder, leave_record, changes
):
    run = leave_record(age=20, **changes)
    with pytest.raises(EpicError, match=f"{run}, which gave a sign 2[01] s ago; if it is gone"):
        Hold(folder, print).take()
    leave_record(age=SILENT_SECONDS + 1, **changes)
    held = Hold(folder, print)
    held.take()
    assert read_run(folder) == held.run


def test_a_run_that_was_taken_over_writes_no_file(folder, leave_record):
    held = Hold(folder, print)
    held.take()
    # Without this, the process of this test would end at the next beat.
    held.release()
    new = leave_record(host="elsewhere")
    with pytest.raises(EpicError, match=f"{new.token} is at work for the same files since"):
        write_text(folder / "out", "")


def test_a_record_with_a_time_in_the_future_is_silent_after_a_while(
    folder, leave_record, monkeypatch
):
    monkeypatch.setattr("epic100.base.hold.SILENT_SECONDS", 1.0)
    # Its time is in the year 2074.
    leave_record(age=-1.5e9, host="elsewhere")
    with pytest.raises(EpicError, match="which gave a sign 0 s ago"):
        Hold(folder, print).take()
    time.sleep(1.1)
    Hold(folder, print).take()


@pytest.mark.parametrize(
    "changes, is_gone",
    [
        pytest.param({}, False, id="this process"),
        pytest.param({"space": "before pid:[1]"}, True, id="an earlier boot"),
        pytest.param({"pid": NO_PROCESS}, True, id="a process that has ended"),
        pytest.param({"host": "elsewhere", "job": ""}, False, id="another machine"),
        # A cluster queues a job again after its node has failed.
        pytest.param(
            {"host": "elsewhere", "job": "7@"}, True, id="this job before it was requeued"
        ),
    ],
)
def test_a_run_is_gone_with_its_process_or_boot_or_job(changes, is_gone, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert replace(Run.this(), **changes).is_gone() is is_gone


def test_a_removed_record_is_written_again_until_the_run_ends(folder, monkeypatch):
    monkeypatch.setattr("epic100.base.hold.BEAT_SECONDS", 0.01)
    held = Hold(folder, print)
    held.take()
    (folder / RECORD).unlink()
    deadline = time.monotonic() + 20
    while read_run(folder) != held.run:
        assert time.monotonic() < deadline
    held.release()
    # Twenty beats pass.
    time.sleep(0.2)
    assert read_run(folder) is None


# This run holds the folder, and starts a process whose id it prints.
RUN = """
import subprocess, sys, time
from pathlib import Path
from epic100.base import hold
hold.BEAT_SECONDS = 0.1
hold.Hold(Path(sys.argv[1]), lambda line: print(line, flush=True)).take()
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_run_that_was_taken_over_ends_with_its_processes(folder, leave_record):
    command = [sys.executable, "-c", RUN, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        child = psutil.Process(int(run.stdout.readline()))
        # The other run takes over while this one is suspended, as by Ctrl-Z.
        run.send_signal(signal.SIGSTOP)
        new = leave_record(host="elsewhere")
        run.send_signal(signal.SIGCONT)
        assert run.wait(20) == 1
        assert f"was taken over by another one ({new})" in run.stdout.read()
    assert read_run(folder) == new
    child.wait(20)


@pytest.mark.parametrize(
    "changes, stays",
    [
        pytest.param({"host": "elsewhere"}, True, id="a run that may be active"),
        pytest.param({"pid": NO_PROCESS}, False, id="a run that is gone"),
    ],
)
def test_locks_of_snakemake_go_with_their_run(folder, leave_record, changes, stays):
    lock = folder / LOCKS / "0.input.lock"
    lock.parent.mkdir()
    lock.touch()
    leave_record(**changes)
    Hold(folder, print).clear_locks()
    assert lock.exists() is stays


def test_without_an_answer_of_slurm_no_run_takes_over(folder, leave_record, monkeypatch):
    facts = {"names": ["a"], "clusters": []}
    leave_record(age=100, pid=NO_PROCESS, scheduler="slurm", facts=facts)
    # No program of Slurm is found in this folder.
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EpicError, match="no squeue here.*if it never will, remove "):
        Hold(folder, print).take()
    assert read_run(folder) is not None


# The main thread holds a lock when SIGTERM comes, and the old handler waits for this lock.
INTERRUPTED = """
import os, signal, threading, time
from epic100.base import hold
lock, done = threading.Lock(), threading.Event()
def old_handler(*_):
    with lock:
        done.set()
signal.signal(signal.SIGTERM, old_handler)
hold._do_first(signal.SIGTERM, lambda: None)
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
assert done.wait(10)
"""


def test_sigterm_does_not_hang_while_snakemake_holds_its_lock():
    """It did so on 28 November 2026, in Snakemake's `_finish_jobs`."""
    subprocess.run([sys.executable, "-c", INTERRUPTED], timeout=20, check=True)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"host": "a"', id="cut"),
        pytest.param('{"host": "a", "pid": 1, "started": 2}', id="another version"),
        pytest.param("[]", id="a list"),
    ],
)
def test_a_record_that_is_no_run_is_named(folder, text):
    (folder / RECORD).write_text(text)
    with pytest.raises(EpicError, match="epic100-run.json"):
        Hold(folder, print).take()


def test_a_full_disk_is_one_line_and_leaves_no_record(folder):
    words = r"epic100-run\.\w+: not written: File too large; make room"
    with largest_file(0), pytest.raises(EpicError, match=words):
        Hold(folder, print).take()
    assert os.listdir(folder / ".snakemake") == []
