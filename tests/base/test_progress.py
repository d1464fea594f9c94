import re
import sys

from epic100.base import progress
from epic100.base.log import log, rule_log
from epic100.base.progress import Progress
from support.records import records_of
from support.terminal import Terminal


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


def test_on_a_terminal_a_bar_is_below_all_lines_and_the_log_gets_plain_ones(tmp_path, monkeypatch):
    terminal = Terminal()
    for name in ("stderr", "__stderr__"):
        monkeypatch.setattr(sys, name, terminal.stream)
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0)
    with rule_log(tmp_path / "a.log"):
        three_segments()
    before, _, after = terminal.shown().partition("P00 is done\r\n")
    assert before.endswith("\r")  # the bar was wiped
    assert "predict val:  33%|" in after and "predict val: 1/3" not in before + after
    lines = (tmp_path / "a.log").read_text().splitlines()[1:]
    for i in range(3):
        assert lines[2 * i].startswith(f"predict val: {i + 1}/3 segments, ")
        assert lines[2 * i + 1] == f"P0{i} is done"
    assert re.fullmatch(r"predict val: 3 segments in \d\.\d s", lines[6]) and len(lines) == 7
