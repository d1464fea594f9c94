import contextlib
import io
import os
import re
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader

from epic100.base.atomic import DiskFullError
from epic100.base.errors import EpicError
from epic100.base.rule_log import Progress, rule_log


def test_what_is_printed_stands_on_stderr_and_in_the_log(tmp_path, capsys):
    path = tmp_path / "logs" / "clean.log"
    out, err = sys.stdout, sys.stderr
    with rule_log(path):
        print("train: 100 segments kept")
        print("a warning", file=sys.stderr)
        assert "100 segments" in path.read_text()  # while it runs, not at its end
    assert (sys.stdout, sys.stderr) == (out, err)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "train: 100 segments kept\na warning\n"
    head, *lines = path.read_text().splitlines()
    assert re.fullmatch(r"--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d pid \d+", head)
    assert lines == ["train: 100 segments kept", "a warning"]


def test_lines_of_jobs_side_by_side_cannot_mix_since_each_is_one_write(tmp_path, monkeypatch):
    writes = []
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "write", writes.append)
    with rule_log(tmp_path / "a.log"):
        print("error:", "a.csv", 3)
        print("no end", end="")
    assert writes == ["error: a.csv 3\n", "no end"]
    assert (tmp_path / "a.log").read_text().endswith("\nerror: a.csv 3\nno end")


def test_a_retry_keeps_what_the_attempt_before_it_said(tmp_path):
    for words in ("first", "second"):
        with rule_log(tmp_path / "a.log"):
            print(words)
    said = [line for line in (tmp_path / "a.log").read_text().splitlines() if line[:3] != "---"]
    assert said == ["first", "second"]


def test_bad_input_ends_in_one_line_and_exit_code_1(tmp_path, capsys):
    out, err = sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as caught, rule_log(tmp_path / "a.log"):
        raise EpicError("a.csv: line 2: expected a class id")
    assert caught.value.code == 1 and (sys.stdout, sys.stderr) == (out, err)
    assert capsys.readouterr().err == "error: a.csv: line 2: expected a class id\n"
    assert (tmp_path / "a.log").read_text().splitlines()[1:] == [
        "error: a.csv: line 2: expected a class id"
    ]


@pytest.mark.parametrize("kind", [EpicError, DiskFullError])
def test_of_an_error_in_a_loader_s_worker_its_words_alone_are_said(tmp_path, capsys, kind):
    def fail(_):
        raise kind("P01_01: frame 7 does not decode")

    with pytest.raises(SystemExit), rule_log(tmp_path / "a.log"):
        next(iter(DataLoader([0], num_workers=1, collate_fn=fail)))
    assert capsys.readouterr().err == "error: P01_01: frame 7 does not decode\n"


def test_a_fault_of_the_program_leaves_its_traceback_in_the_log_and_goes_on_up(tmp_path):
    out, err = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), rule_log(tmp_path / "a.log"):
        print("before")
        1 / 0  # noqa: B018
    log = (tmp_path / "a.log").read_text()
    assert "before\nTraceback (most recent call last):\n" in log and "1 / 0" in log
    assert log.endswith("ZeroDivisionError: division by zero\n")
    assert (sys.stdout, sys.stderr) == (out, err)


def test_progress_says_done_rate_and_time_left():
    progress = Progress("scan P01", 200, "frames")
    assert progress.line() == "scan P01: 0/200 frames, 0.0/s, ? left"
    progress.update(50)
    progress.update(100)
    match = re.fullmatch(
        r"scan P01: 150/200 frames, ([\d.]+)/s, (00:\d\d) left, P01_01", progress.line("P01_01")
    )
    assert match and float(match[1]) > 0


def test_without_a_terminal_progress_is_plain_lines_and_not_too_many(tmp_path):
    program = (
        "from epic100.base import rule_log\n"
        "for seconds in (10, 0):\n"
        "    rule_log.PLAIN_SECONDS = seconds\n"
        "    bar = rule_log.Progress('predict val', 3, 'segments')\n"
        "    for i in range(3): bar.update(note=f'P0{i}')\n"
        "    bar.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.stderr == "" and len(lines) == 5
    assert re.fullmatch(r"predict val: 3 segments in \d\.\d s", lines[0])
    for number, line in enumerate(lines[1:4]):
        assert line.startswith(f"predict val: {number + 1}/3 segments, ")
        assert line.endswith(f"P0{number}")
    assert lines[4] == lines[0]


def test_hours_left_are_said_as_hours(monkeypatch):
    monkeypatch.setattr("time.monotonic", iter([0.0, 60.0]).__next__)
    progress = Progress("scan P01", 100, "frames")
    progress.done = 1.0
    assert progress.line() == "scan P01: 1/100 frames, 0.0/s, 1:39:00 left"


def on_a_terminal(program: str) -> bytes:
    """What a person sees of a program whose stderr is a terminal."""
    ours, terminal = os.openpty()
    subprocess.run([sys.executable, "-c", program], stderr=terminal, check=True)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    return shown


def test_on_a_terminal_there_is_a_bar_and_the_log_still_gets_plain_lines(tmp_path):
    program = (
        "from epic100.base import rule_log\n"
        "rule_log.PLAIN_SECONDS = 0\n"
        f"with rule_log.rule_log({str(tmp_path / 'a.log')!r}):\n"
        "    bar = rule_log.Progress('predict val', 3, 'segments')\n"
        "    for i in range(3): bar.update()\n"
        "    bar.close()\n"
    )
    shown = on_a_terminal(program)
    assert b"%|" in shown and b"predict val: 1/3" not in shown
    lines = (tmp_path / "a.log").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines[:3]] == [
        f"predict val: {i}/3 segments" for i in (1, 2, 3)
    ]
    assert re.fullmatch(r"predict val: 3 segments in \d\.\d s", lines[3]) and len(lines) == 4


def test_a_line_takes_the_place_of_the_bar_and_the_bar_goes_on_below(tmp_path):
    shown = on_a_terminal(
        "from epic100.base import rule_log\n"
        f"with rule_log.rule_log({str(tmp_path / 'a.log')!r}):\n"
        "    bar = rule_log.Progress('train', 3, 'segments')\n"
        "    bar.update()\n"
        "    print('epoch', 1)\n"
        "    bar.close()\n"
    )
    before, _, after = shown.partition(b"epoch 1\r\n")
    assert before.endswith(b"\r")  # the bar was wiped
    assert b"train:  33%|" in after
