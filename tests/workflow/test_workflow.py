"""The DAG as a user meets it: what is planned, and what stops a run before its first job."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from epic100.base.text_table import write_table
from epic100.data.downloads import NAMES
from epic100.minikitchen import write_annotations
from epic100.model.model_file import TrainedModel, save_model
from epic100.settings.config import read_settings
from epic100.video.sheet import Video, read_sheet
from support.archive import jobs, said
from support.checkout import CLASSES, ROOT, run_snakemake

pytestmark = pytest.mark.slow

OFFICIAL = read_sheet(ROOT / "config/videos.tsv")


# Only the first seconds of a longer video have segments, so that 700 videos take a second.
ANNOTATED_SECONDS = 8.0


def write_official_files(videos: Iterable[Video], folder: Path) -> None:
    """Write the official CSVs: segments of these videos, lists, and 97 verbs and 300 nouns."""
    starts = [replace(video, duration=min(video.duration, ANNOTATED_SECONDS)) for video in videos]
    write_annotations(starts, folder, seed=1)
    for task in ("verb", "noun"):
        names = [(number, f"{task}{number}") for number in range(CLASSES[f"{task}s"])]
        write_table(folder / NAMES[f"{task}_classes"], ("id", "key"), names, delimiter=",")


def first_videos(participant, number):
    """The first so many videos of a participant in the official sheet."""
    return [video for video in OFFICIAL if video.participant_id == participant][:number]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The official names, with a segment of each video, and two finished models; to be copied."""
    folder = tmp_path_factory.mktemp("official")
    write_official_files(OFFICIAL, folder / "annotations")
    for number, name in enumerate(("a.pth", "b.pth")):
        weights = {"weight": torch.full((1,), float(number))}
        model = TrainedModel(
            weights, [(0, 1, 1)], num_verbs=97, num_nouns=300, config={}, trained_on={}
        )
        save_model(model, folder / name)
    return folder


