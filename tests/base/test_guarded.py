"""Calls with limits, each in a fork of a server."""

import importlib
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from epic100.base.guarded import FileError, ProcessError, call, end_servers
from epic100.settings import ScanLimits
from support import bad_decoders
from support.crafted import Unpickled
from support.this_process import fork

pytestmark = pytest.mark.slow

# A stall is tested with QUICK. On a busy machine the start of Python alone takes a second.
PATIENT = ScanLimits(stall_seconds=60.0, memory_mib=512)
QUICK = ScanLimits(stall_seconds=1.0, memory_mib=512)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let six times as much time pass as in use, since other tests compute at the same time."""
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", 60)


def run(name: str, *words: object, limits=PATIENT, seconds=60.0, progress=lambda n: None):
    """Return what this decoder of `bad_decoders` returns."""
    function = getattr(bad_decoders, name)
    return call(function, *words, limits=limits, seconds=seconds, progress=progress)


def reason(name: str, *words: object, **options) -> str:
    """Return the message of the FileError with which this decoder ends."""
    with pytest.raises(FileError) as error:
        run(name, *words, **options)
    return str(error.value)


def test_arrays_come_back_as_lists_and_plain_values_as_they_are():
    row, table = ["a\nb", 1.5, None, "x" * 10**7], np.array([[1, -(2**40)], [3, 4]])
    assert run("give", {"row": row, "table": table}) == {"row": row, "table": table.tolist()}


def test_what_a_file_makes_a_library_say_is_no_answer():
    """A tensor's name with a newline and the guard's own words once passed for an answer."""
    assert run("speak_as_the_guard") == "true"
    assert run("give", 1) == 1


@pytest.mark.parametrize(
    ("decoder", "limits"),
    [
        pytest.param(("read_without_limits",), PATIENT, id="macOS refuses limits"),
        pytest.param(("be_suspended", 2), QUICK, id="the machine leaves it no time"),
        pytest.param(("chatter",), PATIENT, id="it writes more than pipes hold"),
        # The child lives for 60 s, and holds the pipes of its parent.
        pytest.param(("leave_a_child",), PATIENT, id="it leaves a child"),
    ],
)
def test_a_decoder_without_a_fault_ends_by_itself(decoder, limits):
    started = time.monotonic()
    assert run(*decoder, limits=limits) is None
    assert time.monotonic() - started < 40


def test_a_machine_that_is_too_busy_for_long_is_at_fault(monkeypatch):
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", 10)
    with pytest.raises(ProcessError, match="of this machine are too busy"):
        run("be_suspended", 30, limits=ScanLimits(stall_seconds=0.3, memory_mib=512))


ASKS_FOR_MEMORY = "reading it asks for more than 512 MiB of memory"


@pytest.mark.parametrize(
    ("decoder", "options", "patience", "wanted"),
    [
        (("get", "SIGABRT"), {}, 60, "reading it crashed (SIGABRT)"),
        (("get", "SIGFPE"), {}, 60, "reading it crashed (SIGFPE)"),
        (("refuse", "EpicError", "bad\npackets"), {}, 60, "bad packets"),
        (("refuse", "InvalidDataError", "bad"), {}, 60, "reading it failed: bad"),
        (("refuse", "FileNotFoundError", "bad"), {}, 60, "reading it failed: bad"),
        (("refuse", "MemoryError", "bad"), {}, 60, ASKS_FOR_MEMORY),
        (("eat",), {}, 60, ASKS_FOR_MEMORY),
        (("give", "x" * 2**21), {}, 60, "reading it failed: its result has more than 1 MiB"),
        # It computes without progress.
        (("ignore_signals",), {"limits": QUICK}, 60, "no progress in 1 s"),
        # It sleeps without progress, whatever it reports.
        (("sleep",), {"limits": QUICK}, 2, "no progress in 1 s"),
        (("repeat", 7), {"limits": QUICK}, 2, "no progress in 1 s"),
        (("repeat", 0), {"limits": QUICK}, 2, "no progress in 1 s"),
        (("hide",), {"limits": QUICK}, 2, "no progress in 1 s"),
        # It makes progress, but far too slowly, while it computes or sleeps.
        (("creep", 0.0), {"seconds": 1.0}, 60, "not read within 1 s"),
        (("creep", 0.02), {"seconds": 1.0}, 2, "not read within 1 s"),
    ],
)
def test_a_decoder_that_fails_or_does_not_end_is_the_file_s_fault(
    decoder, options, patience, wanted, monkeypatch
):
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", patience)
    monkeypatch.setattr("epic100.base.guarded.LARGEST", 2**20)
    assert reason(*decoder, **options) == wanted


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (("get", "SIGKILL"), "ended from outside \\(SIGKILL\\)"),
        (("get", "SIGTERM"), "SIGTERM"),
        # A page that cannot be read gives this signal.
        (("get", "SIGBUS"), "SIGBUS"),
        (("give_up", 0), "its process left no result"),
        # JSON cannot hold these results, and nothing else is sent back.
        (("give", {1, 2}), "an error of ours"),
        (("give", Path("v")), "an error of ours"),
        (("give", np.array([Path("v")])), "an error of ours"),
        # Any exception of another class is a bug of this workflow, and has its traceback.
        (
            ("fail", "no such item"),
            r"(?s)of ours, not of the file.*Traceback.*in fail.*: no such item",
        ),
        (("find_no_folder",), "No such file or directory: '/no/such/folder/x'"),
        pytest.param(
            ("find_a_bad_sector",),
            "reading at byte 0 failed 4 times: Input/output error; the disk is at fault",
            marks=pytest.mark.skipif(
                not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO"
            ),
        ),
    ],
)
def test_a_fault_of_the_machine_or_of_this_workflow_is_no_fault_of_the_file(decoder, words):
    with pytest.raises(ProcessError, match=words):
        run(*decoder)


def test_progress_is_reported_in_order():
    reported = []
    run("say", 10, 20, 30, progress=reported.append)
    # While the decoder reports nothing, its last count comes again.
    assert reported == sorted(reported)
    assert {count for count in reported if count} == {10, 20, 30}


@pytest.fixture
def notes(tmp_path) -> Path:
    """The file in which decoders that `noted` runs write their process ids."""
    return tmp_path / "notes"


@pytest.fixture
def noted(notes):
    """Runs a decoder that notes its process ids first, by servers of this test alone."""
    end_servers()
    yield partial(run, "note", notes)
    end_servers()


def pids(notes: Path) -> list[tuple[int, int]]:
    """Return the process ids of the server and of its fork for each call so far."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def wait_until(condition) -> bool:
    """Wait until a condition is true, for 60 s at most; return whether it is."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def all_end(*pids: int) -> bool:
    """Whether these processes end within 60 s. Of a zombie, only its exit code is left."""
    return wait_until(
        lambda: all(
            process.info["status"] == psutil.STATUS_ZOMBIE
            for process in psutil.process_iter(["status"])
            if process.pid in pids
        )
    )


def test_each_call_has_a_process_of_its_own_from_the_same_server(noted, notes):
    # `be_new` fails in a process that has run it before.
    noted("be_new")
    assert reason("note", notes, "refuse", "EpicError", "it is torn") == "it is torn"
    noted("be_new")
    servers, forks = map(set, zip(*pids(notes), strict=True))
    assert len(servers) == 1 and len(forks) == 3


# The server of `server_of_this_module` imports this file, and with it torch.
ROOMY = ScanLimits(stall_seconds=60.0, memory_mib=8192)


def server_of_this_module(progress) -> int:
    """Return the id of the server that runs functions of this module."""
    return os.getppid()


def test_each_module_has_a_server_of_its_own(noted, notes):
    noted("be_new")
    server = call(server_of_this_module, limits=ROOMY, seconds=60.0)
    noted("be_new")
    assert call(server_of_this_module, limits=ROOMY, seconds=60.0) == server
    ((first, _), (second, _)) = pids(notes)
    assert first == second != server


def test_a_call_runs_in_the_current_folder_of_the_caller(noted, tmp_path, monkeypatch):
    assert noted("tell_folder") == os.getcwd()
    monkeypatch.chdir(tmp_path)
    assert noted("tell_folder") == str(tmp_path)


def test_a_limit_on_memory_is_for_its_call_alone(noted):
    with pytest.raises(FileError, match=ASKS_FOR_MEMORY):
        noted("take", 600)
    assert call(bad_decoders.take, 600, limits=ScanLimits(memory_mib=2048), seconds=60.0) == 600


@pytest.mark.parametrize(
    ("decoder", "result"),
    [
        pytest.param(("tell_limit",), 512, id="the limit on memory in MiB"),
        pytest.param(("limit_beyond", 2**20), [0, 0], id="the system's lower limit stays"),
        pytest.param(("call_again",), True, id="a call within a call is in the same process"),
        pytest.param(("tell_threads_of_the_server",), 1, id="no threads of OpenBLAS"),
    ],
)
def test_the_process_of_a_call_has_these_properties(decoder, result, noted, monkeypatch):
    # Snakemake sets this variable to the threads of a rule.
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert noted(*decoder) == result


@pytest.mark.parametrize(
    ("decoder", "limits", "wanted"),
    [
        (("get", "SIGSEGV"), PATIENT, "reading it crashed (SIGSEGV)"),
        (("spin",), QUICK, "no progress in 1 s"),
        (("give_up",), PATIENT, "reading it failed: exit code 3"),
    ],
)
def test_a_failed_call_changes_nothing_for_the_next_call(decoder, limits, wanted, noted, notes):
    assert noted("give", 1) == 1
    assert reason("note", notes, *decoder, limits=limits) == wanted
    reported = []
    assert noted("give", 2, progress=reported.append) == 2
    # The next call reports none of the frames of the failed one.
    assert not any(reported)
    ((_, first_fork), (failed_server, failed_fork), (next_server, _)) = pids(notes)
    assert all_end(first_fork, failed_fork, failed_server)
    assert next_server != failed_server


@pytest.mark.parametrize("victim", ["server", "fork"])
def test_a_process_that_is_killed_from_outside_is_no_fault_of_the_file(victim, noted):
    with pytest.raises(ProcessError, match=r"ended from outside \(SIGKILL\)"):
        noted("kill_after_a_while", victim)
    assert noted("give", 1) == 1


def test_a_server_that_was_killed_while_idle_is_replaced(noted, notes):
    noted("give", 1)
    ((server, _),) = pids(notes)
    os.kill(server, signal.SIGKILL)
    assert all_end(server)
    assert noted("give", 2) == 2


@pytest.mark.parametrize(
    ("argument", "seconds", "words"),
    [
        (Unpickled(importlib.import_module, "no_such"), 60, "did not start: .*no_such"),
        (Unpickled(time.sleep, 60), 2, "did not start: not within 2 s"),
    ],
    ids=["broken", "hangs"],
)
def test_a_server_that_cannot_start_a_call_is_an_error(argument, seconds, words, monkeypatch):
    monkeypatch.setattr("epic100.base.guarded.START_SECONDS", seconds)
    with pytest.raises(ProcessError, match=words):
        run("give", argument)


def test_the_limit_on_stalls_does_not_count_a_slow_start(monkeypatch):
    """The start is slow on a busy machine, or if packages come from a slow disk."""
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", 10)
    run("give", Unpickled(time.sleep, 3.5), limits=ScanLimits(stall_seconds=0.3))


def test_a_missing_python_is_named(noted, monkeypatch):
    monkeypatch.setattr("epic100.base.guarded.COMMAND", ("/no/such/python",))
    with pytest.raises(ProcessError, match="/no/such/python does not start: No such file"):
        noted("give", 1)


def lead_a_group(function, *arguments) -> None:
    """Call a function in a process group of its own, as a shell starts a command."""
    os.setpgid(0, 0)
    function(*arguments)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda scan: os.kill(scan, signal.SIGKILL), id="killed"),
        pytest.param(lambda scan: os.killpg(scan, signal.SIGINT), id="Ctrl-C"),
    ],
)
def test_a_fork_that_computes_for_ever_ends_with_the_scan(end, noted, notes):
    scan = fork.Process(target=lead_a_group, args=(noted, "ignore_signals"))
    scan.start()
    wait_until(lambda: pids(notes))
    # After half a second it has set its signals, and computes.
    time.sleep(0.5)
    end(scan.pid)
    scan.join()
    # One call was made, and it noted the two processes.
    ((server, forked),) = pids(notes)
    assert all_end(forked, server)
