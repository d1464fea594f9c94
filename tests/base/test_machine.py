"""What a process may use, on this system and on one that has less."""

import os
import signal
import subprocess

import pytest

from epic100.base.machine import note, usable_cores, wait_for_signal_of
from support.this_process import fork


@pytest.fixture(autouse=True)
def nothing_noted():
    note.cache_clear()


@pytest.mark.parametrize(
    "text, cores",
    [
        ("max 100000", 8),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("nonsense", 8),
        (None, 8),
    ],
)
def test_the_quota_of_a_container_counts(tmp_path, monkeypatch, text, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    if text is not None:
        (tmp_path / "cpu.max").write_text(text + "\n")
    assert usable_cores(tmp_path) == cores


def test_without_affinity_the_machines_cores_count_and_it_is_noted_once(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores(tmp_path) == usable_cores(tmp_path) == os.cpu_count()
    assert capsys.readouterr().out.count("note: this system knows no affinity") == 1


def wait(system):
    if system == "macos":
        del signal.sigwaitinfo
    wait_for_signal_of(os.getppid(), signal.SIGUSR2)


@pytest.mark.parametrize("system", ["linux", "macos"])
def test_a_wait_ends_with_the_signal_of_the_right_sender(system):
    # A forked process inherits the blocked signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    waiter = fork.Process(target=wait, args=(system,))
    waiter.start()
    # Where the system tells who sent a signal, that of another process does not end the wait.
    if system == "linux":
        subprocess.run(["kill", "-USR2", str(waiter.pid)], check=True)
        waiter.join(0.2)
        assert waiter.exitcode is None
    os.kill(waiter.pid, signal.SIGUSR2)
    waiter.join(10)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    assert waiter.exitcode == 0