@pytest.fixture
def folder(official, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(official, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def partial(folder):
    """The official names, two finished models, and 13 of the official videos: of P04 and P22."""
    for video in first_videos("P04", 9) + first_videos("P22", 4):
        path = video.path(folder / "videos")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def dry_run(folder, *words: str, **how):
    """Call a dry run in the folder."""
    return run_snakemake("-n", "--directory", str(folder), *words, **how)


def plan(folder, *words: str):
    """The jobs of a dry run, and its whole output."""
    done = dry_run(folder, *words)
    return jobs(done), said(done)


# By default, a decoder may take 3072 MiB; 0 means no limit, and any request is enough.
@pytest.mark.parametrize("mib", [0, 3072, 5000])
def test_a_scan_asks_for_four_decoders_memory(mib):
    """Otherwise the kernel kills the job before a decoder fails that takes too much."""
    rules = (ROOT / "rules/inputs.smk").read_text("utf-8")
    (function,) = re.findall(r"(?ms)^def decoder_memory.*?(?=^\S)", rules)
    # The function is run by itself, with the only name of the rules that it reads.
    variables = {"CONFIG": read_settings({"scan": {"memory_mib": mib}})}
    exec(function, variables)
    assert variables["decoder_memory"]({}, threads=4) >= 4 * mib + 1000
    for rule in ("scan", "proxy", "browse"):
        assert "mem_mb=decoder_memory," in (ROOT / f"rules/{rule}.smk").read_text("utf-8")


def boards(text: str) -> dict[str, str]:
    """The split of each submission, by the kind of file."""
    submissions = re.findall(r"Submission of (\w+)\nReason: .*?submission\.(\w+)", text)
    return {kind: split for split, kind in submissions}


def module(config, names="", source=f'"{ROOT}/Snakefile"'):
    """A Snakefile that uses this workflow, in the form that snakedeploy 0.17.1 writes."""
    return (
        f'configfile: "{ROOT}/config/{config}"\n'
        "module epic100:\n"
        f"    snakefile: {source}\n"
        "    config: config\n"
        f"use rule * from epic100{names}\n"
    )


def test_the_official_sheet_makes_a_whole_dag(folder):
    planned, text = plan(
        folder, "all", "--profile", "profiles/vsc", "--printshellcmds", "--verbose"
    )
    # The 700 official videos are of 37 participants and three splits; val and test are predicted.
    assert len(OFFICIAL) == 700
    expected = {"scan": 37, "annotate": 3, "predict": 2, "export": 2}
    expected |= {"clean": 1, "weights": 1, "train": 1}
    assert {rule: planned[rule] for rule in expected} == expected
    assert boards(text) == {"pt": "val", "zip": "test"}
    for words in (
        "videos: no such folder; expected {participant}/{video}.MP4, {participant}/videos/",
        "Fetch the start weights https://download.openmmlab.com/mmaction/v1.0/",
        "Train on results/clean/train.txt",
        "from weights/download.openmmlab.com/",
        "Predict val",
        "Predict test",
    ):
        assert words in text, words


SWEEP = re.search(
    r"(?s)```yaml\n(sweep:.*?)```", (ROOT / "docs/results.md").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    "videos, words, planned, submissions",
    [
        (
            "partial",
            ["results/submission.zip", "results/videos.ok", "--configfile", "config/trainval.yaml"],
            {"predict": 1, "export": 1, "train": 1, "trainval": 1, "scan": 37, "videos_ok": 1},
            {"zip": "test"},
        ),
        (
            "partial",
            ["results/submission.zip", "results/submission.pt", "--config", "export={split: val}"]
            + ["participants={include: [P22]}"],
            {"predict": 1, "export": 2, "train": 1, "scan": 1},
            {"pt": "val", "zip": "val"},
        ),
        # Without any video on disk, all three participants of the config are planned. The sweep of
        # the page has six runs.
        (
            "folder",
            ["--configfile", "{folder}/sweep.yaml"],
            {"predict": 6, "export": 0, "train": 6, "scan": 3, "evaluate": 6, "compare": 1},
            {},
        ),
        # The report on a model from elsewhere trains none for its curves.
        (
            "folder",
            ["results/report.html", "--config", "predict={model: a.pth}"],
            {"report": 1, "figures_results": 1, "train": 0, "figures_training": 0},
            {"zip": "test"},
        ),
        # All four videos of P22 are of val.
        ("partial", ["results/detections.json"], {"timeline": 4, "detections": 1, "train": 1}, {}),
    ],
    ids=[
        *("test board with train and val", "both boards with val", "sweep", "model from elsewhere"),
        "detections",
    ],
)
def test_a_target_and_a_config_plan_these_jobs(request, videos, words, planned, submissions):
    folder = request.getfixturevalue(videos)
    (folder / "sweep.yaml").write_text(SWEEP[1] + "participants: {include: [P04, P22, P01]}\n")
    numbers, text = plan(folder, *(word.replace("{folder}", str(folder)) for word in words))
    assert {rule: numbers.get(rule, 0) for rule in planned} == planned
    assert boards(text) == submissions


def test_thirteen_of_700_videos_are_two_scans(partial):
    done = dry_run(partial, "results/clean/train.txt", "--logger", "epic100")
    first, *counts = said(done)[said(done).index("videos: ") :].splitlines()
    words = "videos: 13 of the 700 videos of the sheet are there"
    assert first == f"{words}; `epic100 check` lists them by participant"
    assert len(said(done).splitlines()) <= 9 and counts[0] == "6 jobs would run:"
    assert {
        "  scan        2  no result yet: P04 P22",
        "  annotate    3  no result yet: test train val",
        "  clean       1  no result yet",
        "Nothing was run. Each job with its files: --verbose",
    } <= set(counts)


def test_the_page_waits_for_a_requested_timeline(partial):
    timeline = f"results/timeline/{next(v.video_id for v in OFFICIAL if v.split == 'val')}"
    targets = ("results/browse/index.html", f"{timeline}.vtt")
    graph = dry_run(partial, *targets, "--rulegraph").stdout
    rules = {name: number for number, name in re.findall(r'(\d+)\[label = "(\w+)"', graph)}
    assert f"{rules['timeline']} -> {rules['browse']}\n" in graph


def test_the_catalog_s_snakefile_draws_everything(tmp_path):
    words = ("--rulegraph", "--snakefile", "workflow/Snakefile", "--directory", str(tmp_path))
    done = run_snakemake(*words, "--configfile", "config/demo.yaml")
    assert done.stdout.startswith("digraph")
    for rule in ("annotate", "scan", "clean", "train", "predict", "export"):
        assert rule in done.stdout
    assert "warning" not in said(done).lower()


TWO_MODELS = "predict: {models: [a.pth, b.pth]}"
ONE_MODEL = "are made with one model, and the config has 2 in `predict: models:`"


@pytest.mark.parametrize(
    "target, config, words",
    [
        ("all", "videos: {sheet: nowhere.tsv}", "nowhere.tsv: no such file"),
        ("all", "participants: {exclude: [P2]}", "participants.exclude names P2"),
        ("all", "train: {load_from: null}", "set `train: from_scratch: true`"),
        ("results/model.pth", "run: b", "did you mean results/runs/b/model.pth?"),
        (
            "results/segments/test.txt",
            "annotations: {test: null}",
            "in `annotations:`, has no split test",
        ),
        ("results/scan/P99.tsv", "", "has no participant P99; did you mean P"),
        ("results/features/P40.tsv", "", "has no participant P40; did you mean P"),
        ("results/timeline/P01_99.tsv", "", "has no video P01_99; did you mean P01_"),
        ("results/timeline/P01_01.tsv", TWO_MODELS, ONE_MODEL),
        ("results/features/P01.tsv", TWO_MODELS, ONE_MODEL),
        (
            "results/browse/index.html",
            "browse: {runs: [default, b]}",
            "`browse: runs:` names b, which is not finished: it needs metrics.json",
        ),
    ],
    ids=[
        "sheet that is missing",
        "unknown participant left out",
        "no start weights",
        "file of another run",
        "no annotations of test",
        "scan of an unknown participant",
        "features of an unknown participant",
        "timeline of an unknown video",
        "timeline by two models",
        "features by two models",
        "page of a run that is not finished",
    ],
)
def test_an_impossible_plan_is_one_sentence(folder, target, config, words):
    (folder / "mine.yaml").write_text(config or "{}")
    done = dry_run(folder, target, "--configfile", str(folder / "mine.yaml"), well=False)
    assert words in said(done)


@pytest.mark.parametrize(
    "file, found",
    [
        (None, "no such folder"),
        ("EPIC-KITCHENS/P01/videos/P01_01.MP4", "no video of the sheet, but {file}"),
    ],
    ids=["no folder", "other folders"],
)
def test_without_videos_the_folder_is_described(folder, file, found):
    if file:
        (folder / "videos" / file).parent.mkdir(parents=True)
        (folder / "videos" / file).touch()
    done = run_snakemake("results/clean/pairs.tsv", "--directory", str(folder), well=False)
    words = f"videos: {found.format(file=file)}; expected {{participant}}/{{video}}.MP4, "
    assert words in said(done)
    assert not (folder / "results/segments").exists()


@pytest.mark.parametrize("as_module", [False, True], ids=["by itself", "as a module"])
def test_missing_resources_stop_a_run_early(folder, as_module):
    (folder / "Snakefile").write_text(module("config.yaml"))
    snakefile = folder / "Snakefile" if as_module else ROOT / "Snakefile"
    site = ("--snakefile", str(snakefile), "--profile", str(ROOT / "profiles/vsc"))
    done = run_snakemake("results/segments/val.txt", *site, cwd=folder, well=False)
    assert "Nothing was submitted" in said(done) and "set yours, or EPIC100_ACCOUNT" in said(done)


def test_another_workflow_imports_the_rules(tmp_path, monkeypatch):
    hosted, mine = tmp_path / "host/team/epic100", tmp_path / "mine"
    hosted.mkdir(parents=True)
    for name in ("Snakefile", "config", "rules", "workflow"):
        (shutil.copy if name == "Snakefile" else shutil.copytree)(ROOT / name, hosted / name)
    # A repository on this disk takes the place of https://github.com/team/epic100.
    author = ["-c", "user.name=team", "-c", "user.email=team@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *author, *command], cwd=hosted, check=True)
    (tmp_path / "gitconfig").write_text(
        f'[url "file://{tmp_path}/host/"]\n\tinsteadOf = https://github.com/\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (mine / "workflow").mkdir(parents=True)
    source = 'github("team/epic100", path="Snakefile", branch="main")'
    (mine / "workflow/Snakefile").write_text(
        module("demo.yaml", " as epic100_*", source) + "rule mine:\n"
        "    default_target: True\n"
        '    input: "results/submission.pt"\n'
    )
    planned = jobs(run_snakemake("-n", "--cores", "1", cwd=mine))
    assert {"mine", "epic100_scan", "epic100_train", "epic100_export"} <= set(planned)
