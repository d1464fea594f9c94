"""Every input of a run is read before its first job: what is wrong with each is one line."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest

from epic100.cli.input_videos import (
    MISSING,
    NOTE,
    WRONG,
    Line,
    archive_lines,
    find_archive,
)
from epic100.cli.inputs import STORED_LINES, InputFiles, read_inputs
from epic100.cli.program import main
from epic100.cli.where import where_am_i
from epic100.minikitchen import write_video
from epic100.settings.config import layered_settings, read_settings
from support.archive import FILM, TAIL_VERBS, TRAIN, VAL, VIDEOS, WEB_PAGE, run
from support.checkout import ROOT, epic100, run_snakemake, said


@pytest.fixture(autouse=True)
def here(archive, monkeypatch) -> Path:
    """The archive as the working folder, which each test may spoil."""
    monkeypatch.chdir(archive)
    return archive


def read() -> list[Line]:
    """Read the inputs of a run in the working folder."""
    config = layered_settings(["config.yaml"])
    return read_inputs(config, InputFiles.of(config), find_archive(config))


def errors() -> list[str]:
    """The texts of the lines that stop a run."""
    return [line.words for line in read() if line.state in (WRONG, MISSING)]


def notes() -> list[str]:
    """The texts of the lines that stop no run."""
    return [line.words for line in read() if line.state == NOTE]


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(partial(epic100, "run"), id="epic100 run"),
        pytest.param(partial(run_snakemake, "all", "-s", str(ROOT / "Snakefile")), id="snakemake"),
    ],
)
def test_no_run_begins_with_an_error_in_an_input(here, program):
    TAIL_VERBS.write_text(WEB_PAGE)
    done = program("-n", "--configfile", "config.yaml", cwd=here, well=False)
    assert "EPIC_100_tail_verbs.csv: is a web page" in said(done)
    assert not Path("results").exists()


@pytest.mark.slow
def test_a_run_that_cannot_store_what_it_read_ends_with_one_line(here):
    Path(STORED_LINES).mkdir(parents=True)
    done = epic100("run", "-n", "--configfile", "config.yaml", cwd=here, well=False)
    # The line `Using workflow specific profile ...` is Snakemake's.
    (line,) = [line for line in said(done).splitlines() if not line.startswith("Using ")]
    assert f"{STORED_LINES}: not written: " in line


def test_lines_about_contents_are_stored_until_a_file_changes():
    first = read()
    added = Line(NOTE, "annotations", "added to the stored lines")
    stored = json.loads(Path(STORED_LINES).read_text())
    stored["lines"].append([added.state, added.topic, added.words])
    Path(STORED_LINES).write_text(json.dumps(stored))
    assert added in read()
    pd.read_csv(TRAIN, dtype=str).iloc[:-1].to_csv(TRAIN, index=False)
    changed = read()
    assert added not in changed and changed != first
    Path(STORED_LINES).write_text("{")
    assert read() == changed, "a broken file of stored lines is ignored"


def test_a_hard_link_to_a_film_is_not_a_second_file():
    os.link(FILM, "archive/P01_01.MP4")
    assert errors() == []


def test_the_disk_is_asked_once_for_the_state_of_a_film():
    """It was asked four times, and the disk of a network answers slowly."""
    config = layered_settings(["config.yaml"])
    archive = find_archive(config)
    with patch.object(Path, "stat", autospec=True, side_effect=Path.stat) as stat:
        list(archive_lines(config, archive))
    assert [call.args[0] for call in stat.call_args_list].count(FILM) == 1


@pytest.mark.slow
def test_the_end_of_a_scan_names_a_trimmed_video(here):
    write_video(replace(VIDEOS[0], duration=4.0), FILM, seed=2)
    words = ["run", "--cores", "1", "results/scan/P01.tsv", "--configfile", "config.yaml"]
    screen = said(epic100(*words, cwd=here))
    assert "scan P01: WARNING: P01_01: its frames last " in screen
    assert "`videos: accept: [P01_01]`" in screen


@pytest.fixture
def segments_made(here) -> dict:
    """The content of results/run.json after a run to the val segments."""
    run(here, "results/segments/val.txt", "--cores", "1")
    return json.loads(Path("results/run.json").read_text())


@pytest.mark.slow
def test_run_json_has_version_config_files_settings_and_inputs(segments_made):
    assert segments_made["workflow"] == version("epic100")
    assert segments_made["configfiles"] == ["config.yaml"]
    assert segments_made["settings"]["videos"] == {"sheet": "sheet.tsv", "root": "archive"}
    assert {str(TRAIN), str(VAL)} < set(segments_made["inputs"])


def where(*configfiles: str) -> list[str]:
    """What is said about the working folder of a call with these config files."""
    config = layered_settings(configfiles)
    return [line.words for line in where_am_i(config, configfiles)]


@pytest.mark.slow
def test_a_call_with_another_config_file_or_without_snakemakes_records_is_told(here, segments_made):
    assert where("config.yaml") == []
    (line,) = where()
    assert line.startswith("results/ was made with --configfile config.yaml, this call has no --c")
    screen = said(run_snakemake("-n", "results/scan/P01.tsv", "--directory", str(here)))
    assert line in screen
    assert json.loads(Path("results/run.json").read_text()) == segments_made
    shutil.rmtree(".snakemake")
    (line,) = where("config.yaml")
    assert line.startswith(".snakemake/metadata is not here") and "-F" in line


@pytest.mark.parametrize("content", ["{}", "[1]", "{", '{"configfiles": 1}', "\xff"])
def test_a_run_json_that_is_no_record_changes_nothing(content):
    Path("results").mkdir()
    Path("results/run.json").write_text(content, encoding="latin-1")
    assert where("config.yaml") == []


@pytest.mark.parametrize(
    "folder, texts",
    [
        pytest.param("results", ["is inside results/; first: cd "], id="in the results"),
        pytest.param("results/logs/scan", ["is inside results/"], id="deep in the results"),
        pytest.param("elsewhere", ["no folder of a project", "--directory"], id="elsewhere"),
    ],
)
def test_a_call_outside_a_folder_of_a_project_is_told_so_first(
    folder, texts, here, monkeypatch, capsys
):
    Path("results/logs/scan").mkdir(parents=True)
    Path("elsewhere").mkdir()
    monkeypatch.chdir(folder)
    (line,) = where()
    assert line.startswith(f"{here / folder}: ") and all(text in line for text in texts)
    for command in (["score", "a.zip"], ["submission", "check", "a.zip", "--split", "val"]):
        assert main(command) == 1
        assert f"error: {line}" in capsys.readouterr().err
    assert main(["check"]) == 1
    _, first, *_ = capsys.readouterr().out.splitlines()
    assert line in first


@pytest.mark.parametrize(
    "config, is_official",
    [({}, True), ({"minikitchen": {}}, False)],
)
def test_official_checksums_are_expected_of_official_annotations_alone(config, is_official):
    assert bool(InputFiles.of(read_settings(config)).pins) == is_official
