"""The mistakes that users make with files and folders, and what is said of each.

A row is a mistake in the archive of `support.archive`. It is found by `epic100 check`, by every
`epic100 run` and by plain `snakemake`, since all three begin with the same reading.
"""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.cli.input_videos import NOTE, OK, Line, find_archive
from epic100.cli.inputs import InputFiles, read_inputs
from epic100.model.model_file import TrainedModel, save_model
from epic100.settings.config import layered_settings
from support.archive import (
    FILM,
    LFS_POINTER,
    TAIL_VERBS,
    TRAIN,
    UNSEEN,
    VAL,
    VERB_CLASSES,
    WEB_PAGE,
    configure,
    edit,
)
from support.checkout import ROOT, epic100, run_snakemake, said

SHEET = Path("sheet.tsv")
OF_VAL = Path("archive/P02/P02_102.MP4")


@pytest.fixture(autouse=True)
def here(archive, monkeypatch) -> Path:
    """The archive as the working folder, which each row spoils."""
    monkeypatch.chdir(archive)
    return archive


def read_lines() -> list[Line]:
    """Read the inputs in the working folder; return the lines without those of what is right."""
    config = layered_settings(["config.yaml"])
    read = read_inputs(config, InputFiles.of(config), find_archive(config))
    return [line for line in read if line.state != OK]


def lines() -> list[str]:
    """What is said of the inputs in the working folder."""
    try:
        return [line.words for line in read_lines()]
    except EpicError as error:
        return str(error).splitlines()


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def swap_start_and_stop(rows: slice) -> None:
    """Swap the two times in some rows of train."""
    table = pd.read_csv(TRAIN, dtype=str)
    columns = ["start_timestamp", "stop_timestamp"]
    part = table.loc[table.index[rows], columns].to_numpy()
    table.loc[table.index[rows], columns] = part[:, ::-1]
    table.to_csv(TRAIN, index=False)


def write_minutes_as_seconds() -> None:
    """Move all times of val: minutes and seconds become hours and minutes."""
    names = ("start_timestamp", "stop_timestamp")
    edit(VAL, **{name: lambda rows, n=name: rows[n].str[3:8] + ":30" for name in names})
    edit(VAL, stop_timestamp=lambda rows: rows["start_timestamp"].str[:6] + "59")


def write_durations_in_ms() -> None:
    """Write the durations of the sheet in milliseconds."""
    replace(SHEET, "\t8.008", "\t8008")
    replace(SHEET, "\t8.0", "\t8000.0")


def put_in_place(path: Path, make: Callable[[Path], None]) -> None:
    """Remove a file, and make something else in its place."""
    path.unlink()
    make(path)


def rename_folder() -> None:
    """Write the participant's folder and its films with a capital where the sheet has none."""
    replace(SHEET, "P01_01\tP01", "ben_1\tben")
    Path("archive/P01").rename("archive/Ben")
    Path("archive/Ben/P01_01.MP4").rename("archive/Ben/ben_1.MP4")
    replace(TRAIN, "P01", "ben")
    edit(
        TRAIN,
        video_id=lambda rows: rows["video_id"].str.replace("ben_01", "ben_1"),
    )


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
    save_model(TrainedModel({}, [(0, 1, 1)], verbs, 300, {}, {}), "model.pth")
    configure(Path(), predict={"model": "model.pth"}, **changes)


def use_a_file_that_is_no_model() -> None:
    use_model()
    torch.save({"a": torch.zeros(1)}, "model.pth")


def add_val_to_train() -> None:
    both = [pd.read_csv(path, dtype=str) for path in (TRAIN, VAL)]
    pd.concat(both).to_csv(TRAIN, index=False)


def list_classes(count: int) -> None:
    """Write a list of verb classes with this many names."""
    names = "".join(f"{number},name{number}\n" for number in range(count))
    VERB_CLASSES.write_text(f"id,key\n{names}")


