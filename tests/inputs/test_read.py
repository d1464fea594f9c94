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
import torch

from epic100.cli.program import main
from epic100.inputs.archive import archive_lines, find_archive
from epic100.inputs.lines import MISSING, NOTE, WRONG, Line
from epic100.inputs.read import STORED_LINES, InputFiles, read_inputs
from epic100.inputs.where import where_am_i
from epic100.minikitchen import write_video
from epic100.model.model_file import TrainedModel, save_model
from epic100.settings import layered_settings, read_settings
from support.archive import VIDEOS, configure, run
from support.checkout import ROOT, epic100, run_snakemake, said

TRAIN = Path("csv/EPIC_100_train.csv")
VAL = Path("csv/EPIC_100_validation.csv")
TAIL_VERBS = Path("csv/EPIC_100_tail_verbs.csv")
VERB_CLASSES = Path("csv/EPIC_100_verb_classes.csv")
UNSEEN = Path("csv/EPIC_100_unseen_participant_ids_validation.csv")
FILM = Path("archive/P01/P01_01.MP4")
WEB_PAGE = "<!DOCTYPE html>\n<html><body>404</body></html>\n"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


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


def edit(csv: Path, **columns) -> None:
    """Replace columns of a CSV; a function makes the new column from the rows."""
    pd.read_csv(csv, dtype=str).assign(**columns).to_csv(csv, index=False)


def add_val_to_train() -> None:
    both = [pd.read_csv(path, dtype=str) for path in (TRAIN, VAL)]
    pd.concat(both).to_csv(TRAIN, index=False)


def list_classes(count: int) -> None:
    """Write a list of verb classes with this many names."""
    names = "".join(f"{number},name{number}\n" for number in range(count))
    VERB_CLASSES.write_text(f"id,key\n{names}")


def write_ids_in_small_letters() -> None:
    edit(
        TRAIN,
        video_id=lambda rows: rows["video_id"].str.lower(),
        participant_id=lambda rows: rows["participant_id"].str.lower(),
    )
    configure(Path(), videos={"sheet": "sheet.tsv", "root": "archive", "subset": True})


def give_the_first_of_val(train: pd.DataFrame) -> pd.Series:
    """The narration_ids of train, but the first one is that of val."""
    return train["narration_id"].replace(train["narration_id"][0], "P02_102_0")


def use_model(verbs: int = 97, **changes) -> None:
    """Predict with a model of this many verb classes, whose head is over pairs."""
    model = TrainedModel(
        state_dict={},
        pairs=[(0, 1, 1)],
        num_verbs=verbs,
        num_nouns=300,
        config={},
        trained_on={},
    )
    save_model(model, "model.pth")
    configure(Path(), predict={"model": "model.pth"}, **changes)


def use_a_file_that_is_no_model() -> None:
    use_model()
    torch.save({"a": torch.zeros(1)}, "model.pth")


@pytest.mark.parametrize(
    "spoil, texts",
    [
        pytest.param(
            add_val_to_train,
            # The split val has five rows.
            ["EPIC_100_train.csv: line ", "'P02_102' (5 such rows)", "whose split is train in the"],
            id="rows of val in train",
        ),
        pytest.param(
            partial(configure, Path(), annotations={"train": str(VAL), "val": str(TRAIN)}),
            ["EPIC_100_validation.csv: line 2", "take the CSV of train"],
            id="swapped CSVs",
        ),
        pytest.param(
            partial(TRAIN.write_text, WEB_PAGE),
            ["EPIC_100_train.csv: is a web page"],
            id="a web page for a CSV",
        ),
        pytest.param(
            partial(TRAIN.write_text, LFS_POINTER),
            ["EPIC_100_train.csv: is a pointer of git-lfs", "git lfs pull"],
            id="a pointer of git-lfs for a CSV",
        ),
        pytest.param(
            partial(shutil.copy, FILM, "archive/P01_01.MP4"),
            [f"P01_01: there are two files, {FILM} and archive/P01_01.MP4", "remove or rename"],
            id="one video in two layouts",
        ),
        pytest.param(
            partial(shutil.copy, FILM, FILM.with_suffix(".mp4")),
            ["P01_01: there are two files"],
            id="one video with two suffixes",
        ),
        pytest.param(
            partial(configure, Path(), participants={"include": ["P01"]}),
            ["no segment of val is left", "of P02, whom `participants:`"],
            id="only participants of train",
        ),
        pytest.param(
            partial(configure, Path(), predict={"model": "csv"}),
            ["csv: is a folder; expected a finished model"],
            id="a folder for a model",
        ),
        pytest.param(
            partial(configure, Path(), predict={"model": "results/modle.pth"}),
            ["results/modle.pth: no such file"],
            id="no such model",
        ),
        pytest.param(use_a_file_that_is_no_model, ["model.pth: "], id="no model in the file"),
        pytest.param(
            partial(use_model, verbs=3),
            ["model.pth: a model of 3 verbs and 300 nouns, but"],
            id="a model of other classes",
        ),
        pytest.param(
            partial(use_model, export={"reduce": "heads"}),
            ["`heads: pair`, which `export: reduce: heads` cannot fold"],
            id="a model without the heads to fold",
        ),
        pytest.param(
            partial(configure, Path(), train={"config": "config/x3d_dmo.py"}),
            ["config/x3d_dmo.py: no such MMEngine config", "did you mean config/x3d_demo.py?"],
            id="no such recipe",
        ),
        pytest.param(
            partial(TAIL_VERBS.write_text, WEB_PAGE),
            ["EPIC_100_tail_verbs.csv: is a web page"],
            id="a web page for a tail list",
        ),
        pytest.param(
            partial(TAIL_VERBS.write_text, "noun\n1\n"),
            ["EPIC_100_tail_verbs.csv: line 1: column verb missing"],
            id="the other tail list",
        ),
        pytest.param(
            partial(list_classes, 300),
            ["verb 97 is in it, but `classes: verbs:` is 97", "`evaluate: verb_classes:`"],
            id="the nouns for the verbs",
        ),
        pytest.param(
            partial(list_classes, 1),
            ["EPIC_100_verb_classes.csv: no name for verb"],
            id="a class without a name",
        ),
        pytest.param(
            write_ids_in_small_letters,
            ["EPIC_100_train.csv: none of its rows has a video of sheet.tsv", "capitals too"],
            id="ids in small letters",
        ),
        pytest.param(
            partial(os.symlink, "/scratch/purged", "results"),
            ["results: is a file, or a link to a folder that is gone"],
            id="results on a disk that is gone",
        ),
        pytest.param(
            partial(edit, TRAIN, narration_id=give_the_first_of_val),
            ["narration_id P02_102_0 is in both"],
            id="one narration_id in both splits",
        ),
    ],
)
def test_an_error_in_an_input_is_a_line_that_says_what_to_do(spoil, texts):
    assert errors() == []
    spoil()
    first = errors()
    assert any(all(text in line for text in texts) for line in first), first
    assert errors() == first, "the second reading repeats the stored lines"


