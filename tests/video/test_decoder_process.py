"""Decoders with limits, each a process of its own or a fork of a server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from epic100.settings import ScanLimits
from epic100.video.decoder_process import ProcessError, run_decoder
from epic100.video.fork_server import ForkServers
from support.bad_decoders import __file__ as PROGRAM

pytestmark = pytest.mark.slow

# Only tests of the stall itself are in a hurry: on a busy machine Python alone starts in a second.
PATIENT = ScanLimits(stall_seconds=60.0, memory_mib=512)
QUICK = ScanLimits(stall_seconds=1.0, memory_mib=512)
COMMAND = (sys.executable, PROGRAM)


def run(*words: object, limits=PATIENT, total=60.0, progress=lambda n: None, start=None) -> str:
    """Why this decoder gave no result."""
    if start:
        return run_decoder([*map(str, words)], limits, total, progress, start)
    return run_decoder([*COMMAND, *map(str, words)], limits, total, progress)


@pytest.mark.parametrize(
    "decoder", ["spin", "sleep", "repeat frames 7", "repeat frames", "hide", "ignore_signals"]
)
def test_a_decoder_that_makes_no_progress_is_killed_whatever_it_says_or_ignores(decoder):
    assert run(*decoder.split(), limits=QUICK) == "no progress in 1 s"


def test_a_decoder_that_the_machine_leaves_no_time_is_not_stalled():
    assert run("be_suspended", 2, limits=QUICK) == ""


def test_a_machine_that_leaves_a_decoder_no_time_for_long_is_at_fault_and_not_the_file():
    with pytest.raises(ProcessError, match="of this machine are too busy"):
        run("be_suspended", 30, limits=ScanLimits(stall_seconds=0.3, memory_mib=512))


def test_a_decoder_that_only_creeps_on_is_killed_at_its_total_limit():
    assert run("creep", total=1.0) == "not decoded within 1 s"


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        ("eat", "the decoder asked for more than 512 MiB of memory"),
        ("get SIGSEGV", "the decoder crashed (SIGSEGV)"),
        ("get SIGABRT", "the decoder crashed (SIGABRT)"),
        ("get SIGFPE", "the decoder crashed (SIGFPE)"),
        ("fail", "the decoder failed: ValueError: no such codec"),
        ("give_up", "the decoder failed: exit code 3"),
        ("judge EpicError", "the decoder failed: v.MP4: bad packets; scan it"),
        ("judge InvalidDataError", "the decoder failed: v.MP4: bad packets; scan it"),
        ("judge FileNotFoundError", "the decoder failed: v.MP4: bad packets; scan it"),
        ("chatter", ""),  # which neither blocks it nor fills memory
    ],
)
def test_a_decoder_that_fails_is_reported_by_its_signal_or_its_last_words(decoder, reason):
    words = ["v.MP4: bad\npackets; scan it"] if decoder.startswith("judge") else []
    assert run(*decoder.split(), *words) == reason


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        ("start_amiss", "did not start: .*no_such_module"),
        ("get SIGKILL", "ended from outside \\(SIGKILL\\)"),
        ("get_later SIGTERM", "SIGTERM"),
        ("get SIGBUS", "SIGBUS"),  # a page that cannot be read
        ("judge no_folder", "No such file or directory: '/no/such/folder/x'"),
        pytest.param(
            "judge bad_sector",
            "reading at byte 0 failed 4 times: Input/output error; the disk is at fault",
            marks=pytest.mark.skipif(
                not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO"
            ),
        ),
    ],
)
def test_what_is_not_the_file_s_fault_is_an_error(decoder, words):
    with pytest.raises(ProcessError, match=words):
        run(*decoder.split())


def test_a_decoder_that_is_not_there_is_an_error():
    with pytest.raises(ProcessError, match="/no/such/decoder does not start: No such file"):
        run_decoder(["/no/such/decoder"], PATIENT, 5.0)


def test_a_limit_of_the_system_that_is_lower_stays():
    lower = ("sh", "-c", 'ulimit -v 409600; exec "$@"', "sh", *COMMAND, "watch", "tell_limit")
    done = subprocess.run(lower, capture_output=True, text=True, timeout=90)
    assert done.stdout.splitlines()[-1] == "the decoder failed: ValueError: 400"


def test_a_child_that_holds_the_pipes_does_not_hold_the_scan():
    started = time.monotonic()
    assert run("leave_a_child") == ""
    assert time.monotonic() - started < 40  # the child stays for a minute


def test_progress_is_heard_in_order_even_if_lines_arrive_in_pieces():
    heard = []
    assert run("speak_in_pieces", progress=heard.append) == ""
    assert heard == sorted(heard)  # the last count comes again while nothing is said
    assert [count for count in dict.fromkeys(heard) if count] == [10, 20, 30]


@pytest.fixture
def notes(tmp_path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def fork(notes):
    """Runs a decoder as a fork that notes who it is first."""
    with ForkServers(COMMAND, 60.0) as servers:
        yield partial(run, "note", notes, start=servers.fork)


def pids(notes: Path) -> list[tuple[int, int]]:
    """(server, fork) for each order so far."""
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


def test_each_order_has_a_process_of_its_own_and_the_server_stays(notes):
    with ForkServers(COMMAND, 60.0) as servers:
        for _ in range(3):  # which would fail in a process that has run before
            assert run("note", notes, "be_new", start=servers.fork) == ""
    servers, forks = map(set, zip(*pids(notes), strict=True))
    assert len(servers) == 1 and len(forks) == 3
    assert all_gone(*servers)


@pytest.mark.parametrize(
    ("decoder", "limits", "reason"),
    [
        ("get_later SIGSEGV", PATIENT, "the decoder crashed (SIGSEGV)"),
        ("spin", QUICK, "no progress in 1 s"),
        ("hide", QUICK, "no progress in 1 s"),
        ("eat", PATIENT, "the decoder asked for more than 512 MiB of memory"),
        ("fail", PATIENT, "the decoder failed: ValueError: no such codec"),
        ("give_up", PATIENT, "the decoder failed: exit code 3"),
    ],
)
def test_what_a_fork_does_concerns_its_own_order_only(decoder, limits, reason, fork, notes):
    assert fork() == ""
    assert fork(*decoder.split(), limits=limits) == reason
    heard = []
    assert fork("say", "frames 0", progress=heard.append) == ""
    assert max(heard) == 0  # nothing that the one before said
    (_, first), (failed, spoilt), (fresh, _) = pids(notes)
    assert all_gone(spoilt, failed, first) and fresh != failed


@pytest.mark.parametrize("victim", ["server", "fork"])
def test_who_kills_it_from_outside_is_not_the_file_s_fault(victim, fork, notes):
    with pytest.raises(ProcessError, match=r"ended from outside \(SIGKILL\)"):
        fork("kill_after_a_while", victim)
    assert fork() == ""
    server, _ = pids(notes)[-1]
    os.kill(server, signal.SIGKILL)  # while it has nothing to do
    assert all_gone(server)
    with pytest.raises(ProcessError, match="did not start"):
        fork()
    assert fork() == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/no/such/server",), "/no/such/server does not start: No such file"),
        ((*COMMAND, "start_amiss"), "did not start: .*no_such_module"),
        ((*COMMAND, "sleep"), "did not start: not within 2 s"),
    ],
    ids=["missing", "broken", "hangs"],
)
def test_a_server_that_does_not_start_is_an_error(command, words):
    with ForkServers(command, 2.0) as servers, pytest.raises(ProcessError, match=words):
        run("say", start=servers.fork)


def test_nothing_outlives_a_scan_that_is_killed_not_even_a_fork_that_spins(notes):
    command = [*COMMAND, "watch", "note", notes, "spin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert b"1\n" in process.stdout  # the first frame is heard
        process.kill()
    ((server, fork),) = pids(notes)
    assert all_gone(fork, server)


def test_a_fork_ends_with_a_scan_that_is_killed_before_it_hears_of_it(notes):
    scan, servers = socket.socketpair()
    with servers:
        server = subprocess.Popen(COMMAND, stdin=servers.fileno(), stdout=subprocess.PIPE)
    with scan:
        scan.sendall(json.dumps(["note", str(notes), "spin"]).encode() + b"\n")
    try:
        server.communicate(timeout=20)  # the fork, too, has closed the pipe then
    except subprocess.TimeoutExpired:
        os.kill(pids(notes)[-1][1], signal.SIGKILL)
        raise
    assert server.returncode == 0


def test_the_server_of_the_scan_has_one_thread_whatever_snakemake_sets(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    video = tmp_path / "P01/v.MP4"
    video.parent.mkdir()
    video.with_suffix(".order").write_text("tell_threads_of_the_server")
    with ForkServers((*COMMAND, "obey"), 60.0) as servers:
        assert run(video, "out", start=servers.fork) == "the decoder failed: ValueError: 1"
