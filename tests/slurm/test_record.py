"""Who runs the workflow in a directory, and whether it still does."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from epic100.base.errors import EpicError
from epic100.slurm import record
from epic100.slurm.record import RECORD, Run, is_alive, read_run, release, touch
from epic100.slurm.takeover import take_over
from support.slurm_calls import put_before


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".snakemake").mkdir()
    return tmp_path


def test_a_run_is_claimed_once_read_renewed_and_released(folder):
    run = Run.this(["wice"], env={"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "wice"})
    assert run.claim(folder) and not replace(run, pid=1).claim(folder)
    assert read_run(folder) == run
    replace(run, clusters=()).write(folder)
    assert read_run(folder).clusters == ()
    assert not release(folder, replace(run, pid=1))  # another's stays
    assert read_run(folder).pid == run.pid
    assert release(folder, run)
    touch(folder)  # a record that is gone does not come back
    assert os.listdir(folder / ".snakemake") == []


def test_of_many_that_claim_at_once_one_gets_it(folder):
    start = threading.Barrier(8)

    def claim(number):
        start.wait()
        return replace(Run.this(), pid=number).claim(folder)

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claim, range(1, 9)))
    assert claimed == [number == read_run(folder).pid for number in range(1, 9)]


def test_this_process_lives_an_ended_one_and_one_with_a_reused_id_do_not(folder):
    run = Run.this()
    assert is_alive(run, folder)
    assert not is_alive(replace(run, started=run.started + 1), folder)
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert not is_alive(replace(run, pid=done.pid), folder)


def test_a_run_on_another_machine_lives_while_it_touches_its_record(folder, monkeypatch):
    monkeypatch.setattr(record, "SILENT_SECONDS", 2.0)
    run = replace(Run.this(), host="elsewhere")
    run.claim(folder)
    shown = []
    assert not is_alive(run, folder, shown.append)
    assert "elsewhere" in " ".join(shown)
    run.write(folder)
    threading.Thread(target=lambda: (time.sleep(0.5), touch(folder))).start()
    assert is_alive(run, folder, shown.append)
    os.utime(folder / RECORD, (0, 0))  # long ago
    assert not is_alive(run, folder)


@pytest.fixture
def a_squeue(tmp_path, monkeypatch):
    """A command of that name; none of these tests comes as far as to ask it."""
    put_before("squeue", "exit 1", tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_a_directory_in_use_is_refused_and_ones_own_is_not(folder, a_squeue):
    mine = Run.this()
    take_over(folder, mine, print)
    take_over(folder, mine, print)
    release(folder, mine)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = replace(mine, pid=other.pid, started=record.start_of(other.pid))
    theirs.claim(folder)
    with pytest.raises(EpicError, match=f"at work here: process {other.pid} of .* on"):
        take_over(folder, mine, print)
    other.communicate()
    with pytest.raises(EpicError, match="EPIC100_LEFTOVERS is 'kill'; expected wait or cancel"):
        take_over(folder, mine, print, "kill")


def test_a_run_that_died_before_its_first_submission_needs_no_answer_of_slurm(folder, a_squeue):
    replace(Run.this(), started=1, submits=False).claim(folder)
    (folder / ".snakemake/locks").mkdir()
    (folder / ".snakemake/locks/0.input.lock").touch()
    take_over(folder, Run.this(), print)
    assert read_run(folder) == Run.this()
    assert not list((folder / ".snakemake/locks").iterdir())


def test_where_slurm_is_not_a_run_on_slurm_is_not_taken_over(folder, monkeypatch):
    replace(Run.this(), started=1).claim(folder)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EpicError, match="there is no squeue to ask"):
        take_over(folder, Run.this(), print)
    assert read_run(folder) is not None


@pytest.mark.parametrize("text", [
    '{"host": "a"', '{"host": "a", "pid": 1, "started": 2, "number": 7}', "[]",
])  # fmt: skip
def test_a_record_that_is_not_whole_or_of_another_version_is_named(folder, text):
    (folder / record.RECORD).write_text(text)
    with pytest.raises(EpicError, match="epic100-run.json"):
        take_over(folder, Run.this(), print)
