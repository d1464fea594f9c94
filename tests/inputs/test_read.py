"""Every input of a run is read before its first job: what is wrong with each is one line."""

import json
import os
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
import yaml

from epic100.inputs.archive import find_archive
from epic100.inputs.lines import MISSING, NOTE, WRONG, Line
from epic100.inputs.read import KEPT, InputFiles, read_inputs
from epic100.minikitchen import write_video
from epic100.model.model_file import TrainedModel, save_model
from epic100.settings import layered_settings
from support.archive import VIDEOS, configure, run
from support.checkout import epic100, run_snakemake, said

TRAIN, VAL = "csv/EPIC_100_train.csv", "csv/EPIC_100_validation.csv"


@pytest.fixture
def here(archive, monkeypatch):
    monkeypatch.chdir(archive)
    return archive


def read() -> list[Line]:
    """What there is to say about the inputs of a run here."""
    config = layered_settings(["config.yaml"])
    return read_inputs(config, InputFiles.of(config), find_archive(config))


def wrong() -> list[str]:
    """The lines of what stops a run."""
    return [line.words for line in read() if line.state in (WRONG, MISSING)]


def val_rows_in_train(here):
    rows = pd.concat([pd.read_csv(TRAIN, dtype=str), pd.read_csv(VAL, dtype=str)])
    rows.to_csv(TRAIN, index=False)


def swapped_csvs(here):
    os.rename(TRAIN, "other")
    os.rename(VAL, TRAIN)
    os.rename("other", VAL)


def a_page_for_a_csv(here):
    (here / TRAIN).write_text("<!DOCTYPE html>\n<html><body>404</body></html>\n")


def a_pointer_for_a_csv(here):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (here / TRAIN).write_text(text)


def a_file_in_two_layouts(here):
    shutil.copy("archive/P01/P01_01.MP4", "archive/P01_01.MP4")


def a_file_with_two_endings(here):
    shutil.copy("archive/P01/P01_01.MP4", "archive/P01/P01_01.mp4")


def only_those_of_train(here):
    configure(here, participants={"include": ["P01"]})


def a_folder_for_a_model(here):
    configure(here, predict={"model": "csv"})


def no_such_model(here):
    configure(here, predict={"model": "results/modle.pth"})


def no_such_recipe(here):
    configure(here, train={"config": "config/x3d_dmo.py"})


def a_page_for_a_tail_list(here):
    (here / "csv/EPIC_100_tail_verbs.csv").write_text("<html>404: Not Found</html>\n")


def swapped_tail_lists(here):
    (here / "csv/EPIC_100_tail_verbs.csv").write_text("noun\n1\n")


def swapped_class_lists(here):
    text = "id,key\n" + "".join(f"{number},name{number}\n" for number in range(300))
    (here / "csv/EPIC_100_verb_classes.csv").write_text(text)


def a_class_without_a_name(here):
    (here / "csv/EPIC_100_verb_classes.csv").write_text("id,key\n0,take\n")


def ids_in_other_letters(here):
    rows = pd.read_csv(TRAIN, dtype=str)
    rows["video_id"] = rows["video_id"].str.lower()
    rows["participant_id"] = rows["participant_id"].str.lower()
    rows.to_csv(TRAIN, index=False)
    set_videos(here, subset=True)


def one_id_in_both(here):
    rows = pd.read_csv(TRAIN, dtype=str)
    rows.loc[0, "narration_id"] = pd.read_csv(VAL, dtype=str).loc[0, "narration_id"]
    rows.to_csv(TRAIN, index=False)


def results_on_a_disk_that_is_gone(here):
    os.symlink("/scratch/purged", "results")


def a_file_for_results(here):
    (here / "results").touch()


def set_videos(here, **videos):
    config = yaml.safe_load((here / "config.yaml").read_text())
    configure(here, videos=config["videos"] | videos)


