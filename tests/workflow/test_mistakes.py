"""Slips of a new user: each is one line that says what, where, what was expected and what to do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from epic100.cli.program import main
from support.archive import stop_decoder
from support.checkout import ROOT, run_snakemake, said

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
    "a target behind --config": (
        ["-n", "--config", "train.epochs=3", "results/segments/train.txt"],
        "results/segments/train.txt", "expected KEY=VALUE", "train.epochs=3",
    ),
    "a value that is not YAML": (["-n", "train.options={"], "train.options={", "is not YAML"),
}  # fmt: skip

# Slips that Snakemake alone takes, or tells in its own words. None of them starts a job.
IN_A_FOLDER = {
    "two --configfile": (
        ["--configfile", "config.yaml", "--configfile", "good.yaml"],
        "--configfile is given more than once", "the last one only", "give all files behind one",
    ),
    "a section twice": (
        ["--configfile", "config.yaml", "twice.yaml"],
        "twice.yaml:3: key 'train' is there already, in line 1", "expected it once",
    ),
    "a CSV that is not there": (
        ["--configfile", "config.yaml", "csv.yaml"],
        "none.csv: no such file", "`annotations: train:`", "`annotations: {download: true}`",
    ),
    "start weights that are not there": (
        ["results/model.pth", "--configfile", "config.yaml", "weights.yaml"],
        "none.pth: no such file", "`train: load_from:`", "correct the path",
    ),
}  # fmt: skip
FILES = {
    "good.yaml": "train: {epochs: 3}",
    "twice.yaml": "train: {epochs: 3}\nclean: {policy: video}\ntrain: {epochs: 4}",
    "csv.yaml": "annotations: {train: none.csv}",
    "weights.yaml": "train: {load_from: none.pth}",
}


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


@pytest.mark.parametrize("name", IN_A_FOLDER)
def test_a_slip_that_snakemake_takes_is_refused_before_any_job(archive, name):
    call, *words = IN_A_FOLDER[name]
    for file, text in FILES.items():
        (archive / file).write_text(text)
    done = run_snakemake("-n", "-s", str(ROOT / "Snakefile"), *call, cwd=archive, well=False)
    assert "Traceback (most" not in said(done) and "Job stats" not in said(done)
    for word in words:
        assert word in said(done)


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
