import re
import sys

from epic100.base import progress
from epic100.base.log import log, rule_log
from epic100.base.progress import Progress
from support.records import records_of
from support.terminal import Terminal


def three_segments(say=lambda: None):
    bar = Progress("predict val", 3, "segments")
    for i in range(3):
        bar.update(note=f"P0{i}")
        say()
    bar.close()


def terminal_as_stderr(monkeypatch):
    terminal = Terminal()
    for name in ("stderr", "__stderr__"):
        monkeypatch.setattr(sys, name, terminal.stream)
    return terminal


def test_progress_says_done_rate_and_time_left():
    progress = Progress("scan P01", 200, "frames")
    assert progress.line() == "scan P01: 0/200 frames, 0.0/s, ? left"
    progress.update(50)
    progress.update(100)
    match = re.fullmatch(
        r"scan P01: 150/200 frames, ([\d.]+)/s, (00:\d\d) left, P01_01", progress.line("P01_01")
    )
    assert match and float(match[1]) > 0


def test_without_a_terminal_progress_is_plain_lines_and_not_too_many(monkeypatch, capsys):
    monkeypatch.setattr(sys, "__stderr__", None)
    with records_of("epic100.base.progress") as lines:
        for seconds in (10, 0):
            monkeypatch.setattr(progress, "PLAIN_SECONDS", seconds)
            three_segments()
    assert capsys.readouterr() == ("", "") and len(lines) == 5
    for line in (lines[0], lines[4]):
        assert re.fullmatch(r"predict val: 3 segments in \d\.\d s", line)
    for number, line in enumerate(lines[1:4]):
        assert line.startswith(f"predict val: {number + 1}/3 segments, ")
        assert line.endswith(f"P0{number}")


def test_hours_left_are_said_as_hours(monkeypatch):
    monkeypatch.setattr("time.monotonic", iter([0.0, 60.0]).__next__)
    progress = Progress("scan P01", 100, "frames")
    progress.done = 1.0
    assert progress.line() == "scan P01: 1/100 frames, 0.0/s, 1:39:00 left"


def test_on_a_terminal_there_is_a_bar_and_the_log_still_gets_plain_lines(tmp_path, monkeypatch):
    terminal = terminal_as_stderr(monkeypatch)
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0)
    with rule_log(tmp_path / "a.log"):
        three_segments()
    shown = terminal.shown()
    assert "%|" in shown and "predict val: 1/3" not in shown
    lines = (tmp_path / "a.log").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines[:3]] == [
        f"predict val: {i}/3 segments" for i in (1, 2, 3)
    ]
    assert re.fullmatch(r"predict val: 3 segments in \d\.\d s", lines[3]) and len(lines) == 4


def test_a_line_takes_the_place_of_the_bar_and_the_bar_goes_on_below(tmp_path, monkeypatch):
    terminal = terminal_as_stderr(monkeypatch)
    with rule_log(tmp_path / "a.log"):
        three_segments(lambda: log.info("epoch 1"))
    before, _, after = terminal.shown().partition("epoch 1\r\n")
    assert before.endswith("\r")  # the bar was wiped
    assert "predict val:  33%|" in after
