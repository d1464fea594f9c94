"""`epic100 check`, and what every run reads before its first job: the inputs and the folder."""

import json
import os
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest

from epic100.base.disk import digest
from epic100.cli import start
from epic100.cli.input_videos import NOTE, Line, archive_lines, find_archive
from epic100.cli.inputs import STORED_LINES, InputFiles, read_inputs
from epic100.cli.program import main
from epic100.cli.where import where_am_i
from epic100.data.official_lists import LISTS
from epic100.minikitchen import write_video
from epic100.settings.config import layered_settings, read_settings
from support.archive import FILM, TRAIN, VAL, VIDEOS, configure, run
from support.checkout import epic100, run_snakemake, said

CALL = ["check", "--configfile", "config.yaml"]


@pytest.fixture(autouse=True)
def here(archive, monkeypatch) -> Path:
    """The archive as the working folder, which each test may spoil."""
    monkeypatch.chdir(archive)
    return archive


@pytest.fixture
def screen(capsys):
    """Returns the lines that were printed since the last call."""
    return lambda: capsys.readouterr().out.splitlines()


def read() -> list[Line]:
    """Read the inputs of a run in the working folder."""
    config = layered_settings(["config.yaml"])
    return read_inputs(config, InputFiles.of(config), find_archive(config))


def test_a_missing_csv_is_named_and_videos_counted(screen):
    TRAIN.unlink()
    FILM.unlink()
    assert main(CALL) == 1
    lines = screen()
    (missing,) = [line for line in lines if line.startswith("MISSING")]
    assert "EPIC_100_train.csv: no such file" in missing
    assert [line.split(maxsplit=2)[2] for line in lines if line.startswith("ok      videos")] == [
        "archive: 2 of the 3 videos of the sheet are there",
        "train: 1 of 2 (all of P02, none of P01)",
        "val: 1 of 1 (all of P02)",
    ]
    # P02 has two of the three videos.
    configure(Path(), participants={"include": ["P02"]}, predict={"model": "none.pth"})
    main(CALL)
    assert "archive: all 2 videos of the sheet are there" in "".join(screen())


@pytest.mark.slow
def test_a_training_is_tried_with_typed_keys(screen, monkeypatch):
    small = {"config": "config/x3d_demo.py", "from_scratch": True, "heads": "pair"}
    configure(Path(), train=small)
    assert main([*CALL, "train.epochs=7"]) == 0
    *inputs, begins, works, line = screen()
    assert all(line.startswith("ok ") for line in inputs)
    assert "ok      annotations  segments: train 6, val 5" in inputs
    assert "ok      videos       archive: all 3 videos of the sheet are there" in inputs
    assert begins.startswith("Trial: ") and works.startswith("Trial: the training works")
    assert line == "ok      train        works, in a trial with these settings"
    # A training that differs only in its seed is not tried again.
    assert main(["check", "train.epochs=7", "train.seed=3", "--configfile", "config.yaml"]) == 0
    assert screen() == [*inputs, line]
    # A real trial that fails is in tests/training/test_trial.py.
    monkeypatch.setattr(start, "_answer", lambda request: "it fails in its trial")
    assert main([*CALL, "train.options={optim_wrapper.optimizer.lr: 7}"]) == 1
    assert screen()[-1] == "it fails in its trial"


@pytest.mark.parametrize(
    "profile, environment",
    [("default", {}), ("vsc", {"CUDA_VISIBLE_DEVICES": ""})],
)
def test_a_cluster_s_training_is_tried_without_gpus(profile, environment, monkeypatch):
    configure(Path(), train={"config": "config/x3d_demo.py", "from_scratch": True})
    requests = []
    monkeypatch.setattr(start, "_answer", lambda request: requests.append(request) or "passed")
    assert main([*CALL, "--profile", f"profiles/{profile}"]) == 0
    assert requests[0]["environment"] == environment


@pytest.mark.parametrize(
    "config, exit_code, text",
    [
        pytest.param("minikitchen: {}", 0, "Trial: the", id="made by the demo"),
        pytest.param(
            "{annotations: {download: true}, videos: {download: true}}",
            0,
            "none of the 700 videos",
            id="downloaded",
        ),
        pytest.param("run: a", 1, "MISSING", id="neither"),
    ],
)
def test_files_the_run_makes_are_not_missing(
    config, exit_code, text, tmp_path, monkeypatch, screen
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "_answer", lambda request: "passed")
    (tmp_path / "config.yaml").write_text(config)
    assert main(CALL) == exit_code
    assert text in "".join(screen())


