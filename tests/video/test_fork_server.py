import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from epic100.video.decoder_process import ProcessError, ScanLimits, run_decoder
from epic100.video.fork_server import ForkServers

pytestmark = pytest.mark.slow

PATIENT = ScanLimits(stall_seconds=60.0, memory_mib=512)
QUICK = ScanLimits(stall_seconds=0.8, memory_mib=512)
FOLLOW = "from epic100.video.fork_server import arguments_of_orders\n"
# A server whose forks note who they are and then run the code that they are given.
SERVER = (
    f"import os, sys\n{FOLLOW}path, code = arguments_of_orders()\n"
    "with open(path, 'a') as file: print(os.getppid(), os.getpid(), file=file)\n"
    "print('frames 0', flush=True)\nexec(code)\n"
)
COMMAND = (sys.executable, "-c", SERVER)


@pytest.fixture
def notes(tmp_path) -> Path:
    return tmp_path / "notes"


def pids(notes: Path) -> list[tuple[int, int]]:
    """(server, fork) for each order so far."""
    found = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    return [(int(server), int(fork)) for server, fork in found]


def is_gone(pid: int, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # nobody has asked for its exit code
            return True
        time.sleep(0.05)
    return False


def run(servers: ForkServers, notes: Path, code: str, limits=PATIENT, progress=lambda n: None):
    return run_decoder([str(notes), code], limits, 60.0, progress, servers.fork)


def test_each_order_has_a_process_of_its_own_and_the_server_stays(notes):
    with ForkServers(COMMAND, 60.0) as servers:
        for _ in range(3):
            assert run(servers, notes, "assert 'mine' not in globals(); mine = 1") == ""
    servers, forks = zip(*pids(notes), strict=True)
    assert len(set(servers)) == 1 and len(set(forks)) == 3
    assert is_gone(servers[0])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.kill(os.getpid(), 11)", "the decoder crashed (SIGSEGV)"),
        ("while True: pass", "no progress in 0.8 s"),
        ("import time; os.close(1); os.close(2); time.sleep(60)", "no progress in 0.8 s"),
        ("data = [bytearray(16 << 20) for _ in range(99)]", "the decoder asked for more than 512"),
        ("raise ValueError('no such codec')", "the decoder failed: ValueError: no such codec"),
        ("raise SystemExit(3)", "the decoder failed: exit code 3"),
    ],
    ids=["crashes", "spins", "hides", "eats", "fails", "gives up"],
)
def test_what_a_fork_does_concerns_its_own_order_only(code, reason, notes):
    with ForkServers(COMMAND, 60.0) as servers:
        assert run(servers, notes, "pass") == ""
        limits = QUICK if "progress" in reason else PATIENT
        assert run(servers, notes, f"print('frames 9', flush=True)\n{code}", limits).startswith(
            reason
        )
        heard = []
        assert run(servers, notes, "print('frames 1')", progress=heard.append) == ""
    assert max(heard) == 1  # nothing that the one before said
    (_, first), (failed, spoilt), (fresh, _) = pids(notes)
    assert is_gone(spoilt) and is_gone(failed) and is_gone(first)
    assert fresh != failed


@pytest.mark.parametrize("victim", ["server", "fork"])
def test_who_kills_it_from_outside_is_not_the_file_s_fault(victim, notes):
    pid = "getppid" if victim == "server" else "getpid"
    with ForkServers(COMMAND, 60.0) as servers:
        with pytest.raises(ProcessError, match=r"ended from outside \(SIGKILL\)"):
            run(
                servers, notes, f"import time; time.sleep(2); os.kill(os.{pid}(), 9); time.sleep(3)"
            )
        assert run(servers, notes, "pass") == ""
        (server, _) = pids(notes)[-1]
        os.kill(server, signal.SIGKILL)  # while it has nothing to do
        assert is_gone(server)
        with pytest.raises(ProcessError, match="did not start"):
            run(servers, notes, "pass")
        assert run(servers, notes, "pass") == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/no/such/server",), "/no/such/server does not start: No such file"),
        ((sys.executable, "-c", "import no_such_module"), "did not start: ModuleNotFoundError"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "did not start: not within 2 s"),
    ],
    ids=["missing", "broken", "hangs"],
)
def test_a_server_that_does_not_start_is_an_error(command, words, notes):
    started = time.monotonic()
    with ForkServers(command, 2.0) as servers, pytest.raises(ProcessError, match=words):
        run(servers, notes, "pass")
    assert time.monotonic() - started < 20


def test_nothing_outlives_a_scan_that_is_killed_not_even_a_fork_that_spins(notes):
    scan = (
        "import sys\nfrom epic100.video.decoder_process import ScanLimits, run_decoder\n"
        "from epic100.video.fork_server import ForkServers\n"
        f"with ForkServers({COMMAND!r}, 60.0) as servers:\n"
        f"    run_decoder([{str(notes)!r}, 'while True: pass'], ScanLimits(), 60.0,\n"
        "                start=servers.fork)\n"
    )
    with subprocess.Popen([sys.executable, "-c", scan]) as process:
        until = time.monotonic() + 60
        while not pids(notes) and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()
    ((server, fork),) = pids(notes)
    assert is_gone(fork) and is_gone(server)


def test_the_server_of_the_scan_has_one_thread_whatever_snakemake_sets(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    server = (
        f"import os\n{FOLLOW}import epic100.scan.worker\narguments_of_orders()\n"
        "print('frames 0', flush=True)\n"
        "raise ValueError(len(os.listdir(f'/proc/{os.getppid()}/task')))\n"
    )
    with ForkServers((sys.executable, "-c", server), 60.0) as servers:
        said = run_decoder([], PATIENT, 60.0, start=servers.fork)
    assert said == "the decoder failed: ValueError: 1"
