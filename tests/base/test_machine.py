"""Cores and signals of a process, on this system and on one that tells less."""

import os
import signal
import subprocess

import pytest

from epic100.base.machine import note, usable_cores, wait_for_signal_of
from support.this_process import fork


@pytest.mark.parametrize(
    "text, cores",
    [
        pytest.param("max 100000", 8, id="no quota"),
        pytest.param("250000 100000", 2, id="2.5 cores"),
        pytest.param("50000 100000", 1, id="half a core"),
        pytest.param("nonsense", 8, id="no numbers"),
    ],
)
def test_a_process_has_the_cores_of_its_container_s_quota(tmp_path, monkeypatch, text, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert usable_cores(tmp_path) == cores


def test_without_affinity_all_cores_count_and_one_note_says_so(tmp_path, monkeypatch, capsys):
    note.cache_clear()
    monkeypatch.delattr(os, "sched_getaffinity")
    for _ in range(2):
        assert usable_cores(tmp_path) == os.cpu_count()
    assert capsys.readouterr().out.count("note: this system knows no affinity") == 1


def wait_for_parent(system):
    """Wait for SIGUSR2 of the parent; macOS has no `sigwaitinfo`."""
    if system == "macos":
        del signal.sigwaitinfo
    wait_for_signal_of(os.getppid(), signal.SIGUSR2)


@pytest.mark.parametrize("system", ["linux", "macos"])
def test_a_wait_ends_with_the_signal_of_the_sender(system):
    # A forked process inherits the blocked signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    waiter = fork.Process(target=wait_for_parent, args=(system,))
    waiter.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    if system == "linux":
        # Linux tells the sender of a signal, so that of another process does not end the wait.
        subprocess.run(["kill", "-USR2", str(waiter.pid)], check=True)
        waiter.join(0.2)
        assert waiter.exitcode is None
    os.kill(waiter.pid, signal.SIGUSR2)
    waiter.join(10)
    assert waiter.exitcode == 0
