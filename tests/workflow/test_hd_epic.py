"""The script and the config of docs/hd-epic.md, on a made-up file of the form of HD-EPIC's."""

import re

import pandas as pd
import pytest
import yaml

from epic100.base.text_table import write_table
from epic100.data.annotations import read_annotations
from epic100.data.official_lists import read_class_names
from epic100.video.sheet import read_sheet
from support.checkout import ROOT, epic100, python, said
from support.tricky_videos import encode

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/hd-epic.md").read_text("utf-8")
SCRIPT, CONFIG = (
    re.search(rf"(?s)```{language}\n(.*?)```", PAGE)[1] for language in ("python", "yaml")
)
# The columns of the official file, in the order of its README. All others have the type object.
FLOATS = ("start_timestamp", "end_timestamp", "narration_timestamp")
COLUMNS = (
    *("unique_narration_id", "participant_id", "video_id", "narration"),
    *("start_timestamp", "end_timestamp", "nouns", "verbs", "pairs", "main_actions"),
    *("verb_classes", "noun_classes", "pair_classes", "main_action_classes", "hands"),
    "narration_timestamp",
)
# Each narration has a video, its start and end, and its main actions as pairs of classes.
NARRATIONS = [
    ("P01-20240101-080000", 1.25, 2.0, [(3, 3)]),
    ("P01-20240101-080000", 1.9, 2.123456, [(0, 13), (1, 42)]),
    ("P01-20240101-080000", 3.0, 4.0, []),
    ("P01-20240101-080000", 4.0, 5.0, [(98, 13)]),
    ("P08-20240102-093000", 59.999, 60.0, [(96, 299)]),
    ("P08-20240102-093000", 3725.5, 3726.999999, [(4, 3)]),
    ("P08-20240102-093000", 3727.0, 3728.0, [(4, 302)]),
]
# The video of each participant is so long. It has few pictures, since nothing decodes them.
SECONDS = {"P01-20240101-080000": 6, "P08-20240102-093000": 3800}


def narration(number, video_id, start, end, main):
    """A row of the official columns, with made-up words."""
    verbs, nouns = ([name for _ in main] for name in ("wipe", "pan"))
    return (
        *(f"{video_id}-{number}", video_id[:3], video_id, "Wipe the pan with the right hand."),
        *(start, end, nouns, verbs, [("wipe", "pan") for _ in main], [("wipe", "pan")]),
        *([verb for verb, _ in main], [noun for _, noun in main], main, main, ["right hand"]),
        start,
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A folder with a pickle, class lists and videos of the form of the official ones."""
    folder = tmp_path_factory.mktemp("hd")
    rows = [narration(number, *row) for number, row in enumerate(NARRATIONS, start=1)]
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS, object))
    table.astype(dict.fromkeys(FLOATS, "float64")).to_pickle(folder / "HD_EPIC_Narrations.pkl")
    for data, verbs, nouns in (("EPIC_100", 97, 300), ("HD_EPIC", 106, 303)):
        for task, count in (("verb", verbs), ("noun", nouns)):
            names = ((i, f"{task}{i}", "['a', 'b']", "leave") for i in range(count))
            write_table(
                folder / f"{data}_{task}_classes.csv",
                ("id", "key", "instances", "category"),
                names,
                delimiter=",",
            )
    for video_id, seconds in SECONDS.items():
        film = folder / f"HD-EPIC/Videos/{video_id[:3]}/{video_id}.mp4"
        film.parent.mkdir(parents=True)
        encode(film, 3, times=[0, 1000, seconds * 30000])
    return folder


def convert(folder, script=SCRIPT, config=CONFIG):
    """Run the script of the page, and check its files as a run does; return the segments."""
    (folder / "hd_epic.py").write_text(script)
    (folder / "hd.yaml").write_text(config)
    python("hd_epic.py", cwd=folder)
    screen = said(
        epic100("run", "-n", "results/clean/train.txt", "--configfile", "hd.yaml", cwd=folder)
    )
    assert "scan        2" in screen
    classes = yaml.safe_load(config).get("classes", {"verbs": 97, "nouns": 300})
    videos = {video.video_id: video for video in read_sheet(folder / "sheet.tsv")}
    return {
        split: read_annotations(
            folder / f"{split}.csv",
            videos,
            split=split,
            classes=classes,
        )
        for split in ("train", "val")
    }


def labels(table):
    """The number, verb and noun of each segment."""
    numbers = table["narration_id"].str.split("-").str[-1].astype(int)
    return list(zip(numbers, table["verb"], table["noun"], strict=True))


def test_the_script_is_short():
    assert len(SCRIPT.splitlines()) <= 20


def test_narrations_become_segments_of_classes_that_an_epic_100_model_knows(release):
    tables = convert(release)
    # Number 3 has no main action, and numbers 4 and 7 have a class that EPIC-100 lacks.
    assert labels(tables["train"]) == [(1, 3, 3), (2, 0, 13)]
    assert labels(tables["val"]) == [(5, 96, 299), (6, 4, 3)]
    for table in tables.values():
        numbers = [number for number, *_ in labels(table)]
        seconds = [list(NARRATIONS[number - 1][1:3]) for number in numbers]
        assert table[["start_seconds", "stop_seconds"]].to_numpy().tolist() == seconds
        assert set(table["video_id"]) <= set(SECONDS)
    sheet = read_sheet(release / "sheet.tsv")
    assert [(v.video_id, v.participant_id, v.split, v.fps) for v in sheet] == [
        ("P01-20240101-080000", "P01", "train", 30),
        ("P08-20240102-093000", "P08", "val", 30),
    ]
    assert all(abs(video.duration - SECONDS[video.video_id]) < 0.2 for video in sheet)


def test_all_classes_of_hd_epic_are_kept_as_the_page_says(release):
    said_on_page = " ".join(PAGE.split())
    (counts,) = re.findall(r"`VERBS, NOUNS = (.+?)`", said_on_page)
    (classes,) = re.findall(r"`(classes: {.+?})`", said_on_page)
    script = SCRIPT.replace("97, 300", counts)
    tables = convert(release, script, CONFIG.replace("EPIC_100", "HD_EPIC") + classes)
    assert labels(tables["train"]) == [(1, 3, 3), (2, 0, 13), (4, 98, 13)]
    assert labels(tables["val"]) == [(5, 96, 299), (6, 4, 3), (7, 4, 302)]
    lists = yaml.safe_load((release / "hd.yaml").read_text())["evaluate"]
    names = read_class_names([], {key: release / path for key, path in lists.items()})
    assert names("verb", 105) == "verb105" and names("noun", 302) == "noun302"
