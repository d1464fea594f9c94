"""Log records on the terminal and in a rule's log, errors that end a rule, and progress."""

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


@pytest.fixture
def path(tmp_path):
    """The log of a rule."""
    return tmp_path / "logs" / "a.log"


@pytest.fixture(autouse=True)
def streams_are_put_back():
    """Check that stdout and stderr are the same as before, however a rule has ended."""
    before = sys.stdout, sys.stderr
    yield
    assert (sys.stdout, sys.stderr) == before


def lines_in(path):
    """Return the lines of a log but for the headings `--- TIME pid PID` of the attempts."""
    return [line for line in path.read_text().splitlines() if not line.startswith("---")]


@pytest.mark.parametrize(
    "logger, level, extra, on_terminal, in_log",
    [
        pytest.param("epic100.a", "INFO", {}, "text\n", ["text"], id="this library"),
        pytest.param("epic100.a", "DEBUG", {}, "", [], id="details of this library"),
        pytest.param("epic100.a", "INFO", FILE_ONLY, "", ["text"], id="for the file only"),
        pytest.param("urllib3.a", "INFO", {}, "", [], id="another library"),
        pytest.param(
            "urllib3.a", "WARNING", {}, "WARNING: text\n", ["WARNING: text"], id="its warnings"
        ),
    ],
)
def test_logger_and_level_decide_where_a_record_goes(
    path, capsys, logger, level, extra, on_terminal, in_log
):
    with rule_log(path):
        # Outside pytest, the root logger has this level.
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger(logger).log(logging.getLevelName(level), "text", extra=extra)
    assert capsys.readouterr().err == on_terminal
    assert lines_in(path) == in_log


def test_each_worker_s_line_is_logged_once_whole(path, capfd):
    def report(sample):
        log.info(f"broken clip {sample}")
        return sample

    with rule_log(path):
        list(DataLoader(range(200), num_workers=2, batch_size=None, collate_fn=report))
    expected = sorted(f"broken clip {sample}" for sample in range(200))
    assert sorted(capfd.readouterr().err.splitlines()) == expected
    assert sorted(lines_in(path)) == expected


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null/rule.log"])
def test_an_unusable_log_stops_no_work(path, capsys):
    with rule_log(path):
        log.info("100 segments")
        print("and on")
    assert capsys.readouterr() == ("", "100 segments\nand on\n")


def test_an_unwritable_terminal_stops_no_work(path, monkeypatch):
    with contextlib.suppress(OSError), open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr("sys.stderr", full)
        with rule_log(path):
            log.info("100 segments")
        monkeypatch.undo()
    assert lines_in(path) == ["100 segments"]


def test_each_printed_line_is_one_write_to_stderr(path, capsys, monkeypatch):
    writes = []
    monkeypatch.setattr(sys.stderr, "write", writes.append)
    with rule_log(path):
        print("error:", "a.csv")
        # The log has the line while the rule runs, not only at its end.
        assert lines_in(path) == ["error: a.csv"]
        print("no end", end="", file=sys.stderr)
    assert writes == ["error: a.csv\n", "no end\n"]
    assert capsys.readouterr().out == ""


