"""Who runs the workflow in a directory, and whether it still does."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from epic100.base.errors import EpicError
from epic100.slurm import record
from epic100.slurm.record import Run, alive, forget, read_run, settle, touch


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".snakemake").mkdir()
    return tmp_path


def test_a_run_is_written_read_and_forgotten(folder):
    assert read_run(folder) is None
    run = Run.this(["wice"], env={"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "wice"})
    run.write(folder)
    assert read_run(folder) == run
    forget(folder)
    assert read_run(folder) is None
    touch(folder)  # a record that is gone does not come back
    assert read_run(folder) is None


def test_this_process_lives_an_ended_one_and_one_with_a_reused_id_do_not(folder):
    run = Run.this([])
    assert alive(run, folder)
    assert not alive(replace(run, started=run.started + 1), folder)
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert not alive(replace(run, pid=done.pid), folder)


def test_a_run_on_another_machine_lives_while_it_touches_its_record(folder, monkeypatch):
    monkeypatch.setattr(record, "SILENT_SECONDS", 2.0)
    run = replace(Run.this([]), host="elsewhere")
    run.write(folder)
    said = []
    assert not alive(run, folder, said.append)
    assert len(said) == 1 and "elsewhere" in said[0]
    run.write(folder)
    threading.Thread(target=lambda: (time.sleep(0.5), touch(folder))).start()
    assert alive(run, folder, said.append)
    long_ago = time.time() - 10
    os.utime(folder / record.RECORD, (long_ago, long_ago))
    assert not alive(run, folder)


@pytest.fixture
def a_squeue(tmp_path, monkeypatch):
    """A command of that name; none of these tests comes as far as to ask it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/squeue").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin/squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_a_directory_in_use_is_refused_and_one_without_a_record_is_not_looked_at(folder, a_squeue):
    settle(folder, print)
    Run.this([]).write(folder)
    with pytest.raises(EpicError, match=f"at work here: process {os.getpid()} on"):
        settle(folder, print)
    with pytest.raises(EpicError, match="EPIC100_LEFTOVERS is 'kill'; expected wait or cancel"):
        settle(folder, print, "kill")


def test_where_slurm_is_not_a_run_on_slurm_is_not_taken_over(folder, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    replace(Run.this([]), started=1).write(folder)
    with pytest.raises(EpicError, match="there is no squeue to ask"):
        settle(folder, print)
    assert read_run(folder) is not None


def test_a_record_that_is_not_whole_is_named(folder):
    (folder / record.RECORD).write_text('{"host": "a"')
    with pytest.raises(EpicError, match="epic100-run.json"):
        settle(folder, print)
