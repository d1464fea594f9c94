"""What a process may use, on this system and on one that has less."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from epic100.base.machine import limit_process, note, usable_cores, wait_for_signal_of
from support.this_process import fork


@pytest.fixture(autouse=True)
def nothing_noted():
    note.cache_clear()


@pytest.mark.parametrize("text, cores", [
    ("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("nonsense", 8), (None, 8),
])  # fmt: skip
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


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


def test_another_process_is_limited(sleeper):
    limit_process(sleeper.pid, {resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: 2**33})
    assert resource.prlimit(sleeper.pid, resource.RLIMIT_AS)[0] == 2**33
    resource.prlimit(sleeper.pid, resource.RLIMIT_AS, (2**33, 2**33))
    limit_process(sleeper.pid, {resource.RLIMIT_AS: 2**34})  # the hard limit holds
    assert resource.prlimit(sleeper.pid, resource.RLIMIT_AS) == (2**33, 2**33)


def test_a_process_that_has_ended_or_a_system_that_has_none_needs_no_limits(
    sleeper, monkeypatch, capsys
):
    process = subprocess.Popen(["true"])
    process.wait()
    limit_process(process.pid, {resource.RLIMIT_CORE: 0})
    monkeypatch.delattr(resource, "prlimit")
    limit_process(sleeper.pid, {resource.RLIMIT_CORE: 0})
    assert "note: this system sets no limits" in capsys.readouterr().out
    assert sleeper.poll() is None


def wait(system):
    if system == "macos":
        del signal.sigwaitinfo
    wait_for_signal_of(os.getppid(), signal.SIGUSR2)


@pytest.mark.parametrize("system", ["linux", "macos"])
def test_a_wait_ends_with_the_signal_of_the_right_sender(system):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # and so it is in what is forked
    waiter = fork.Process(target=wait, args=(system,))
    waiter.start()
    if system == "linux":  # a stranger's signal is not the one
        subprocess.run(["kill", "-USR2", str(waiter.pid)], check=True)
        waiter.join(0.2)
        assert waiter.exitcode is None
    os.kill(waiter.pid, signal.SIGUSR2)
    waiter.join(10)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    assert waiter.exitcode == 0
