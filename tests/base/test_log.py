import contextlib
import logging
import pickle
import re
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from epic100.base.atomic import DiskFullError
from epic100.base.errors import EpicError
from epic100.base.log import FILE_ONLY, Progress, rule_log
from epic100.base.torch_file import BrokenFile
from epic100.video.reader import FrameError
from support.this_process import Terminal, records_of

log = logging.getLogger("epic100.a.module")
# This file is there, but reads of it fail.
MEMORY = Path("/proc/self/mem")
NO_FILE = "/no/such/file: No such file or directory; "


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "a.log"


@pytest.fixture(autouse=True)
def as_before():
    """stdout and stderr are put back, however the rule ends."""
    before = sys.stdout, sys.stderr
    yield
    assert (sys.stdout, sys.stderr) == before


def logged(path):
    """The lines below the heads of the attempts."""
    return [line for line in path.read_text().splitlines() if line[:3] != "---"]


def test_records_of_the_library_and_warnings_of_others_are_on_stderr_and_in_the_log(path, capsys):
    others = logging.getLogger("urllib3.a.module")
    others.setLevel(logging.NOTSET)
    with rule_log(path):
        # The root logger has this level outside pytest.
        logging.getLogger().setLevel(logging.WARNING)
        log.info("100 segments")
        log.warning("P01: none of its videos is readable")
        log.info("1 of 2", extra=FILE_ONLY)
        log.debug("a detail")
        others.info("connected")
        others.warning("retrying")
    log.info("after the rule")
    shown = ["100 segments", "WARNING: P01: none of its videos is readable", "WARNING: retrying"]
    assert capsys.readouterr().err.splitlines() == shown
    shown.insert(2, "1 of 2")
    assert logged(path) == shown


def test_lines_of_a_loader_s_workers_are_whole_and_there_once(path, capfd):
    def report(samples):
        for sample in samples:
            log.info(f"broken clip {sample}")
        return samples

    with rule_log(path):
        log.info("first")
        loader = DataLoader(range(200), num_workers=2, batch_size=5, collate_fn=report)
        assert sum(map(len, loader)) == 200
    expected = ["first", *sorted(f"broken clip {i}" for i in range(200))]
    for lines in (capfd.readouterr().err, "\n".join(logged(path))):
        first, *rest = lines.splitlines()
        assert [first, *sorted(rest)] == expected


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null/rule.log"])
def test_a_log_that_cannot_be_opened_or_written_stops_no_work(path, capsys):
    with rule_log(path):
        log.info("100 segments")
        print("and on")
    assert capsys.readouterr() == ("", "100 segments\nand on\n")
    with pytest.raises(SystemExit), rule_log(path):
        raise DiskFullError("no room for checkpoints")
    assert capsys.readouterr().err == "error: no room for checkpoints\n"


def test_a_terminal_that_is_gone_stops_no_work(path, monkeypatch):
    with open("/dev/full", "w", buffering=1) as gone:
        monkeypatch.setattr("sys.stderr", gone)
        with rule_log(path):
            log.info("100 segments")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            gone.close()
    assert path.read_text().endswith("\n100 segments\n")


def test_what_is_printed_stands_on_stderr_in_one_write_a_line_and_in_the_log_of_all_attempts(
    path, capsys, monkeypatch
):
    writes = []
    monkeypatch.setattr(sys.stderr, "write", writes.append)
    for number in (1, 2):
        with rule_log(path):
            print("error:", "a.csv", number)
            # The log has the line while the rule runs, not only at its end.
            assert f"a.csv {number}" in path.read_text()
            print("no end", end="", file=sys.stderr)
    assert writes == ["error: a.csv 1\n", "no end\n", "error: a.csv 2\n", "no end\n"]
    assert capsys.readouterr().out == ""
    head = r"--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d pid \d+\n"
    assert re.fullmatch(f"({head}error: a.csv [12]\nno end\n){{2}}", path.read_text())


def fail(error):
    raise error("P01_01: frame 7 does not decode")


@pytest.mark.parametrize("error", [EpicError, DiskFullError])
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_ends_in_one_line_and_exit_code_1_in_a_loader_s_worker_too(
    path, capsys, error, workers
):
    with pytest.raises(SystemExit, match="^1$"), rule_log(path):
        next(iter(DataLoader([0], num_workers=workers, collate_fn=lambda _: fail(error))))
    assert capsys.readouterr().err == "error: P01_01: frame 7 does not decode\n"
    assert logged(path)[-1] == "error: P01_01: frame 7 does not decode"