# A row is what is done to the archive, and what is in a line that is said then.
MISTAKES = [
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
        ["EPIC_100_train.csv: line 2 ", "'p01_01' (6 such rows); expected P01_01, as in the"],
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
    pytest.param(
        partial(swap_start_and_stop, slice(None)),
        ["EPIC_100_train.csv: line 2 ", "such rows)", "are swapped: exchange their names"],
        id="start and stop swapped",
    ),
    pytest.param(
        partial(swap_start_and_stop, slice(1)),
        ["column stop_timestamp", "a time after start_timestamp; correct the line"],
        id="start and stop swapped in one line",
    ),
    pytest.param(
        partial(edit, TRAIN, video_id=lambda rows: rows["video_id"].str.lower()),
        ["EPIC_100_train.csv: line 2 ", "'p01_01' (", "expected P01_01, as in the video sheet"],
        id="ids in lower case",
    ),
    pytest.param(
        write_minutes_as_seconds,
        ["EPIC_100_validation.csv: 5 of 5 segments begin after", "no minutes for seconds"],
        id="minutes as seconds",
    ),
    pytest.param(
        write_durations_in_ms,
        ["sheet.tsv: durations are ", "expected seconds, no milliseconds"],
        id="durations in milliseconds",
    ),
    pytest.param(
        partial(replace, SHEET, "8.008", "8008000"),
        ["sheet.tsv: line 2: duration is '8008000'; expected a positive number of seconds"],
        id="a duration of days",
    ),
    pytest.param(
        lambda: SHEET.write_text(SHEET.read_text().replace("\t", ";")),
        ["sheet.tsv: line 1: ", "found: semicolons between the fields: save it with tabs"],
        id="a sheet with semicolons",
    ),
    pytest.param(
        lambda: SHEET.write_text(SHEET.read_text().replace("\t", ",")),
        ["sheet.tsv: line 1: ", "found: commas between the fields: save it with tabs"],
        id="a sheet with commas",
    ),
    pytest.param(
        lambda: VAL.write_text(VAL.read_text().replace(",", ";")),
        ["validation.csv: line 1: ", "found: semicolons between the fields: save it with com"],
        id="a CSV with semicolons",
    ),
    pytest.param(
        partial(TRAIN.write_text, f"\n\n  {WEB_PAGE}"),
        ["EPIC_100_train.csv: is a web page: fetch the file itself"],
        id="a web page with blank first lines",
    ),
    pytest.param(
        lambda: pd.read_csv(TRAIN).to_pickle(TRAIN),
        ["EPIC_100_train.csv: not UTF-8 text (a pickle: take the file of this name that ends"],
        id="a pickle for a CSV",
    ),
    pytest.param(
        partial(TRAIN.write_bytes, b""),
        ["EPIC_100_train.csv: line 1: ", "(found: nothing, the file is empty)"],
        id="an empty CSV",
    ),
    pytest.param(
        partial(put_in_place, TRAIN, Path.mkdir),
        ["EPIC_100_train.csv: is a folder; expected the file of `annotations: train:`"],
        id="a folder for a CSV",
    ),
    pytest.param(
        partial(put_in_place, TAIL_VERBS, Path.mkdir),
        ["EPIC_100_tail_verbs.csv: is a folder; expected the file of `evaluate: tail_verbs:`"],
        id="a folder for a list",
    ),
    pytest.param(
        partial(put_in_place, SHEET, Path.mkdir),
        ["sheet.tsv: is a folder; expected a video sheet (`videos: sheet:`"],
        id="a folder for the sheet",
    ),
    pytest.param(
        partial(configure, Path(), train={"config": "csv"}),
        ["csv: is no MMEngine config; expected the .py file of `train: config:`"],
        id="a folder for a recipe",
    ),
    pytest.param(
        partial(configure, Path(), train={"config": "config.yaml"}),
        ["train.config is 'config.yaml'; expected an MMEngine config, NAME.py"],
        id="YAML for a recipe",
    ),
    pytest.param(
        lambda: (use_model(), Path("model.pth").write_bytes(b"")),
        ["model.pth: not a model that this workflow wrote (it is empty)", "train again"],
        id="an empty model",
    ),
    pytest.param(
        rename_folder,
        ["archive: 1 of its files ", "sheet.tsv (Ben/ben_1.MP4: the sheet has ben)"],
        id="another capital in a folder",
    ),
    pytest.param(
        partial(FILM.rename, "archive/P01/p01_01.MP4"),
        ["(P01/p01_01.MP4: the sheet has P01_01)"],
        id="another capital in a film",
    ),
    pytest.param(
        partial(FILM.rename, "archive/P01_01.MP4.crdownload"),
        ["(P01_01.MP4.crdownload: an unfinished download)", "copy them again"],
        id="an unfinished download of a browser",
    ),
    pytest.param(
        partial(FILM.rename, "archive/P01/P01_01.MP4.part"),
        ["(P01/P01_01.MP4.part: an unfinished download)"],
        id="an unfinished download",
    ),
    pytest.param(
        partial(put_in_place, FILM, lambda film: film.symlink_to("/scratch/purged.MP4")),
        ["(P01/P01_01.MP4: a link to a file that is gone)"],
        id="a broken link",
    ),
    pytest.param(
        partial(put_in_place, FILM, lambda film: film.symlink_to(film.name)),
        ["(P01/P01_01.MP4: a link to itself)"],
        id="a link to itself",
    ),
    pytest.param(
        lambda: [shutil.copy(FILM, f"archive/P01/extra_{n}.MP4") for n in range(9)],
        ["archive: 9 of its files are used by no row", "extra_2.MP4: ", "; and 6 more)"],
        id="many films without a row",
    ),
    pytest.param(
        OF_VAL.unlink,
        ["archive: none of the 1 videos of val is there, such as P02_102", "subset: true`"],
        id="no video of val",
    ),
]


