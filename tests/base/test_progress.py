import contextlib
import os
import re
import subprocess
import sys

from epic100.base.progress import Progress


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
        "import logging; from epic100.base import progress\n"
        "logging.basicConfig(level='INFO', format='%(message)s')\n"
        "for seconds in (10, 0):\n"
        "    progress.PLAIN_SECONDS = seconds\n"
        "    bar = progress.Progress('predict val', 3, 'segments')\n"
        "    for i in range(3): bar.update(note=f'P0{i}')\n"
        "    bar.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.stdout == "" and len(lines) == 5
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
        "from epic100.base import log, progress\n"
        "progress.PLAIN_SECONDS = 0\n"
        f"with log.rule_log({str(tmp_path / 'a.log')!r}):\n"
        "    bar = progress.Progress('predict val', 3, 'segments')\n"
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
        "from epic100.base import log, progress\n"
        f"with log.rule_log({str(tmp_path / 'a.log')!r}):\n"
        "    bar = progress.Progress('train', 3, 'segments')\n"
        "    bar.update()\n"
        "    log.log.info('epoch 1')\n"
        "    bar.close()\n"
    )
    before, _, after = shown.partition(b"epoch 1\r\n")
    assert before.endswith(b"\r")  # the bar was wiped
    assert b"train:  33%|" in after
