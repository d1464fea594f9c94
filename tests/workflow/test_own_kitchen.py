"""What docs/own-kitchen.md shows is typed here: other names, classes and columns than EPIC's."""

import csv
import re
import shlex

import pytest

from epic100.base.text_table import write_table
from epic100.minikitchen import write_annotations, write_video
from epic100.minikitchen.kitchen import NOUNS, VERBS
from epic100.video.sheet import Video
from support.checkout import ROOT, epic100, said
from support.lab import write_sheet

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/own-kitchen.md").read_text("utf-8")
FILMS = (
    Video("mina_1", "mina", "train", 25.0, 12.0),
    Video("ben_2", "ben", "train", 30.0, 12.0),
    Video("ben_1", "ben", "val", 30.0, 12.0),
)
COLUMNS = re.search(r"`(narration_id [a-z_ ]+)`", PAGE)[1].split()


def own_classes(row, verbs, nouns):
    """A row of the mini kitchen with classes counted from 0 on, in the columns of the page."""
    own = {"verb_class": verbs[row["verb_class"]], "noun_class": nouns[row["noun_class"]]}
    return [(row | own)[name] for name in COLUMNS]


@pytest.fixture
def kitchen(tmp_path):
    write_sheet(FILMS, tmp_path)
    write_annotations(FILMS, tmp_path, seed=3)
    verbs, nouns = ({str(c): n for n, c in enumerate(names)} for names in (VERBS, NOUNS))
    for file, name in (("EPIC_100_train.csv", "train"), ("EPIC_100_validation.csv", "val")):
        with (tmp_path / file).open(newline="") as rows:
            own = [own_classes(row, verbs, nouns) for row in csv.DictReader(rows)]
        write_table(tmp_path / f"{name}.csv", COLUMNS, own, delimiter=",")
    for names, file in ((VERBS, "verbs.csv"), (NOUNS, "nouns.csv")):
        write_table(tmp_path / file, ("id", "key"), enumerate(names.values()), delimiter=",")
    for path in tmp_path.glob("EPIC*"):
        path.unlink()
    for video in FILMS:
        write_video(video, video.path(tmp_path / "films"), seed=3)
    (tmp_path / "mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.S)[1])
    return tmp_path


def test_films_of_any_kitchen_go_from_six_columns_and_a_sheet_to_a_timeline(kitchen):
    typed = "".join(re.findall(r"```console\n(.*?)```", PAGE, re.S)).split("$ epic100 ")[1:]
    assert len(typed) == 3
    for command, *shown in (each.splitlines() for each in typed):
        screen = said(epic100(*shlex.split(command), cwd=kitchen)).splitlines()
        assert {*shown} - {"..."} <= {*screen}, screen
    rows = (kitchen / "timeline/ben_1.tsv").read_text().splitlines()
    assert rows[0].startswith("start\tstop\twhat")
    names = {*VERBS.values(), *NOUNS.values()}
    assert all(set(row.split("\t")[5:7]) <= names for row in rows[1:] if "action" in row)
