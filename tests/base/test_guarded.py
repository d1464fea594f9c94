"""Calls with limits, each in a separate process."""

import os
import signal
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import psutil
import pytest

from epic100.base.guarded import FileError, ProcessError, call
from epic100.settings.data import ScanLimits
from support import bad_decoders
from support.crafted import Unpickled
from support.this_process import fork

pytestmark = pytest.mark.slow

# A stall is tested with QUICK. On a busy machine the start of Python alone takes a second.
PATIENT = ScanLimits(stall_seconds=60.0, memory_mib=512)
QUICK = ScanLimits(stall_seconds=1.0, memory_mib=512)
ASKS_FOR_MEMORY = "reading it asks for more than 512 MiB of memory"


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let six times as much time pass as in use, since other tests compute at the same time."""
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", 60)


def run(name: str, *words: object, limits=PATIENT, seconds=60.0, progress=lambda n: None):
    """Return what this decoder of `bad_decoders` returns."""
    return call(
        getattr(bad_decoders, name), *words, limits=limits, seconds=seconds, progress=progress
    )


@pytest.fixture
def notes(tmp_path) -> Path:
    """The file in which the decoder `note` writes the id of its process."""
    return tmp_path / "notes"


def wait_until(condition) -> bool:
    """Wait until a condition is true, for 60 s at most; return whether it is."""
    return any(condition() or time.sleep(0.05) for _ in range(1200))


def noted_process_ends(notes: Path) -> bool:
    """Whether the process that `note` noted ends within 60 s. A zombie has ended."""
    pid = int(notes.read_text())
    return wait_until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    )


def test_arrays_return_as_lists_and_values_unchanged():
    row, table = ["a\nb", 1.5, None, "x" * 10**7], np.array([[1, -(2**40)], [3, 4]])
    assert run("give", {"row": row, "table": table}) == {"row": row, "table": table.tolist()}


def test_a_library_s_output_is_no_answer():
    """A tensor's name with a newline and the guard's own words once passed for an answer."""
    assert run("speak_as_the_guard") == "true"


@pytest.mark.parametrize(
    ("decoder", "limits"),
    [
        pytest.param(("read_without_limits",), PATIENT, id="macOS rejects limits"),
        pytest.param(("be_suspended", 2), QUICK, id="the machine leaves it no time"),
        pytest.param(("chatter",), PATIENT, id="it writes more than pipes hold"),
        # The child lives for 60 s, and holds the pipes of its parent.
        pytest.param(("leave_a_child",), PATIENT, id="it leaves a child"),
        # Packages may come from a slow disk.
        pytest.param(
            ("give", Unpickled(time.sleep, 3.5)), ScanLimits(stall_seconds=0.3), id="a slow start"
        ),
    ],
)
def test_a_decoder_without_an_error_ends_by_itself(decoder, limits, monkeypatch):
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", 10)
    started = time.monotonic()
    assert run(*decoder, limits=limits) is None
    assert time.monotonic() - started < 40


@pytest.mark.parametrize(
    ("decoder", "options", "patience", "wanted"),
    [
        (("get", "SIGABRT"), {}, 60, "reading it crashed (SIGABRT)"),
        (("get", "SIGSEGV"), {}, 60, "reading it crashed (SIGSEGV)"),
        (("give_up",), {}, 60, "reading it failed: exit code 3"),
        (("reject", "EpicError", "bad\npackets"), {}, 60, "bad packets"),
        (("reject", "InvalidDataError", "bad"), {}, 60, "reading it failed: bad"),
        (("reject", "FileNotFoundError", "bad"), {}, 60, "reading it failed: bad"),
        (("reject", "MemoryError", "bad"), {}, 60, ASKS_FOR_MEMORY),
        (("eat",), {}, 60, ASKS_FOR_MEMORY),
        (("give", "x" * 2**21), {}, 60, "reading it failed: its result has more than 1 MiB"),
        # A file that owns the decoder may write anything to the pipe.
        (("forge", '[1, false, "value", "forged"]'), {}, 60, "reading it crashed (SIGSEGV)"),
        (
            ("forge", '{"value": 1, "code": 0}'),
            {},
            60,
            "reading it failed: its result cannot be read",
        ),
        # It computes without progress.
        (("ignore_signals",), {"limits": QUICK}, 60, "no progress in 1 s"),
        # It sleeps without progress, whatever it reports.
        (("sleep",), {"limits": QUICK}, 2, "no progress in 1 s"),
        (("repeat", 7), {"limits": QUICK}, 2.5, "no progress in 1 s"),
        (("hide",), {"limits": QUICK}, 2, "no progress in 1 s"),
        # It makes progress, but far too slowly, while it computes or sleeps.
        (("creep", 0.0), {"seconds": 1.0}, 60, "not read within 1 s"),
        (("creep", 1.0), {"seconds": 1.0}, 2.5, "not read within 1 s"),
    ],
)
def test_a_failing_or_hanging_decoder_blames_the_file(
    decoder, options, patience, wanted, monkeypatch
):
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", patience)
    monkeypatch.setattr("epic100.base.guarded.LARGEST", 2**20)
    with pytest.raises(FileError) as error:
        run(*decoder, **options)
    assert str(error.value) == wanted


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
        (("give", np.array([Path("v")])), "an error of ours"),
        # Any exception of another class is a bug of this workflow, and has its traceback.
        (
            ("fail", "no such item"),
            r"(?s)of ours, not of the file.*Traceback.*in fail.*: no such item",
        ),
        (("give", Unpickled(import_module, "no_such")), "(?s)of ours.*No module named 'no_such'"),
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
def test_a_machine_s_error_does_not_blame_files(decoder, words):
    with pytest.raises(ProcessError, match=words):
        run(*decoder)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (("be_suspended", 30), "of this machine are too busy"),
        (("give", Unpickled(time.sleep, 60)), "too little of 3 s to start"),
    ],
)
def test_a_busy_machine_is_not_a_hang(decoder, words, monkeypatch):
    monkeypatch.setattr("epic100.base.guarded.PATIENCE", 10)
    monkeypatch.setattr("epic100.base.guarded.START_SECONDS", 3.0)
    with pytest.raises(ProcessError, match=words):
        run(*decoder, limits=ScanLimits(stall_seconds=0.3, memory_mib=512))


def test_a_missing_python_is_named(monkeypatch):
    monkeypatch.setattr("epic100.base.guarded.COMMAND", ("/no/such/python",))
    with pytest.raises(ProcessError, match="/no/such/python does not start: No such file"):
        run("give", 1)


def test_a_function_below_a_colon_is_found(tmp_path, monkeypatch):
    (folder := tmp_path / "a:b").mkdir()
    (folder / "behind_a_colon.py").write_text("def answer(progress):\n    return 42\n")
    monkeypatch.syspath_prepend(folder)
    answer = import_module("behind_a_colon").answer
    assert call(answer, limits=PATIENT, seconds=60.0) == 42


def test_progress_is_reported_in_order():
    reported = []
    run("say", 10, 20, 30, progress=reported.append)
    # While the decoder reports nothing, its last count comes again.
    assert reported == sorted(reported) and {0, 10, 20, 30} >= set(reported) >= {10, 20, 30}


@pytest.mark.parametrize(
    ("decoder", "result"),
    [
        pytest.param(("tell_limit",), 512, id="the limit on memory in MiB"),
        pytest.param(("limit_beyond", 2**20), [0, 0], id="the system's lower limit stays"),
        pytest.param(("call_again",), True, id="a call within a call is in the same process"),
        pytest.param(("tell_threads",), 1, id="no threads of OpenBLAS"),
        pytest.param(("tell_folder",), "/", id="the current folder of the caller"),
    ],
)
def test_the_process_of_a_call_has_these_properties(decoder, result, monkeypatch):
    # Snakemake sets this variable to the threads of a rule.
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.chdir("/")
    assert run(*decoder) == result


def test_an_error_of_the_caller_ends_the_process(notes):
    with pytest.raises(ZeroDivisionError):
        run("note", notes, "ignore_signals", progress=lambda frames: 1 // (1 - frames))
    assert noted_process_ends(notes)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda scan: os.kill(scan, signal.SIGKILL), id="killed"),
        pytest.param(lambda scan: os.killpg(scan, signal.SIGINT), id="Ctrl-C"),
    ],
)
def test_an_endless_process_ends_with_the_scan(end, notes):
    scan = fork.Process(target=run, args=("note", notes, "ignore_signals"))
    scan.start()
    os.setpgid(scan.pid, scan.pid)  # A shell starts a command like this.
    assert wait_until(notes.exists)
    time.sleep(0.5)  # Then it has set its signals, and computes.
    end(scan.pid)
    assert noted_process_ends(notes)
