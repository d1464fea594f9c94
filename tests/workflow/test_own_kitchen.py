"""The walks of docs/own-kitchen.md and docs/data.md, typed here: the screen is as they show it."""

import json
import re
import shlex

import pytest

from epic100.base.text_table import write_table
from epic100.minikitchen import write_annotations, write_video
from epic100.minikitchen.kitchen import NOUNS, VERBS
from epic100.video.sheet import Video
from support.checkout import ROOT, epic100, rows_of, said
from support.lab import write_sheet

pytestmark = pytest.mark.slow

OWN_KITCHEN = (ROOT / "docs/own-kitchen.md").read_text("utf-8")
FILMS = (
    Video("mina_1", "mina", "train", 25.0, 12.0),
    Video("ben_2", "ben", "train", 30.0, 12.0),
    Video("ben_1", "ben", "val", 30.0, 12.0),
)
# The page lists the columns as `narration_id participant_id ...`.
COLUMNS = re.search(r"`(narration_id [a-z_ ]+)`", OWN_KITCHEN)[1].split()


def config_of(page):
    """The first block of YAML in a page."""
    return re.search(r"(?s)```yaml\n(.*?)```", page)[1]


def walk(page):
    """The commands `epic100 ...` that a page types, each with the lines that it shows after it."""
    consoles = "".join(re.findall(r"(?s)```console\n(.*?)```", page))
    for typed in consoles.split("$ epic100 ")[1:]:
        command, *shown = typed.splitlines()
        yield shlex.split(command), set(shown) - {"..."}


def own_classes(row, verbs, nouns):
    """A row of the mini kitchen with classes counted from 0 on, in the columns of the page."""
    own = {"verb_class": verbs[row["verb_class"]], "noun_class": nouns[row["noun_class"]]}
    return [(row | own)[name] for name in COLUMNS]


@pytest.fixture
def kitchen(tmp_path):
    """A folder with films, annotations, classes and a config, as the page describes them."""
    write_sheet(FILMS, tmp_path)
    write_annotations(FILMS, tmp_path / "official", seed=3)
    verbs, nouns = ({str(c): n for n, c in enumerate(names)} for names in (VERBS, NOUNS))
    for file, name in (("EPIC_100_train.csv", "train"), ("EPIC_100_validation.csv", "val")):
        official = rows_of(tmp_path / "official" / file, ",")
        own = (own_classes(row, verbs, nouns) for row in official)
        write_table(tmp_path / f"{name}.csv", COLUMNS, own, delimiter=",")
    for names, file in ((VERBS, "verbs.csv"), (NOUNS, "nouns.csv")):
        write_table(tmp_path / file, ("id", "key"), enumerate(names.values()), delimiter=",")
    for video in FILMS:
        write_video(video, video.path(tmp_path / "films"), seed=3)
    (tmp_path / "mine.yaml").write_text(config_of(OWN_KITCHEN))
    return tmp_path


def test_films_of_any_kitchen_go_from_six_columns_and_a_sheet_to_a_timeline(kitchen):
    for words, shown in walk(OWN_KITCHEN):
        screen = said(epic100(*words, cwd=kitchen)).splitlines()
        assert shown <= set(screen), screen
    metrics = json.loads((kitchen / "results/metrics.json").read_text())
    assert metrics["data"] == "the kitchen of a lab"
    rows = (kitchen / "timeline/ben_1.tsv").read_text().splitlines()
    assert rows[0].startswith("start\tstop\twhat")
    # Columns 6 and 7 have the names of verb and noun.
    names = {*VERBS.values(), *NOUNS.values()}
    assert all(set(row.split("\t")[5:7]) <= names for row in rows[1:] if "action" in row)


def shape(line):
    """A line without the numbers that differ from run to run."""
    return re.sub(r"[\d.:]+", "0", line)


def test_the_walk_with_a_part_of_the_archive_is_as_the_page_shows_it(archive, tmp_path):
    page = (ROOT / "docs/data.md").read_text("utf-8")
    part = page[page.index("## A part of the archive") : page.index("## To fetch the videos")]
    lab = tmp_path / "lab"
    for video in (archive / "archive").rglob("*.MP4"):
        place = lab / "EPIC-KITCHENS" / video.parent.name / "videos" / video.name
        place.parent.mkdir(parents=True, exist_ok=True)
        video.rename(place)
    (lab / "EPIC-KITCHENS/P02/videos/P02_101.MP4").unlink()
    (archive / "csv").rename(lab / "annotations")
    (archive / "sheet.tsv").rename(lab / "sheet.tsv")
    (lab / "mine.yaml").write_text(config_of(part))
    for words, shown in walk(part):
        screen = said(epic100(*words, cwd=lab))
        assert set(map(shape, shown)) <= set(map(shape, screen.splitlines())), screen
    assert (lab / "results/submission.pt").is_file()
    dropped = (lab / "results/clean/dropped.tsv").read_text().splitlines()[1:]
    assert len(dropped) == 3 and all(line.endswith("video missing") for line in dropped)
