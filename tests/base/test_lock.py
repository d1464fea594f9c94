"""One run in a folder, and one job for a target: locks that open, and older jobs that end."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.base.lock import (
    LOCKS,
    end_if_not_newest,
    newest_file,
    note_lock,
    open_lock_of_killed_run,
)
from epic100.base.machine import process_space

HOST, (BOOT, NAMESPACE) = socket.gethostname(), process_space().split()
# No process has this id, which is the largest that Linux gives.
NO_PROCESS = 2**22 - 1


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A lock of Snakemake in the working folder."""
    monkeypatch.chdir(tmp_path)
    LOCKS.mkdir(parents=True)
    (LOCKS / "0.output.lock").touch()
    return LOCKS / "0.output.lock"


@pytest.mark.parametrize(
    ("host", "pid", "space", "opens"),
    [
        pytest.param(HOST, NO_PROCESS, f"{BOOT} {NAMESPACE}", True, id="its process has ended"),
        pytest.param(HOST, 1, f"before {NAMESPACE}", True, id="it ran before a reboot"),
        pytest.param(HOST, os.getpid(), f"{BOOT} {NAMESPACE}", True, id="this run, begun anew"),
        pytest.param(HOST, 1, f"{BOOT} {NAMESPACE}", False, id="it is at work"),
        pytest.param(HOST, NO_PROCESS, f"{BOOT} pid:[1]", False, id="in another container"),
        pytest.param("login2", NO_PROCESS, "b n", False, id="on another machine"),
    ],
)
def test_only_locks_of_dead_runs_open(lock, host, pid, space, opens):
    note = LOCKS / f"{host}_{pid}.run"
    note.write_text(f"{space} ann")
    said = []
    assert open_lock_of_killed_run(said.append) is opens
    # The lock and the note of who holds it go together.
    assert lock.exists() is not opens
    assert note.exists() is not opens
    words = f"process {pid} of ann on {host} holds this folder; once it has ended: "
    assert said == ([] if opens else [f"{words}`snakemake --unlock`"])


def test_one_of_many_calls_opens_a_lock(lock):
    note_lock()
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: open_lock_of_killed_run(print), range(8)))
    assert opened.count(True) == 1


@pytest.mark.parametrize("text", ["", "boot", "\0", "b n"])
def test_a_note_that_cannot_be_read_opens_nothing(lock, text):
    (LOCKS / f"{HOST}_{NO_PROCESS}.run").write_text(text)
    (LOCKS / f"{HOST}_x.run").write_text(text)
    assert not open_lock_of_killed_run(print) and lock.exists()


JOB = [
    *("python", "-m", "snakemake", "--snakefile", "a b"),
    *("--target-jobs", "scan:participant=P01", "--allowed-rules", "scan"),
]


@pytest.fixture
def start_job(tmp_path, monkeypatch):
    """Begins `JOB` in this process as the cluster job of an id."""
    monkeypatch.chdir(tmp_path)
    # The code sets this variable, and `monkeypatch` puts it back after the test.
    monkeypatch.setenv(FENCE, "")
    newest_file(JOB).parent.mkdir(parents=True)

    def start(job_id):
        monkeypatch.setenv("SLURM_JOB_ID", job_id)
        end_if_not_newest(JOB)

    return start


def test_a_replaced_job_writes_no_file(start_job):
    start_job("6")
    write_text("out", "of job 6")
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(EpicError, match="7 is at work for the same files since: this one ends"):
        write_text("out", "of job 6, too late")
    assert Path("out").read_text() == "of job 6"


def test_only_the_newest_of_two_jobs_starts(start_job):
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(SystemExit, match="7 is at work"):
        start_job("6")
    start_job("7")
    write_text("out", "of job 7")


@pytest.mark.parametrize("text", ["", '{"token": "7', "7", "[]", "{}", "\0\xff", "[" * 100_000])
def test_no_newest_job_ends_no_job(start_job, text):
    newest_file(JOB).write_text(text)
    start_job("6")
    write_text("out", "complete")