@pytest.mark.parametrize(
    "spoil, said_of_it",
    [
        (
            val_rows_in_train,
            [
                "EPIC_100_train.csv: line ",
                "'P02_102' (5 such rows)",
                "whose split is train in the video sheet",
            ],
        ),
        (swapped_csvs, ["EPIC_100_train.csv: line 2", "take the CSV of train"]),
        (a_page_for_a_csv, ["EPIC_100_train.csv: is a web page"]),
        (a_pointer_for_a_csv, ["EPIC_100_train.csv: is a pointer of git-lfs", "git lfs pull"]),
        (
            a_file_in_two_layouts,
            [
                "P01_01: there are two files, archive/P01/P01_01.MP4 and archive/P01_01.MP4",
                "remove or rename",
            ],
        ),
        (a_file_with_two_endings, ["P01_01: there are two files"]),
        (only_those_of_train, ["no segment of val is left", "of P02, whom `participants:`"]),
        (a_folder_for_a_model, ["csv: is a folder; expected a finished model"]),
        (no_such_model, ["results/modle.pth: no such file"]),
        (
            no_such_recipe,
            ["config/x3d_dmo.py: no such MMEngine config", "did you mean config/x3d_demo.py?"],
        ),
        (a_page_for_a_tail_list, ["EPIC_100_tail_verbs.csv: is a web page"]),
        (swapped_tail_lists, ["EPIC_100_tail_verbs.csv: line 1: column verb missing"]),
        (
            swapped_class_lists,
            ["verb 97 is in it, but `classes: verbs:` is 97", "`evaluate: verb_classes:`"],
        ),
        (a_class_without_a_name, ["EPIC_100_verb_classes.csv: no name for verb"]),
        (
            ids_in_other_letters,
            ["EPIC_100_train.csv: none of its rows has a video of sheet.tsv", "capitals too"],
        ),
        (
            results_on_a_disk_that_is_gone,
            ["results: is a file, or a link to a folder that is gone"],
        ),
        (a_file_for_results, ["results: is a file, or a link"]),
        (one_id_in_both, ["narration_id P02_102_0 is in both"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_with_an_input_is_a_line_that_says_what_to_do(here, spoil, said_of_it):
    assert wrong() == []
    spoil(here)
    for _ in ("read", "as kept"):
        lines = wrong()
        assert any(all(words in line for words in said_of_it) for line in lines), lines


def test_all_that_is_wrong_is_said_at_once(here):
    val_rows_in_train(here)
    a_file_in_two_layouts(here)
    a_page_for_a_tail_list(here)
    assert len(wrong()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("way", ["epic100 run", "snakemake"])
def test_no_run_begins_with_a_wrong_input_and_the_reason_is_on_the_screen(here, way):
    a_page_for_a_tail_list(here)
    if way == "snakemake":
        done = run(here, "-n", "results/scan/P01.tsv", well=False)
    else:
        done = epic100("run", "-n", "--configfile", "config.yaml", cwd=here, well=False)
    assert "EPIC_100_tail_verbs.csv: is a web page" in said(done)
    assert not (here / "results").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line_of_a_run(here):
    (here / KEPT).mkdir(parents=True)
    done = epic100("run", "-n", "--configfile", "config.yaml", cwd=here, well=False)
    (line,) = said(done).splitlines()
    assert f"{KEPT}: not written: " in line


def test_a_model_of_other_classes_or_without_heads_to_fold_is_known_before_the_run(here):
    configure(here, predict={"model": "model.pth"})
    torch.save({"a": torch.zeros(1)}, "model.pth")
    assert "model.pth" in wrong()[0]
    save_model(TrainedModel({}, [(0, 1, 1)], 3, 300, {}, {}), "model.pth")
    assert "model.pth: a model of 3 verbs and 300 nouns, but" in wrong()[0]
    save_model(TrainedModel({}, [(0, 1, 1)], 97, 300, {}, {}), "model.pth")
    assert wrong() == []
    configure(here, predict={"model": "model.pth"}, export={"reduce": "heads"})
    assert "`heads: pair`, which `export: reduce: heads` cannot fold" in wrong()[0]


def test_what_was_read_is_kept_until_a_file_changes(here):
    first = read()
    kept = json.loads((here / KEPT).read_text())
    kept["lines"].append(["note", "annotations", "kept"])
    (here / KEPT).write_text(json.dumps(kept))
    assert Line("note", "annotations", "kept") in read()
    rows = pd.read_csv(TRAIN, dtype=str).iloc[:-1]
    rows.to_csv(TRAIN, index=False)
    changed = read()
    assert Line("note", "annotations", "kept") not in changed and changed != first
    (here / KEPT).write_text("{")
    assert read() == changed


def test_a_film_of_no_row_and_films_of_one_size_are_notes(here):
    shutil.copy("archive/P01/P01_01.MP4", "archive/P01/P01_77.MP4")
    shutil.copy("archive/P02/P02_101.MP4", "archive/P02/P02_102.MP4")
    notes = [line.words for line in read() if line.state == NOTE]
    assert wrong() == [] and len(notes) == 2
    assert "archive/P02/P02_101.MP4 and archive/P02/P02_102.MP4" in notes[0]
    assert "sheet.tsv has no row for 1 of the films: archive/P01/P01_77.MP4" in notes[1]


def a_page_for_a_film(here):
    (here / "archive/P01/P01_01.MP4").write_text("<!DOCTYPE html>\n")


def a_folder_of_frames_for_a_film(here):
    (here / "archive/P01/P01_01.MP4").unlink()
    (here / "archive/P01/P01_01.MP4").mkdir()


def minutes_for_seconds(here):
    rows = pd.read_csv(VAL, dtype=str)
    rows.loc[1:, ["start_timestamp", "stop_timestamp"]] = ["00:01:12.00", "00:01:13.00"]
    rows.to_csv(VAL, index=False)


def the_list_of_test(here):
    text = "participant_id\nP09\nP29\n"
    (here / "csv/EPIC_100_unseen_participant_ids_validation.csv").write_text(text)


def classes_of_epic_55(here):
    text = "id,key\n" + "".join(f"{number},name{number}\n" for number in range(97))
    (here / "csv/EPIC_100_verb_classes.csv").write_text(text)
    configure(here, classes={"verbs": 125, "nouns": 352})


@pytest.mark.parametrize(
    "spoil, said_of_it",
    [
        (classes_of_epic_55, "verb_classes.csv: names 97 of the 125 classes of `classes: verbs:`"),
        (a_page_for_a_film, "or too small for a film: archive/P01/P01_01.MP4; "),
        (a_folder_of_frames_for_a_film, "a folder, not readable by you, or too small for a film: "),
        (
            minutes_for_seconds,
            "EPIC_100_validation.csv: 4 segments begin after the end of their video "
            "by sheet.tsv, such as P02_102_1",
        ),
        (
            the_list_of_test,
            "participant_ids_validation.csv: none of its participants has a segment",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_costs_only_its_own_segments_or_figures_is_a_note(here, spoil, said_of_it):
    spoil(here)
    notes = [line.words for line in read() if line.state == NOTE]
    assert wrong() == [] and len(notes) == 1 and said_of_it in notes[0]


def test_a_link_to_the_same_file_is_not_a_second_file(here):
    os.link(VIDEOS[0].path("archive"), "archive/P01_01.MP4")
    assert wrong() == []


@pytest.mark.slow
def test_a_trimmed_video_is_named_on_the_screen_when_its_scan_ends(here):
    write_video(replace(VIDEOS[0], duration=4.0), VIDEOS[0].path("archive"), seed=2)
    words = ["run", "--cores", "1", "results/scan/P01.tsv", "--configfile", "config.yaml"]
    shown = said(epic100(*words, cwd=here))
    assert "scan P01: WARNING: P01_01: its pictures last " in shown
    assert "`videos: accept: [P01_01]`" in shown


@pytest.mark.slow
def test_a_call_says_in_what_it_differs_from_the_one_that_made_the_results(here):
    target = ["results/segments/val.txt", "--cores", "1"]
    run(here, *target)
    made = json.loads((here / "results/run.json").read_text())
    assert made["configfiles"] == ["config.yaml"]
    assert made["settings"]["videos"] == {"sheet": "sheet.tsv", "root": "archive"}
    assert {TRAIN, VAL} < set(made["inputs"])
    assert "-> " not in said(run(here, "-n", *target))
    configure(here, train={"epochs": 3})
    shown = said(run(here, "-n", *target))
    assert "since the last run into results/: train.epochs (default) -> 3" in shown
    assert "Snakemake cannot tell" not in shown
    shutil.rmtree(here / ".snakemake")
    assert "Snakemake cannot tell" in said(run(here, "-n", *target))
    shown = said(run_snakemake("-n", "results/scan/P01.tsv", "--directory", str(here)))
    assert "results/ was made with --configfile config.yaml, this call has no" in shown
    assert json.loads((here / "results/run.json").read_text()) == made