@pytest.mark.slow
@pytest.mark.parametrize("error_class", [EpicError, BrokenFile, DiskFullError, FrameError])
def test_an_error_keeps_class_and_message_out_of_a_loader_s_worker_and_a_pickle(error_class):
    message = "v.MP4: ValueError: bad; epic100 EpicError: x\ntwo lines"

    def fail(_):
        raise error_class(message) from EpicError("what came before")

    with pytest.raises(EpicError) as caught:
        next(iter(DataLoader([0], num_workers=1, collate_fn=fail)))
    for error in (caught.value, pickle.loads(pickle.dumps(error_class(message)))):
        assert type(error) is error_class and str(error) == message


def test_a_fault_of_the_program_leaves_its_traceback_in_the_log_and_goes_on_up(path):
    with pytest.raises(ZeroDivisionError), rule_log(path):
        print("before")
        1 / 0  # noqa: B018
    text = path.read_text()
    assert "before\nTraceback (most recent call last):\n" in text and "1 / 0" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    "read, words",
    [
        (Path("/no/such/file").read_bytes, NO_FILE),
        (MEMORY.read_bytes, "a file of this rule: Input/output error; "),
    ],
)
def test_an_error_of_the_system_is_one_line(tmp_path, capsys, read, words):
    with pytest.raises(SystemExit, match="^1$"), rule_log(tmp_path / "rule.log"):
        read()
    assert capsys.readouterr().err.splitlines() == [
        f"error: {words}the system refuses it, {tmp_path}/rule.log has where: look at the disk, "
        "then run again"
    ]
    assert "Traceback" in (tmp_path / "rule.log").read_text()


def three_segments():
    bar = Progress("predict val", 3, "segments")
    for i in range(3):
        bar.update(note=f"P0{i}")
        log.info(f"P0{i} is done")
    bar.close()


def test_progress_says_done_rate_and_time_left(monkeypatch):
    monkeypatch.setattr("time.monotonic", iter([0.0, 0.0, 1.0, 1.0, 60.0, 6000.0]).__next__)
    progress = Progress("scan P01", 200, "frames")
    assert progress.line() == "scan P01: 0/200 frames, 0.0/s, ? left"
    progress.update(50)
    progress.update(100)
    assert progress.line("P01_01") == "scan P01: 150/200 frames, 2.5/s, 00:20 left, P01_01"
    assert progress.line() == "scan P01: 150/200 frames, 0.0/s, 33:20 left"


def test_without_a_terminal_progress_is_plain_lines_and_not_too_many(monkeypatch, capsys):
    monkeypatch.setattr(sys, "__stderr__", None)
    with records_of("epic100.base.log") as lines:
        for seconds in (10, 0):
            monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", seconds)
            three_segments()
    assert capsys.readouterr() == ("", "") and len(lines) == 5
    for line in (lines[0], lines[4]):
        assert re.fullmatch(r"predict val: 3 segments in \d\.\d s", line)
    for number, line in enumerate(lines[1:4]):
        assert line.startswith(f"predict val: {number + 1}/3 segments, ")
        assert line.endswith(f"P0{number}")


def test_on_a_terminal_a_bar_is_below_all_lines_and_the_log_gets_plain_ones(tmp_path, monkeypatch):
    terminal = Terminal()
    for name in ("stderr", "__stderr__"):
        monkeypatch.setattr(sys, name, terminal.stream)
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", 0)
    with rule_log(tmp_path / "a.log"):
        three_segments()
    before, _, after = terminal.shown().partition("P00 is done\r\n")
    assert before.endswith("\r")  # The bar was wiped.
    assert "predict val:  33%|" in after and "predict val: 1/3" not in before + after
    lines = (tmp_path / "a.log").read_text().splitlines()[1:]
    for i in range(3):
        assert lines[2 * i].startswith(f"predict val: {i + 1}/3 segments, ")
        assert lines[2 * i + 1] == f"P0{i} is done"
    assert re.fullmatch(r"predict val: 3 segments in \d+\.\d s", lines[6]) and len(lines) == 7