@pytest.mark.parametrize("spoil, texts", MISTAKES)
def test_a_mistake_is_a_line_with_a_remedy(spoil, texts):
    spoil()
    first = lines()
    assert any(all(text in line for text in texts) for line in first), first
    assert lines() == first, "the second reading repeats the stored lines"


CHECK, RUN = partial(epic100, "check"), partial(epic100, "run", "-n")
SNAKEMAKE = partial(run_snakemake, "-n", "-s", str(ROOT / "Snakefile"))
ROW_OF_ID = {row.id: row.values for row in MISTAKES}


@pytest.mark.slow
@pytest.mark.parametrize(
    "program, mistake",
    [
        *((CHECK, "YAML for a recipe"), (SNAKEMAKE, "YAML for a recipe")),
        *((CHECK, "a sheet with commas"), (RUN, "a sheet with commas")),
        *((CHECK, "rows of val in train"), (SNAKEMAKE, "rows of val in train")),
        *((CHECK, "no video of val"), (RUN, "no video of val")),
        (SNAKEMAKE, "another capital in a film"),
    ],
)
def test_every_program_says_the_same_line(program, mistake, here):
    spoil, texts = ROW_OF_ID[mistake]
    spoil()
    screen = said(program("--configfile", "config.yaml", cwd=here, well=None))
    assert any(all(text in line for text in texts) for line in screen.splitlines()), screen
    assert "Traceback (most recent call last)" not in screen
    assert not Path("results").exists()


def test_all_errors_are_reported_at_once():
    assert lines() == []
    add_val_to_train()
    shutil.copy(FILM, "archive/P01_01.MP4")
    TAIL_VERBS.write_text(WEB_PAGE)
    assert len(lines()) == 3


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
            partial(put_in_place, FILM, Path.mkdir),
            "a folder, not readable by you, or too small for a film: ",
            id="a folder for a film",
        ),
        pytest.param(
            partial(shutil.copy, FILM, "archive/P01/P01_77.MP4"),
            "used by no row of sheet.tsv (P01/P01_77.MP4: the sheet has P01_01): ",
            id="a film that the sheet does not list",
        ),
        pytest.param(
            partial(shutil.copy, "archive/P02/P02_101.MP4", "archive/P02/P02_102.MP4"),
            "archive/P02/P02_101.MP4 and archive/P02/P02_102.MP4",
            id="films of one size",
        ),
        pytest.param(
            # The video lasts 8 seconds, and the first three of its five segments stay as it is.
            lambda: edit(
                VAL,
                start_timestamp=lambda rows: rows["start_timestamp"].where(
                    rows.index < 3, "00:01:12.00"
                ),
                stop_timestamp=lambda rows: rows["stop_timestamp"].where(
                    rows.index < 3, "00:01:13.00"
                ),
            ),
            "EPIC_100_validation.csv: 2 of 5 segments begin after the end of their video "
            "by sheet.tsv, such as P02_102_3",
            id="minutes for seconds",
        ),
        pytest.param(
            partial(UNSEEN.write_text, "participant_id\nP09\nP29\n"),
            "participant_ids_validation.csv: none of its participants has a segment",
            id="the unseen participants of test",
        ),
    ],
)
def test_an_error_about_an_extra_is_a_note(spoil, text):
    spoil()
    (line,) = read_lines()
    assert text in line.words and line.state == NOTE
