"""The walks of four pages, typed here: films of any kitchen, HD-EPIC, PBS, part of the archive."""

import json
import os
import re
import shlex

import pandas as pd
import pytest
import yaml

from epic100.base.text_table import write_table
from epic100.data.annotations import read_annotations
from epic100.data.official_lists import read_class_names
from epic100.minikitchen import write_annotations, write_video
from epic100.minikitchen.kitchen import NOUNS, VERBS
from epic100.video.sheet import Video, read_sheet
from support.checkout import ROOT, epic100, python, rows_of, said
from support.lab import write_sheet
from support.slurm_calls import put_before
from support.tricky_videos import encode

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


def test_any_kitchen_s_films_become_a_timeline(kitchen):
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


def test_a_partial_archive_runs_as_documented(archive, tmp_path):
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


HD_EPIC = (ROOT / "docs/hd-epic.md").read_text("utf-8")
SCRIPT, CONFIG = (
    re.search(rf"(?s)```{language}\n(.*?)```", HD_EPIC)[1] for language in ("python", "yaml")
)
# The columns of the official file, in the order of its README. All others have the type object.
FLOATS = ("start_timestamp", "end_timestamp", "narration_timestamp")
HD_COLUMNS = (
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
    table = pd.DataFrame(rows, columns=HD_COLUMNS).astype(dict.fromkeys(HD_COLUMNS, object))
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


def test_narrations_become_epic_100_classes(release):
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


def test_hd_epic_s_classes_are_all_kept(release):
    said_on_page = " ".join(HD_EPIC.split())
    (counts,) = re.findall(r"`VERBS, NOUNS = (.+?)`", said_on_page)
    (classes,) = re.findall(r"`(classes: {.+?})`", said_on_page)
    script = SCRIPT.replace("97, 300", counts)
    tables = convert(release, script, CONFIG.replace("EPIC_100", "HD_EPIC") + classes)
    assert labels(tables["train"]) == [(1, 3, 3), (2, 0, 13), (4, 98, 13)]
    assert labels(tables["val"]) == [(5, 96, 299), (6, 4, 3), (7, 4, 302)]
    lists = yaml.safe_load((release / "hd.yaml").read_text())["evaluate"]
    names = read_class_names([], {key: release / path for key, path in lists.items()})
    assert names("verb", 105) == "verb105" and names("noun", 302) == "noun302"


OTHER_CLUSTERS = (ROOT / "docs/other-clusters.md").read_text()
# These programs stand for PBS's: `qsub` starts the script of a job in the background, and writes
# its exit status to a file; `qstat` reads it.
QSUB = """script="${@: -1}"; number=$(ls {jobs} | wc -l); echo "$@" > {jobs}/$number
(bash "$script" > {jobs}/$number.out 2>&1; echo $? > {ends}/$number) </dev/null >/dev/null 2>&1 &
echo "$number.pbs" """
QSTAT = """number="${3%.pbs}"; echo "Job Id: $3"
if [ -e {ends}/$number ]
then echo "    job_state = F"; echo "    Exit_status = $(cat {ends}/$number)"
else echo "    job_state = R"; fi"""


def test_the_page_s_profile_keeps_rules_threads(archive, tmp_path):
    blocks = re.findall(r"```(yaml|sh)\n(.*?)```", OTHER_CLUSTERS, re.DOTALL)
    places = {name: tmp_path / name for name in ("jobs", "ends", "bin", "pbs")}
    for place in places.values():
        place.mkdir()
    (tmp_path / "pbs/config.yaml").write_text(
        next(text for kind, text in blocks if kind == "yaml").replace("pbs/", f"{tmp_path}/pbs/")
    )
    (tmp_path / "pbs/status.sh").write_text(blocks[-1][1])
    (tmp_path / "pbs/status.sh").chmod(0o755)
    for name, script in (("qsub", QSUB), ("qstat", QSTAT)):
        for key, place in places.items():
            script = script.replace(f"{{{key}}}", str(place))
        env = put_before(name, script, tmp_path / "bin")
    quick = ("--seconds-between-status-checks", "1", "--latency-wait", "5")
    python(
        "-m",
        "snakemake",
        "results/scan/P02.tsv",
        "--profile",
        str(tmp_path / "pbs"),
        *quick,
        "--directory",
        archive,
        "--configfile",
        archive / "config.yaml",
        env=os.environ | env,
    )
    # Each job has a file with its number as name, which has the options of qsub.
    (options,) = [path.read_text() for path in places["jobs"].iterdir() if not path.suffix]
    assert "-N scan " in options and "select=1:ncpus=4:mem=" in options and ":ngpus=0 " in options
    # The walltime is in seconds, and the scan asks for ten minutes.
    assert "-l walltime=600 " in options
    assert (archive / "results/scan/P02.tsv").exists()
