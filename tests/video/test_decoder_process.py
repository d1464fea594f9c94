import os
import subprocess
import sys
import time

import pytest

from epic100.video.decoder_process import ProcessError, ScanLimits, run_decoder

pytestmark = pytest.mark.slow

# Only tests of the stall itself are in a hurry: on a busy machine Python alone starts in a second.
PATIENT = ScanLimits(stall_seconds=60.0, min_seconds=60.0, memory_mib=512)
QUICK = ScanLimits(stall_seconds=0.8, min_seconds=60.0, memory_mib=512)
AT_ONCE = 20.0  # seconds; all that would hang here does so for a minute


# Runs a decoder in a process whose own limits a test has set.
RUN = (
    "import sys\nfrom epic100.video.decoder_process import ProcessError, ScanLimits, run_decoder\n"
    "print(run_decoder([sys.executable, '-c', sys.argv[1]], ScanLimits(memory_mib=512), 60.0))"
)


def run(
    code: str, limits: ScanLimits = PATIENT, total: float = 60.0, progress=lambda n: None
) -> str:
    return run_decoder([sys.executable, "-c", code], limits, total, progress)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        # Saying the same again is no progress, and neither is nonsense.
        "import time\nwhile True: print('frames 7', flush=True); time.sleep(0.05)",
        "import time\nwhile True: print('frames', flush=True); time.sleep(0.05)",
        # Nor does a decoder escape by closing its ends of the pipes.
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        # A terminate signal that is ignored does not save it.
        "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    ],
    ids=["spins", "sleeps", "repeats", "babbles", "hides", "ignores"],
)
def test_a_decoder_that_makes_no_progress_is_killed(code):
    started = time.monotonic()
    assert run(code, QUICK) == "no progress in 0.8 s"
    assert time.monotonic() - started < AT_ONCE


SUSPENDED = (
    "import os, signal, subprocess\n"
    "print('frames 0', flush=True)\n"
    "wake = f'sleep SECONDS; kill -CONT {os.getpid()}'\n"
    "subprocess.Popen(['sh', '-c', wake], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    "os.kill(os.getpid(), signal.SIGSTOP)\n"
)


def test_a_decoder_that_the_machine_leaves_no_time_is_not_stalled():
    assert run(SUSPENDED.replace("SECONDS", "2"), QUICK) == ""


def test_a_machine_that_leaves_a_decoder_no_time_for_long_is_at_fault_and_not_the_file():
    with pytest.raises(ProcessError, match="of this machine are too busy"):
        run(SUSPENDED.replace("SECONDS", "30"), ScanLimits(stall_seconds=0.3, memory_mib=512))


def test_a_decoder_that_only_creeps_on_is_killed_at_its_total_limit():
    code = "import time\nfor n in range(10**6): print('frames', n, flush=True); time.sleep(0.02)"
    started = time.monotonic()
    assert run(code, total=1.0) == "not decoded within 1 s"
    assert time.monotonic() - started < AT_ONCE


def test_a_decoder_that_eats_memory_is_stopped_by_its_limit():
    code = "data = []\nwhile True: data.append(bytearray(16 << 20))"
    assert run(code) == "the decoder asked for more than 512 MiB of memory"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE"])
def test_a_decoder_that_crashes_is_reported_by_its_signal(name):
    code = f"import os, signal; os.kill(os.getpid(), signal.{name})"
    assert run(code) == f"the decoder crashed ({name})"


def test_a_limit_of_the_system_that_is_lower_stays():
    code = (
        "import resource; print('frames 0', flush=True)\n"
        "raise ValueError(resource.getrlimit(resource.RLIMIT_AS)[0] >> 20)"
    )
    lower = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n{RUN}"
    )
    command = [sys.executable, "-c", lower, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.stdout.strip() == "the decoder failed: ValueError: 400"


def test_a_decoder_that_fails_is_reported_by_its_last_words():
    assert run("print('frames 0', flush=True); raise ValueError('no such codec')") == (
        "the decoder failed: ValueError: no such codec"
    )
    assert run("print('frames 0', flush=True); raise SystemExit(3)") == (
        "the decoder failed: exit code 3"
    )


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (
            "EpicError('v.MP4: bad\\npackets; scan it')",
            "v.MP4: bad packets; scan it",
        ),
        ("av.error.InvalidDataError(1, 'Invalid data found')", "Invalid data found"),
        ("av.error.FileNotFoundError(2, 'No such file')", "No such file"),
    ],
)
def test_a_verdict_on_the_file_is_its_last_words_alone(raised, words):
    code = (
        "import av\nfrom epic100.base.errors import EpicError\n"
        "from epic100.video.decoder_process import own_faults\n"
        f"with own_faults(): raise {raised}"
    )
    assert run(code) == f"the decoder failed: {words}"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module", "did not start: ModuleNotFoundError"),
        ("import os; os.kill(os.getpid(), 9)", "ended from outside \\(SIGKILL\\)"),
        ("import os; print('frames 0', flush=True); os.kill(os.getpid(), 15)", "SIGTERM"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", "SIGBUS"),
        (
            "from epic100.video.decoder_process import own_faults\n"
            "with own_faults(): open('/no/such/folder/x', 'w')",
            "No such file or directory: '/no/such/folder/x'",
        ),
        pytest.param(
            "from epic100.video.decoder_process import own_faults\n"
            "from epic100.video.watched_file import WatchedFile\n"
            "with own_faults(): WatchedFile('/proc/self/mem').read(8)",
            "reading at byte 0 failed 4 times: Input/output error; the disk is at fault",
            marks=pytest.mark.skipif(
                not os.path.exists("/proc/self/mem"), reason="no file here that gives EIO"
            ),
        ),
    ],
    ids=["start", "killed", "terminated", "page not read", "own output", "bad sector"],
)
def test_what_is_not_the_file_s_fault_is_an_error(code, words):
    with pytest.raises(ProcessError, match=words):
        run(code)


def test_much_talk_neither_blocks_it_nor_fills_memory():
    code = "import sys\nfor _ in range(2000): sys.stderr.write('x' * 1000 + '\\n')"
    assert run(code) == ""


def test_a_child_that_holds_the_pipes_does_not_hold_the_scan():
    code = (
        "import subprocess, sys; print('frames 3', flush=True)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    started = time.monotonic()
    assert run(code) == ""
    assert time.monotonic() - started < AT_ONCE


def test_a_decoder_that_is_not_there_is_an_error():
    with pytest.raises(ProcessError, match="/no/such/decoder does not start: No such file"):
        run_decoder(["/no/such/decoder"], PATIENT, 5.0)


def test_progress_is_heard_in_order_even_if_lines_arrive_in_pieces():
    code = (
        "import sys, time\n"
        "for part in ('fra', 'mes 1', '0\\nframes 2', '0\\n', 'frames 30\\n'):\n"
        "    sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.05)\n"
    )
    heard = []
    assert run(code, progress=heard.append) == ""
    assert heard == sorted(heard)  # the last count comes again while nothing is said
    assert [count for count in dict.fromkeys(heard) if count] == [10, 20, 30]
