"""Lines that stay, and a block below them that is renewed, on a real terminal and in a file."""

import re

from snakemake_logger_plugin_epic100.display import Display
from support.this_process import Terminal


def lines_on_screen(text):
    """Return the lines that a terminal shows after this text with its control codes."""
    lines = [""]
    row = 0
    # A code clears the line, or moves the cursor up, or hides or shows it. Else it is one sign.
    for code, ups, sign in re.findall(r"\x1b\[(?:(2K)|(\d+)A|\?25[lh])|([^\x1b])", text):
        if code:
            lines[row] = ""
        elif ups:
            row -= int(ups)
        elif sign == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif sign != "\r":
            lines[row] += sign
    return [line for line in lines if line]


def test_a_block_is_renewed_below_the_lines_that_stay(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    display = Display(terminal.stream)
    assert display.is_terminal
    display.renew(["1 of 3 jobs done", "  train: epoch 1/2"])
    display.say("scan: 2 jobs in 0:05")
    display.renew(["2 of 3 jobs done", "  train: epoch 2/2", "  predict"])
    display.renew(["3 of 3 jobs done"])
    display.say("over")
    assert lines_on_screen(terminal.shown()) == ["scan: 2 jobs in 0:05", "over", "3 of 3 jobs done"]


def test_a_file_gets_no_block(tmp_path):
    with (tmp_path / "screen").open("w") as file:
        display = Display(file)
        display.renew(["1 of 3 jobs done"])
        display.say("scan: 2 jobs in 0:05")
    assert (tmp_path / "screen").read_text() == "scan: 2 jobs in 0:05\n"
