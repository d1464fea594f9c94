"""Who runs the workflow in a directory, and whether it still does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from epic100.base import hold
from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.base.hold import LOCKS, RECORD, Hold, Run, read_run
from epic100.base.machine import process_space
from support.this_process import largest_file

BEATS = """
import subprocess, sys, time
from pathlib import Path
from epic100.base import hold
hold.BEAT_SECONDS = 0.1
hold.Hold(Path(sys.argv[1]), lambda line: print(line, flush=True)).take()
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # A hold sets this variable, and `monkeypatch` puts it back after the test.
    monkeypatch.setenv(FENCE, "")
    (tmp_path / ".snakemake").mkdir()
    return tmp_path


@pytest.fixture
def left(folder):
    """Leaves the record of a run, changed from this process's, as old as is said."""

    def leave(age: float = 0.0, **changes) -> Run:
        run = replace(Run.this(), **changes)
        (folder / RECORD).write_text(json.dumps(asdict(run)))
        os.utime(folder / RECORD, (time.time() - age,) * 2)
        return run

    return leave


def test_a_run_holds_its_folder_alone_until_its_end(folder):
    start = threading.Barrier(8)
    holds = [Hold(folder, print) for _ in range(8)]

    def take(each):
        start.wait()
        each.take()

    with ThreadPoolExecutor(8) as pool:
        taken = [pool.submit(take, each) for each in holds]
    errors = [str(each.exception()) for each in taken if each.exception()]
    assert len(errors) == 7 and all("another run of this workflow is at work" in e for e in errors)
    (holder,) = [each for each in holds if each.run is not None]
    assert read_run(folder) == holder.run
    write_text(folder / "out", "")
    holder.run = replace(holder.run, scheduler="slurm")
    # A run that may have left jobs keeps its record.
    holder.release()
    assert read_run(folder) is not None
    holder.run = replace(holder.run, scheduler="")
    holder.release()
    assert sorted(os.listdir(folder)) == [".snakemake", "out"] and not os.listdir(
        folder / ".snakemake"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere"},
        {"space": f"{process_space().split()[0]} pid:[1]", "pid": 2**22 - 1},
    ],
    ids=["machine", "namespace"],
)
def test_a_run_that_cannot_be_seen_is_alive_while_its_record_beats(folder, left, changes):
    run = left(age=20, **changes)
    assert not run.is_gone()
    with pytest.raises(EpicError, match=f"{run}, which gave a sign 2[01] s ago; if it is gone"):
        Hold(folder, print).take()
    left(age=hold.SILENT_SECONDS + 1, **changes)
    held = Hold(folder, print)
    held.take()
    assert read_run(folder).host == Run.this().host
    # If it held on, this process would end at its next beat.
    held.release()
    # Another run takes over in its turn, and no job of this run saves from now on.
    new = left(**changes)
    with pytest.raises(EpicError, match=f"{new.token} is at work for the same files since"):
        write_text(folder / "out", "")


def test_a_record_with_a_time_in_the_future_is_not_waited_for_for_ever(folder, left, monkeypatch):
    monkeypatch.setattr(hold, "SILENT_SECONDS", 1.0)
    left(age=-1.5e9, host="elsewhere")
    with pytest.raises(EpicError, match="which gave a sign 0 s ago"):
        Hold(folder, print).take()
    time.sleep(1.1)
    Hold(folder, print).take()


@pytest.mark.parametrize("changes", [{"space": "before pid:[1]"}, {"pid": 2**22 - 1}])
def test_a_run_of_an_earlier_boot_or_whose_process_has_ended_is_gone(changes):
    assert not Run.this().is_gone()
    assert replace(Run.this(), **changes).is_gone()


def test_a_run_in_a_slurm_job_that_is_queued_again_elsewhere_takes_its_own_folder(
    folder, left, monkeypatch
):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    left(host="elsewhere")
    Hold(folder, print).take()
    assert read_run(folder).job == "7@"


def test_a_record_that_was_removed_is_there_again_and_one_that_was_released_is_not(
    folder, monkeypatch
):
    monkeypatch.setattr(hold, "BEAT_SECONDS", 0.01)
    held = Hold(folder, print)
    held.take()
    (folder / RECORD).unlink()
    end = time.monotonic() + 20
    while read_run(folder) != held.run:
        assert time.monotonic() < end
    held.release()
    time.sleep(0.2)
    assert read_run(folder) is None


def test_a_run_that_was_taken_over_ends_at_its_next_beat_and_touches_nothing(folder, left):
    command = [sys.executable, "-c", BEATS, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as taken_over:
        child = psutil.Process(int(taken_over.stdout.readline()))
        # It is suspended, as by Ctrl-Z.
        taken_over.send_signal(signal.SIGSTOP)
        new = left(host="elsewhere")
        taken_over.send_signal(signal.SIGCONT)
        assert taken_over.wait(20) == 1
        assert f"was taken over by another one ({new})" in taken_over.stdout.read()
    assert read_run(folder) == new
    assert not psutil.wait_procs([child], 20)[1]


def test_locks_of_a_run_that_is_gone_are_removed_and_those_of_another_stay(folder, left):
    lock = folder / LOCKS / "0.input.lock"
    lock.parent.mkdir()
    lock.touch()
    left(host="elsewhere")
    Hold(folder, print).clear_locks()
    assert lock.exists()
    left(pid=2**22 - 1)
    Hold(folder, print).clear_locks()
    assert not lock.exists()


def test_what_is_left_in_the_queue_is_not_guessed_where_slurm_is_not(folder, left, monkeypatch):
    left(pid=2**22 - 1, scheduler="slurm", facts={"names": ["a"], "clusters": []}, age=100)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EpicError, match="no squeue here.*if it never will, remove "):
        Hold(folder, print).take()
    assert read_run(folder) is not None


LOCKED = """
import os, signal, threading, time
from epic100.base import hold
lock, seen = threading.Lock(), threading.Event()
def handler(*_):
    with lock:
        seen.set()
signal.signal(signal.SIGTERM, handler)
hold._do_first(signal.SIGTERM, lambda: None)
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
assert seen.wait(10)
"""


def test_sigterm_that_interrupts_who_holds_snakemake_s_lock_does_not_hang():
    """As it did on 28 November 2026, in `_finish_jobs`."""
    subprocess.run([sys.executable, "-c", LOCKED], timeout=20, check=True)


@pytest.mark.parametrize(
    "text",
    [
        '{"host": "a"',
        '{"host": "a", "pid": 1, "started": 2, "number": 7}',
        "[]",
    ],
)
def test_a_record_that_is_not_whole_or_of_another_version_is_named(folder, text):
    (folder / RECORD).write_text(text)
    with pytest.raises(EpicError, match="epic100-run.json"):
        Hold(folder, print).take()


def test_a_folder_in_which_nothing_can_be_written_is_one_line(folder):
    words = r"epic100-run\.\w+: not written: "
    with largest_file(0), pytest.raises(EpicError, match=f"{words}File too large; make room"):
        Hold(folder, print).take()
    with pytest.raises(EpicError, match=words):
        Hold(Path("/sys"), print).take()
    assert not os.listdir(folder / ".snakemake")
    Hold(folder, print).take()
