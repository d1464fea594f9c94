"""Slips of a new user: each is one line that says what, where, what was expected and what to do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.segments.annotations import load_annotations
from epic100.settings import layered_settings
from epic100.training.config_file import require_known_options
from epic100.video.sheet import read_sheet
from support.archive import stop_decoder
from support.checkout import ROOT

pytestmark = pytest.mark.slow

MODEL = Config({"optim_wrapper": {}, "batch_size": 8})
CLASSES = {"verbs": 97, "nouns": 300}
SHEET = "video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5\n"
CSV = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
ROW = "P01_01_0,P01,P01_01,00:00:01.00,00:00:02.00,3,4\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the slips are about."""
    monkeypatch.chdir(tmp_path)
    Path("tab.yaml").write_text("train:\n\tepochs: 3\n")
    Path("empty.yaml").write_text("# nothing yet\n")
    Path("list.yaml").write_text("- train\n")
    Path("good.yaml").write_text("train: {epochs: 3}\n")
    Path("sheet.tsv").write_text(SHEET + "P01_01\tP01\ttrain\t50.0\t9.0\t\t\n")
    Path("md5.tsv").write_text(SHEET + "P01_01\tP01\ttrain\t50.0\t9.0\t\txyz\n")
    Path("cut.csv").write_text(CSV + ROW + ROW[:40])
    Path("owner.csv").write_text(CSV + ROW.replace(",P01,", ",P22,"))
    Path("folder.csv").mkdir()
    return tmp_path


def command(*words):
    return lambda capsys: (main(["run", *words]), capsys.readouterr().err)


def library(function, *arguments, **settings):
    """An error of the library, as a rule ends with it."""

    def call(capsys):
        with pytest.raises(EpicError) as caught:
            function(*arguments, **settings)
        return 1, f"error: {caught.value}"

    return call


def annotations(path):
    def read():
        videos = {video.video_id: video for video in read_sheet("sheet.tsv")}
        load_annotations(path, videos, split="train", classes=CLASSES)

    return library(read)


# What: (call; where, what, expected, what to do)
MISTAKES = {
    "a tab in a config": (
        command("-n", "--configfile", "tab.yaml"),
        "tab.yaml", "cannot start any token", "expected YAML", "indent with spaces",
    ),
    "an empty config": (
        command("-n", "--configfile", "empty.yaml"),
        "empty.yaml", "no key in it", "expected a config", "or remove the file",
    ),
    "a config that is a list": (
        library(layered_settings, ["list.yaml"]),
        "list.yaml", "is a list", "expected a config", "key by key",
    ),
    "a config that is not there": (
        command("-n", "--configfile", "none.yaml"),
        "none.yaml", "no such config file", "expected YAML", "correct --configfile",
    ),
    "a target behind --configfile": (
        command("-n", "--configfile", "good.yaml", "results/segments/train.txt"),
        "results/segments/train.txt", "no config file", "takes every word", "put targets before",
    ),
    "a dotted key": (
        command("-n", "--config", "train.epochs=3"),
        "--config train.epochs=3", "has a dot", "expected a file", "`train: {epochs: 3}`",
    ),
    "a folder in place of a CSV": (
        annotations("folder.csv"),
        "folder.csv", "is a folder", "expected an official", "`annotations:` in the config",
    ),
    "a CSV that is cut": (
        annotations("cut.csv"),
        "cut.csv: line 3", "the last line is cut", "expected the whole file", "download it again",
    ),
    "a CSV of mixed participants": (
        annotations("owner.csv"),
        "owner.csv: line 2", "'P22'", "expected the participant of", "correct the line",
    ),
    "a typo in the options": (
        library(require_known_options, MODEL, {"optim_wraper.optimizer.lr": 0.1}),
        "optim_wraper.optimizer.lr", "nothing reads", "did you mean optim_wrapper?",
        "expected a dotted key",
    ),
    "an option that nothing reads": (
        library(require_known_options, MODEL, {"batch_size": 16}),
        "sets batch_size", "nothing reads batch_size", "expected a dotted key", "such as",
    ),
    "an md5 that is none": (
        library(read_sheet, "md5.tsv"),
        "md5.tsv: line 2", "md5 is 'xyz'", "expected 32 hexadecimal digits", "or nothing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_slip_is_one_line_with_what_where_expected_and_what_to_do(folder, capsys, name):
    call, *words = MISTAKES[name]
    code, text = call(capsys)
    assert code == 1
    (line,) = text.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_ctrl_c_in_a_scan_waits_for_no_decoder_and_is_one_line(new_archive, tmp_path):
    folder = new_archive(tmp_path)
    command = [sys.executable, "-m", "snakemake", "results/scan/P01.tsv", "--directory",
               str(folder), "--configfile", str(folder / "config.yaml")]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as call:  # fmt: skip
        stop_decoder(folder / "archive/P01/P01_01.MP4")  # it would take its 60 s to be given up
        os.killpg(call.pid, signal.SIGINT)
        text = call.communicate(timeout=45)[1]
    assert call.returncode != 0
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert lines == ["error: stopped by Ctrl-C; the same command goes on from what is done"]
    assert "Traceback" not in text
    assert not (folder / "results/scan/P01.tsv").exists()
    assert f"\n{lines[0]}\n" in (folder / "results/logs/scan/P01.log").read_text()