def test_all_errors_are_reported_at_once():
    add_val_to_train()
    shutil.copy(FILM, "archive/P01_01.MP4")
    TAIL_VERBS.write_text(WEB_PAGE)
    assert len(errors()) == 3


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
    (line,) = said(done).splitlines()
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


def put_a_folder_in_place_of_a_film() -> None:
    FILM.unlink()
    FILM.mkdir()


def use_the_classes_of_epic_55() -> None:
    list_classes(97)
    configure(Path(), classes={"verbs": 125, "nouns": 352})


@pytest.mark.parametrize(
    "spoil, text",
    [
        pytest.param(
            use_the_classes_of_epic_55,
            "verb_classes.csv: names 97 of the 125 classes of `classes: verbs:`",
            id="too few class names",
        ),
        pytest.param(
            partial(FILM.write_text, WEB_PAGE),
            f"or too small for a film: {FILM}; ",
            id="a web page for a film",
        ),
        pytest.param(
            put_a_folder_in_place_of_a_film,
            "a folder, not readable by you, or too small for a film: ",
            id="a folder for a film",
        ),
        pytest.param(
            partial(shutil.copy, FILM, "archive/P01/P01_77.MP4"),
            "archive: 1 of its files are used by no row of sheet.tsv (P01/P01_77.MP4: the sheet has "
            "P01_01): ",
            id="a film that the sheet does not list",
        ),
        pytest.param(
            partial(shutil.copy, "archive/P02/P02_101.MP4", "archive/P02/P02_102.MP4"),
            "archive/P02/P02_101.MP4 and archive/P02/P02_102.MP4",
            id="films of one size",
        ),
        pytest.param(
            # The video lasts 8 seconds, and the first of its five segments stays as it is.
            lambda: edit(
                VAL,
                start_timestamp=lambda rows: rows["start_timestamp"].where(
                    rows.index < 1, "00:01:12.00"
                ),
                stop_timestamp=lambda rows: rows["stop_timestamp"].where(
                    rows.index < 1, "00:01:13.00"
                ),
            ),
            "EPIC_100_validation.csv: 4 segments begin after the end of their video "
            "by sheet.tsv, such as P02_102_1",
            id="minutes for seconds",
        ),
        pytest.param(
            partial(UNSEEN.write_text, "participant_id\nP09\nP29\n"),
            "participant_ids_validation.csv: none of its participants has a segment",
            id="the unseen participants of test",
        ),
    ],
)
def test_a_fault_that_costs_only_its_own_segments_or_figures_is_a_note(spoil, text):
    spoil()
    (note,) = notes()
    assert text in note and errors() == []


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
    assert "scan P01: WARNING: P01_01: its pictures last " in screen
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
    [({}, True), ({"minikitchen": {}}, False), ({"annotations": {"format": "lab_list"}}, False)],
)
def test_official_checksums_are_expected_of_official_annotations_alone(config, is_official):
    assert bool(InputFiles.of(read_settings(config)).pins) == is_official
