"""Slips of a new user: each is one line that says what, where, what was expected and what to do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from epic100.cli.program import main
from support.archive import stop_decoder
from support.checkout import ROOT

pytestmark = pytest.mark.slow

# A slip: (words of the command; where, what, expected, what to do). Slips in files are in tables of
# tests/settings/test_read.py, segments/test_annotations.py and attacks/test_names.py.
MISTAKES = {
    "a tab in a config": (
        ["-n", "--configfile", "tab.yaml"],
        "tab.yaml", "cannot start any token", "expected YAML", "indent with spaces",
    ),
    "a config that is not there": (
        ["-n", "--configfile", "none.yaml"],
        "none.yaml", "no such config file", "expected YAML", "correct --configfile",
    ),
    "a target behind --configfile": (
        ["-n", "--configfile", "good.yaml", "results/segments/train.txt"],
        "results/segments/train.txt", "no config file", "takes every word", "put targets before",
    ),
    "a dotted key": (
        ["-n", "--config", "train.epochs=3"],
        "--config train.epochs=3", "has a dot", "expected a file", "`train: {epochs: 3}`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_slip_is_one_line_with_what_where_expected_and_what_to_do(
    tmp_path, monkeypatch, capsys, name
):
    call, *words = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    Path("tab.yaml").write_text("train:\n\tepochs: 3\n")
    Path("good.yaml").write_text("train: {epochs: 3}\n")
    assert main(["run", *call]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_ctrl_c_in_a_scan_waits_for_no_decoder_and_is_one_line(archive):
    command = [sys.executable, "-m", "snakemake", "results/scan/P01.tsv", "--directory",
               str(archive), "--configfile", str(archive / "config.yaml")]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as call:  # fmt: skip
        stop_decoder(archive / "archive/P01/P01_01.MP4")  # it would take its 60 s to be given up
        os.killpg(call.pid, signal.SIGINT)
        text = call.communicate(timeout=45)[1]
    assert call.returncode != 0
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert lines == ["error: stopped by Ctrl-C; the same command goes on from what is done"]
    assert "Traceback" not in text
    assert not (archive / "results/scan/P01.tsv").exists()
    assert f"\n{lines[0]}\n" in (archive / "results/logs/scan/P01.log").read_text()
