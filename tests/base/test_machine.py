"""What a process may use, on this system and on one that has less."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from epic100.base import machine
from epic100.base.machine import limit_process, note, usable_cores


@pytest.fixture(autouse=True)
def nothing_noted():
    note.cache_clear()


def test_cores_are_those_of_the_affinity_not_of_the_machine():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from epic100.base.machine import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


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


WAITER = """
import os, signal, sys
from epic100.base.machine import wait_for_signal_of

if sys.argv[1] == "macos":
    del signal.sigwaitinfo
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
print("ready", flush=True)
wait_for_signal_of(os.getppid(), signal.SIGUSR2)
"""


@pytest.mark.parametrize("system", ["linux", "macos"])
def test_a_wait_ends_with_the_signal_of_the_right_sender(system):
    command = [sys.executable, "-c", WAITER, system]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as waiter:
        assert waiter.stdout.readline() == b"ready\n"
        if system == "linux":  # a stranger's signal is not the one
            subprocess.run(["kill", "-USR2", str(waiter.pid)], check=True)
            time.sleep(0.2)
            assert waiter.poll() is None
        os.kill(waiter.pid, signal.SIGUSR2)
        assert waiter.wait(10) == 0


def test_what_only_linux_has_is_used_in_one_module():
    calls = re.compile(
        r"os\.sched_|resource\.prlimit|signal\.sigwaitinfo|signal\.sigtimedwait|/proc/"
    )
    library = Path(machine.__file__).parents[1]
    found = {
        path.relative_to(library).as_posix()
        for path in library.rglob("*.py")
        if calls.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"base/machine.py"}