def test_a_log_holds_the_lines_of_all_attempts(path):
    for attempt in (1, 2):
        with rule_log(path):
            print("attempt", attempt)
    heading = r"--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d pid \d+\n"
    assert re.fullmatch(f"{heading}attempt 1\n{heading}attempt 2\n", path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("error_class", [EpicError, FrameError])
def test_a_worker_s_error_keeps_class_and_message(error_class):
    # The message looks like the traceback of a worker, which torch sends as text.
    message = "v.MP4: ValueError: bad; epic100 EpicError: x\ntwo lines"

    def fail(_):
        raise error_class(message) from EpicError("what came before")

    with pytest.raises(error_class) as caught:
        next(iter(DataLoader([0], num_workers=1, collate_fn=fail)))
    assert type(caught.value) is error_class
    assert str(caught.value) == message


@pytest.mark.parametrize("error_class", [EpicError, BrokenFile, DiskFullError, FrameError])
def test_a_pickled_error_keeps_its_class_and_message(error_class):
    error = pickle.loads(pickle.dumps(error_class("v.MP4: bad")))
    assert (type(error), str(error)) == (error_class, "v.MP4: bad")


def test_an_unexpected_error_is_logged_with_traceback(path):
    with pytest.raises(ZeroDivisionError), rule_log(path):
        print("before")
        1 / 0  # noqa: B018
    first, second, *_, last = lines_in(path)
    assert (first, second) == ("before", "Traceback (most recent call last):")
    assert last == "ZeroDivisionError: division by zero"


def fail(error):
    raise error


OF_THE_SYSTEM = "; the system rejects it, {} has where: check the disk, then run again"


@pytest.mark.parametrize(
    "work, words",
    [
        (lambda: fail(EpicError("P01_01: bad")), "P01_01: bad"),
        (lambda: fail(DiskFullError("P01_01: bad")), "P01_01: bad"),
        (Path("/no/file").read_bytes, f"/no/file: No such file or directory{OF_THE_SYSTEM}"),
        # This file is there, but reads of it fail.
        (
            Path("/proc/self/mem").read_bytes,
            f"a file of this rule: Input/output error{OF_THE_SYSTEM}",
        ),
    ],
    ids=["bad input", "full disk", "missing file", "bad sector"],
)
def test_an_expected_error_is_one_line(path, capsys, work, words):
    with pytest.raises(SystemExit, match="^1$"), rule_log(path):
        work()
    line = f"error: {words.format(path)}"
    assert capsys.readouterr().err == f"{line}\n"
    logged = lines_in(path)
    # The log of an error of the system has its place in the code, too.
    assert logged[-1] == line and ("Traceback" in logged[0]) is ("system" in words)


def test_progress_tells_rate_and_time_left(monkeypatch):
    # The start of the work reads the clock first. `update` reads it once, `line` once.
    clock = iter([0.0, 0.0, 1.0, 60.0])
    monkeypatch.setattr("time.monotonic", clock.__next__)
    progress = Progress("scan P01", 200, "frames")
    assert progress.line() == "scan P01: 0/200 frames, 0.0/s, ? left"
    progress.update(150)
    # 150 frames in 60 s are 2.5/s, so the other 50 take 20 s.
    assert progress.line("P01_01") == "scan P01: 150/200 frames, 2.5/s, 00:20 left, P01_01"


def work_on_three_segments():
    progress = Progress("predict val", 3, "segments")
    for number in (1, 2, 3):
        progress.update(note=f"P0{number}")
        log.info(f"P0{number} is done")
    progress.close()


@pytest.mark.parametrize(
    "seconds_between_lines, lines",
    [
        (10, [r"predict val: 3 segments in \d\.\d s"]),
        (
            0,
            [
                *(rf"predict val: {number}/3 segments, .* P0{number}" for number in (1, 2, 3)),
                r"predict val: 3 segments in \d\.\d s",
            ],
        ),
    ],
)
def test_without_terminal_progress_is_occasional_lines(
    monkeypatch, capsys, seconds_between_lines, lines
):
    monkeypatch.setattr(sys, "__stderr__", None)
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", seconds_between_lines)
    with records_of("epic100.base.log") as logged:
        work_on_three_segments()
    assert capsys.readouterr() == ("", "")
    assert re.fullmatch("\n".join(lines), "\n".join(logged))


def test_a_terminal_shows_a_bar_below_lines(path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    monkeypatch.setattr(sys, "__stderr__", terminal.stream)
    monkeypatch.setattr("epic100.base.log.PLAIN_SECONDS", 0)
    with rule_log(path):
        work_on_three_segments()
    before, _, after = terminal.shown().partition("P01 is done\r\n")
    # The carriage return wipes the bar before the line is written.
    assert before.endswith("\r")
    assert "predict val:  33%|" in after and "predict val: 1/3" not in before + after
    lines = [rf"predict val: {n}/3 segments, .*\nP0{n} is done" for n in (1, 2, 3)]
    lines.append(r"predict val: 3 segments in \d+\.\d s")
    assert re.fullmatch("\n".join(lines), "\n".join(lines_in(path)))
