"""Lines that stay and a block that is renewed, on a real terminal and in a file."""

from snakemake_logger_plugin_epic100.display import Display
from support.this_process import Terminal


def shown(text):
    """The lines on a terminal after `text`: cursor up, carriage return and clearing are obeyed."""
    lines, row = [""], 0
    while text:
        if text.startswith("\x1b["):
            code, text = text[2:].partition("A")[::2] if text[2].isdigit() else ("J", text[3:])
            if code == "J":
                lines = [*lines[:row], ""]
            else:
                row -= int(code)
            continue
        sign, text = text[0], text[1:]
        if sign == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif sign != "\r":
            lines[row] += sign
    return [line for line in lines if line]


def test_on_a_terminal_the_block_is_renewed_below_the_lines_that_stay(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    display = Display(terminal.stream)
    assert display.is_terminal
    display.renew(["1 of 3 jobs done", "  train: epoch 1/2"])
    display.say("scan: 2 jobs in 0:05")
    display.renew(["2 of 3 jobs done", "  train: epoch 2/2", "  predict"])
    display.renew(["3 of 3 jobs done"])
    display.say("over")
    assert shown(terminal.shown()) == ["scan: 2 jobs in 0:05", "over", "3 of 3 jobs done"]


def test_in_a_file_lines_stay_and_no_block_comes(tmp_path):
    with (tmp_path / "screen").open("w") as file:
        display = Display(file)
        display.renew(["1 of 3 jobs done"])
        display.say("scan: 2 jobs in 0:05")
    assert (tmp_path / "screen").read_text() == "scan: 2 jobs in 0:05\n"
