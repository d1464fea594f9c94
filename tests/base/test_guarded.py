"""Calls with limits, each in a fork of a server."""

import importlib
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from epic100.base import guarded
from epic100.base.guarded import FileError, ProcessError, call, end_servers
from epic100.settings import ScanLimits
from support import bad_decoders
from support.crafted import Unpickled
from support.this_process import fork

pytestmark = pytest.mark.slow

# Only tests of the stall itself are in a hurry: on a busy machine Python alone starts in a second.
PATIENT = ScanLimits(stall_seconds=60.0, memory_mib=512)
QUICK = ScanLimits(stall_seconds=1.0, memory_mib=512)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A limit may pass more often than it may in use: other tests are on the cores too."""
    monkeypatch.setattr(guarded, "PATIENCE", 60)


def run(name: str, *words: object, limits=PATIENT, seconds=60.0, progress=lambda n: None):
    """What this decoder gives."""
    function = getattr(bad_decoders, name)
    return call(function, *words, limits=limits, seconds=seconds, progress=progress)


def reason(name: str, *words: object, **options) -> str:
    """Why the file is at fault."""
    with pytest.raises(FileError) as error:
        run(name, *words, **options)
    return str(error.value)


def test_values_and_arguments_come_and_go_as_they_are_and_arrays_as_lists():
    row, table = ["a\nb", 1.5, None], np.array([[1, -(2**40)], [3, 4]])
    assert run("give", {"row": row, "table": table}) == {"row": row, "table": table.tolist()}
    assert len(run("give", "x" * 10**7)) == 10**7


def test_what_a_file_makes_a_library_say_is_no_answer():
    """A tensor's name with a newline and the guard's own words passed the check."""
    assert run("speak_as_the_guard") == "true"
    assert run("give", 1) == 1


def test_a_result_that_is_too_large_or_none_is_the_file_s_fault(monkeypatch):
    monkeypatch.setattr(guarded, "LARGEST", 2**20)
    wanted = "reading it failed: its result has more than 1 MiB"
    assert reason("give", "x" * 2**21) == wanted


@pytest.mark.parametrize(
    ("decoder", "limits"),
    [(("read_without_limits",), PATIENT), (("be_suspended", 2), QUICK), (("chatter",), PATIENT)],
    ids=["macOS refuses limits", "the machine leaves it no time", "it writes more than pipes hold"],
)
def test_a_decoder_that_is_sound_is_ended_for_no_reason(decoder, limits):
    assert run(*decoder, limits=limits) is None


def test_a_machine_that_leaves_no_time_for_long_is_at_fault_and_not_the_file(monkeypatch):
    monkeypatch.setattr(guarded, "PATIENCE", 10)
    with pytest.raises(ProcessError, match="of this machine are too busy"):
        run("be_suspended", 30, limits=ScanLimits(stall_seconds=0.3, memory_mib=512))


BAD, WORDS = "v.MP4: bad\npackets; scan it", "v.MP4: bad packets; scan it"


@pytest.mark.parametrize(
    ("decoder", "options", "patience", "wanted"),
    [
        (("get", "SIGABRT"), {}, 60, "reading it crashed (SIGABRT)"),
        (("get", "SIGFPE"), {}, 60, "reading it crashed (SIGFPE)"),
        (("refuse", "EpicError", BAD), {}, 60, WORDS),
        (("refuse", "InvalidDataError", BAD), {}, 60, f"reading it failed: {WORDS}"),
        (("refuse", "FileNotFoundError", BAD), {}, 60, f"reading it failed: {WORDS}"),
        (("refuse", "MemoryError", BAD), {}, 60, "reading it asks for more than 512 MiB of memory"),
        # It computes without progress.
        (("ignore_signals",), {"limits": QUICK}, 60, "no progress in 1 s"),
        # It sleeps without progress, whatever it says.
        (("sleep",), {"limits": QUICK}, 2, "no progress in 1 s"),
        (("repeat", 7), {"limits": QUICK}, 2, "no progress in 1 s"),
        (("repeat", 0), {"limits": QUICK}, 2, "no progress in 1 s"),
        (("hide",), {"limits": QUICK}, 2, "no progress in 1 s"),
        # It creeps on, and computes or sleeps.
        (("creep", 0.0), {"seconds": 1.0}, 60, "not read within 1 s"),
        (("creep", 0.02), {"seconds": 1.0}, 2, "not read within 1 s"),
    ],
)
def test_a_decoder_that_fails_or_does_not_end_is_the_file_s_fault(
    decoder, options, patience, wanted, monkeypatch
):
    monkeypatch.setattr(guarded, "PATIENCE", patience)
    assert reason(*decoder, **options) == wanted


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (("get", "SIGKILL"), "ended from outside \\(SIGKILL\\)"),
        (("get", "SIGTERM"), "SIGTERM"),
        # A page that cannot be read gives this signal.
        (("get", "SIGBUS"), "SIGBUS"),
        (("give_up", 0), "its process left no result"),
        # Nothing comes back that would have to be unpickled.
        (("give", {1, 2}), "an error of ours"),
        (("give", Path("v")), "an error of ours"),
        (("give", np.array([Path("v")])), "an error of ours"),
        # An exception that is not the decoder's word is a bug of ours, with its traceback.
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
def test_what_is_not_the_file_s_fault_is_an_error(decoder, words):
    with pytest.raises(ProcessError, match=words):
        run(*decoder)


def test_a_child_that_holds_the_pipes_does_not_hold_the_scan():
    started = time.monotonic()
    assert run("leave_a_child") is None
    # The child stays for a minute.
    assert time.monotonic() - started < 40


def test_progress_is_heard_in_order():
    heard = []
    run("say", 10, 20, 30, progress=heard.append)
    # While the decoder says nothing, its last count comes again.
    assert heard == sorted(heard)
    assert [count for count in dict.fromkeys(heard) if count] == [10, 20, 30]


@pytest.fixture
def notes(tmp_path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def noted(notes):
    """Runs a decoder that notes who it is first, by servers of this test."""
    end_servers()
    yield partial(run, "note", notes)
    end_servers()


def pids(notes: Path) -> list[tuple[int, int]]:
    """(server, fork) for each call so far."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def all_gone(*pids: int) -> bool:
    """Whether these processes end, or have: nobody may have asked for their exit codes."""

    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    until = time.monotonic() + 20
    while any(map(lives, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(lives, pids))


def test_each_call_has_a_process_of_its_own_and_the_server_stays(noted, notes):
    # `be_new` fails in a process that has run it before.
    for _ in range(2):
        noted("be_new")
        assert reason("note", notes, "refuse", "EpicError", "it is torn") == "it is torn"
    servers, forks = map(set, zip(*pids(notes), strict=True))
    assert len(servers) == 1 and len(forks) == 4


# Its server imports this file, which imports torch.
ROOMY = ScanLimits(stall_seconds=60.0, memory_mib=8192)


def tell_server(progress) -> int:
    """The process of its server, which imports this file."""
    return os.getppid()


def test_a_call_does_not_depend_on_what_other_calls_imported(noted, notes):
    noted("be_new")
    server = call(tell_server, limits=ROOMY, seconds=60.0)
    noted("be_new")
    assert call(tell_server, limits=ROOMY, seconds=60.0) == server
    ((first, _), (second, _)) = pids(notes)
    assert first == second != server


def test_a_call_is_made_in_the_folder_where_the_caller_is_by_now(noted, tmp_path, monkeypatch):
    assert noted("tell_folder") == os.getcwd()
    monkeypatch.chdir(tmp_path)
    assert noted("tell_folder") == str(tmp_path)


def test_a_limit_holds_from_the_first_moment_and_for_its_call_alone(noted, notes):
    for _ in range(5):
        with pytest.raises(FileError, match="asks for more than 512 MiB"):
            noted("take", 600)
    assert reason("eat") == "reading it asks for more than 512 MiB of memory"
    assert call(bad_decoders.take, 600, limits=ScanLimits(memory_mib=2048), seconds=60.0) == 600
    assert noted("tell_limit") == 512
    assert noted("limit_beyond", 2**20) == [0, 0]  # The system's own limit holds.


def test_a_call_within_a_call_is_made_in_its_process(noted):
    assert noted("call_again") is True


@pytest.mark.parametrize(
    ("decoder", "limits", "wanted"),
    [
        (("get", "SIGSEGV"), PATIENT, "reading it crashed (SIGSEGV)"),
        (("spin",), QUICK, "no progress in 1 s"),
        (("give_up",), PATIENT, "reading it failed: exit code 3"),
    ],
)
def test_what_a_fork_does_concerns_its_own_call_only(decoder, limits, wanted, noted, notes):
    assert noted("give", 1) == 1
    assert reason("note", notes, *decoder, limits=limits) == wanted
    heard = []
    assert noted("give", 2, progress=heard.append) == 2
    # It hears nothing that the call before it said.
    assert not any(heard)
    (_, first), (failed, spoilt), (fresh, _) = pids(notes)
    assert all_gone(spoilt, failed, first) and fresh != failed


@pytest.mark.parametrize("victim", ["server", "fork"])
def test_who_kills_it_from_outside_is_not_the_file_s_fault(victim, noted, notes):
    with pytest.raises(ProcessError, match=r"ended from outside \(SIGKILL\)"):
        noted("kill_after_a_while", victim)
    assert noted("give", 1) == 1
    server, _ = pids(notes)[-1]
    # The server ends while it has nothing to do, so it is not used again.
    os.kill(server, signal.SIGKILL)
    assert all_gone(server)
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
    monkeypatch.setattr(guarded, "START_SECONDS", seconds)
    with pytest.raises(ProcessError, match=words):
        run("give", argument)


def test_a_slow_start_is_not_judged_by_what_a_file_may_take(monkeypatch):
    """As on a busy machine, or where packages come from a slow disk."""
    monkeypatch.setattr(guarded, "PATIENCE", 10)
    run("give", Unpickled(time.sleep, 3.5), limits=ScanLimits(stall_seconds=0.3))


def test_a_python_that_is_not_there_is_an_error(noted, monkeypatch):
    monkeypatch.setattr(guarded, "COMMAND", ("/no/such/python",))
    with pytest.raises(ProcessError, match="/no/such/python does not start: No such file"):
        noted("give", 1)


def lead_a_group(function, *arguments) -> None:
    os.setpgid(0, 0)
    function(*arguments)


@pytest.mark.parametrize(
    "end",
    [
        lambda scan: os.kill(scan, signal.SIGKILL),
        lambda scan: os.killpg(scan, signal.SIGINT),
    ],
    ids=["killed", "Ctrl-C"],
)
def test_nothing_outlives_a_scan_not_even_a_fork_that_spins(end, noted, notes):
    arguments = (noted, "ignore_signals")
    scan = fork.Process(target=lead_a_group, args=arguments)
    scan.start()
    until = time.monotonic() + 60
    while not pids(notes) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)  # By then it spins.
    end(scan.pid)
    scan.join()
    ((server, forked),) = pids(notes)
    assert all_gone(forked, server)


def test_a_server_has_one_thread_whatever_snakemake_sets(noted, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert noted("tell_threads_of_the_server") == 1