@pytest.mark.slow
def test_lines_that_cannot_be_stored_are_one_error(here):
    Path(STORED_LINES).mkdir(parents=True)
    done = epic100("run", "-n", "--configfile", "config.yaml", cwd=here, well=False)
    # The line `Using workflow specific profile ...` is Snakemake's.
    (line,) = [line for line in said(done).splitlines() if not line.startswith("Using ")]
    assert f"{STORED_LINES}: not written: " in line


def test_checks_of_contents_last_until_a_change():
    first = read()
    added = Line(NOTE, "annotations", "added to the stored lines")
    stored = json.loads(Path(STORED_LINES).read_text())
    stored["lines"].append(added)
    Path(STORED_LINES).write_text(json.dumps(stored))
    assert added in read()
    pd.read_csv(TRAIN, dtype=str).iloc[:-1].to_csv(TRAIN, index=False)
    changed = read()
    assert added not in changed and changed != first
    Path(STORED_LINES).write_text("{")
    assert read() == changed, "a broken file of stored lines is ignored"


def test_a_hard_link_is_not_a_second_file():
    before = read()
    os.link(FILM, "archive/P01_01.MP4")
    assert read() == before


def test_the_disk_is_asked_once_per_film():
    """It was asked four times, and the disk of a network answers slowly."""
    config = layered_settings(["config.yaml"])
    archive = find_archive(config)
    with patch.object(Path, "stat", autospec=True, side_effect=Path.stat) as stat:
        list(archive_lines(config, archive))
    assert [call.args[0] for call in stat.call_args_list].count(FILM) == 1


@pytest.mark.slow
def test_the_scan_s_end_names_trimmed_videos(here):
    write_video(replace(VIDEOS[0], duration=4.0), FILM, seed=2)
    words = ["run", "--cores", "1", "results/scan/P01.tsv", "--configfile", "config.yaml"]
    screen = said(epic100(*words, cwd=here))
    assert "scan P01: WARNING: P01_01: its frames last " in screen
    assert "`videos: accept: [P01_01]`" in screen


def where(*configfiles: str) -> list[str]:
    """What is said about the working folder of a call with these config files."""
    config = layered_settings(configfiles)
    return [line.words for line in where_am_i(config, configfiles)]


@pytest.mark.slow
def test_run_json_tells_another_config_file(here):
    run(here, "results/segments/val.txt", "--cores", "1")
    record = json.loads(Path("results/run.json").read_text())
    assert record["workflow"] == version("epic100")
    assert record["configfiles"] == ["config.yaml"]
    assert record["settings"]["videos"] == {"sheet": "sheet.tsv", "root": "archive"}
    assert {str(TRAIN), str(VAL)} < set(record["inputs"])
    assert where("config.yaml") == []
    (line,) = where()
    assert line.startswith("results/ was made with --configfile config.yaml, this call has no --c")
    screen = said(run_snakemake("-n", "results/scan/P01.tsv", "--directory", str(here)))
    assert line in screen
    assert json.loads(Path("results/run.json").read_text()) == record
    # Snakemake's records are gone.
    shutil.rmtree(".snakemake")
    (line,) = where("config.yaml")
    assert line.startswith(".snakemake/metadata is not here") and "-F" in line


@pytest.mark.parametrize("content", ["{}", "[1]", "{", '{"configfiles": 1}', "\xff"])
def test_a_foreign_run_json_changes_nothing(content):
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
def test_a_call_outside_a_project_is_told_first(folder, texts, here, monkeypatch, capsys):
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
def test_official_checksums_are_of_official_annotations(config, is_official):
    assert bool(InputFiles.of(read_settings(config)).pins) == is_official


@pytest.mark.parametrize(
    "edited, told",
    [
        pytest.param([], ["ok are the official files, by their checksums"], id="none is edited"),
        pytest.param(
            ["val"],
            [f"note not the official files, by their checksums, as others are: {VAL}; expected"],
            id="one is edited",
        ),
        pytest.param(["train", "val", *LISTS], [], id="all are edited"),
    ],
)
def test_official_files_are_known_by_their_checksums(edited, told):
    config = layered_settings(["config.yaml"])
    files = InputFiles.of(config)
    pins = dict(files.pins)
    for key in files.tables.keys() & pins.keys() - set(edited):
        pins[key] = replace(pins[key], checksum=digest(files.tables[key], "sha256"))
    lines = read_inputs(config, replace(files, pins=pins), find_archive(config))
    found = [f"{line.state} {line.words}" for line in lines if "official files" in line.words]
    assert len(found) == len(told) and all(map(str.startswith, found, told))
