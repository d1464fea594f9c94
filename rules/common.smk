"""The checked and completed config, and what several rules need from it and the video sheet."""

import importlib.util
import os
import re
import sys
from pathlib import Path

from snakemake.logging import logger

# A Snakemake without our package can read the rules of a clone with the clone's library. Its jobs
# then need `--sdm conda`.
if importlib.util.find_spec("epic100") is None:
    LIBRARY = Path(str(workflow.current_basedir)).parent / "workflow"
    if not LIBRARY.is_dir():
        raise WorkflowError(
            "the package epic100 is not installed beside Snakemake, and these rules come from no "
            "clone that has it; docs/reuse.md says how to install it"
        )
    sys.path.append(str(LIBRARY))

from epic100.base.config import complete_config, gpus_to_ask, resources_of_nodes
from epic100.base.errors import EpicError
from epic100.base.runs import home_of, home_pattern, sweep_runs
from epic100.base.shipped import ROOT, existing_path
from epic100.download.receipts import Receipts
from epic100.download.weights import start_weights
from epic100.segments.official_lists import CLASS_LISTS as CLASS_LIST_FILES, find_lists
from epic100.training.settings import job_settings
from epic100.video.on_disk import on_disk_lines
from epic100.video.sheet import participants_of, read_sheet

# This workflow's own folder, also when another workflow uses it as a module. If its files come
# directly from a repository's host, it is the folder of the installed package.
HERE = Path(str(workflow.current_basedir)).parent
if not HERE.is_dir():
    HERE = ROOT

# For envs/epic100.post-deploy.sh, which Snakemake copies to another folder before it runs it.
os.environ.update(EPIC100_ROOT=str(HERE))

CONFIG = complete_config(config)
SHEET = existing_path(CONFIG["videos"]["sheet"], HERE)
VIDEO_ROOT = CONFIG["videos"]["root"]
NO_ROOT = (
    f"{VIDEO_ROOT}: no such folder; expected the one with {{participant_id}}/{{video_id}}.MP4; "
    "correct `videos: root:` in the config, or set `videos: download: true`"
)
MINIKITCHEN = CONFIG.get("minikitchen")
DOWNLOAD = CONFIG["videos"]["download"]
DOWNLOAD_ANNOTATIONS = CONFIG["annotations"]["download"]
if MINIKITCHEN and (DOWNLOAD or DOWNLOAD_ANNOTATIONS):
    raise WorkflowError("config: `minikitchen` makes its own files; `download: true` is of no use")
if DOWNLOAD_ANNOTATIONS and CONFIG["annotations"]["format"] != "official":
    raise WorkflowError("config: `annotations: download: true` goes with `format: official` only")

# Clips are read from the small copies if the config sets them, else from the originals.
PROXY = CONFIG["videos"]["proxy"]
# Where the trained parts of a run go; with a sweep, {run} is one of its names.
HOME = home_pattern(CONFIG)
SWEEP = sweep_runs(CONFIG)

# With a probe, the model of this run learns from the features of another one.
PROBE = CONFIG["probe"]
if PROBE is not None:
    if not CONFIG["run"] or CONFIG["run"] == PROBE["of"]:
        raise WorkflowError(
            "config: `probe:` needs a run of its own, since the model of "
            f"{home_of(PROBE['of'])} gives the features; set `run:` to another name, as "
            "config/probe.yaml does"
        )
    if CONFIG["predict"]["models"]:
        raise WorkflowError("config: `probe:` and `predict: models:` are both set; expected one")
FEATURES = f"{HOME if PROBE is None else home_of(PROBE['of'])}/features"

# A model that was made elsewhere must not be where the rule train writes its own.
MODEL = PROBE is None and CONFIG["predict"]["model"] or f"{HOME}/model.pth"
# With several finished models, their predictions are averaged.
if MODELS := CONFIG["predict"]["models"]:
    if CONFIG["predict"]["model"]:
        raise WorkflowError("config: `predict: model:` and `models:` are both set; expected one")
    MODEL = MODELS
PREDICT_SETTINGS = {
    key: value for key, value in CONFIG["predict"].items() if key not in ("model", "models")
}
CLIP_ROOT = PROXY["root"] if PROXY else VIDEO_ROOT
CLIP_INDEXES = "results/proxies" if PROXY else "results/scan"

VIDEOS = read_sheet(SHEET)
RECEIPTS = "results/videos/receipts"  # checksums of files already read, kept between calls
EXCLUDED = CONFIG["participants"]["exclude"]
INCLUDED = CONFIG["participants"]["include"]
CHOSEN = participants_of(VIDEOS, EXCLUDED, INCLUDED)
ANNOTATIONS = {
    split: CONFIG["annotations"][split]
    for split in ("train", "val", "test")
    if CONFIG["annotations"][split] is not None
}
OFFICIAL_LISTS = find_lists(
    ANNOTATIONS["val"],
    CONFIG["evaluate"],
    to_be_made=bool(MINIKITCHEN or DOWNLOAD_ANNOTATIONS),
)
CLASS_LISTS = find_lists(
    ANNOTATIONS["val"],
    CONFIG["evaluate"],
    to_be_made=DOWNLOAD_ANNOTATIONS,
    lists=CLASS_LIST_FILES,
)
NAME_FILES = {
    "csvs": [
        ANNOTATIONS[split]
        for split in ("train", "val")
        if CONFIG["annotations"]["format"] == "official" and split in ANNOTATIONS
    ],
    "lists": CLASS_LISTS,
}
ANNOTATION_FILES = {**ANNOTATIONS, **OFFICIAL_LISTS, **CLASS_LISTS}
ANNOTATION_SHEET = existing_path(CONFIG["annotations"]["sheet"], HERE)


wildcard_constraints:
    participant="[^/]+",
    split="train|val|test",
    run="|".join(map(re.escape, SWEEP)) or "[^/]+",


def videos_of(participant, split=None):
    """The sheet's rows of one participant, of all splits or of one."""
    return [
        video
        for video in VIDEOS
        if video.participant_id == participant and split in (None, video.split)
    ]


def rows_of(participant, split=None):
    """These rows as job parameters, without urls, since Snakemake's report shows parameters."""
    return [
        {key: value for key, value in vars(video).items() if key != "url"}
        for video in videos_of(participant, split)
    ]


def video_at(wildcards):
    """The sheet's row of one video."""
    return next(video for video in VIDEOS if video.video_id == wildcards.video_id)


def is_there(video):
    """Whether a video's file is on disk, or will be made by the demo or downloaded."""
    if MINIKITCHEN:
        return MINIKITCHEN["damage"].get(video.video_id) != "missing"
    return video.path(VIDEO_ROOT).exists() or is_to_come(video)


def is_to_come(video):
    """Whether the file will be downloaded. What is at its path is kept, even a broken link."""
    return DOWNLOAD and video.url != "" and not os.path.lexists(video.path(VIDEO_ROOT))


# In a partial archive, participants without any video get no job. If there is no video at all, the
# whole run is planned, so that it can be inspected before the data is there.
NEEDED = [video for video in VIDEOS if video.participant_id in CHOSEN]
ON_DISK = {video.video_id for video in filter(is_there, NEEDED)}
PARTICIPANTS = [
    name
    for name in CHOSEN
    if DOWNLOAD or not ON_DISK or any(video.video_id in ON_DISK for video in videos_of(name))
]
ABSENT = [name for name in CHOSEN if name not in PARTICIPANTS]
if workflow.is_main_process and not MINIKITCHEN and len(ON_DISK) < len(NEEDED):
    for line in on_disk_lines(NEEDED, ON_DISK, VIDEO_ROOT):
        logger.info(line)
    if not os.path.isdir(VIDEO_ROOT) and not DOWNLOAD:
        logger.warning(f"{NO_ROOT}; a run that reads videos will not start")


def files_of(wildcards):
    """Videos that can be scanned: a missing one is a row in the table, not a broken DAG."""
    videos = filter(is_there, videos_of(wildcards.participant))
    return [video.path(VIDEO_ROOT).as_posix() for video in videos]


def hours_of(participant, split=None):
    """Hours of video that a participant's scan decodes, or of those of one split."""
    return sum(video.duration for video in videos_of(participant, split)) / 3600


def figure(topic, name):
    """A picture of the report, for wide and for narrow screens."""
    folder = "results" if topic in ("data", "damage") else HOME
    return multiext(f"{folder}/figures/{topic}/{name}", ".svg", ".narrow.svg")


def annotations_of(wildcards):
    """The CSV of a split. The error names the missing key."""
    if wildcards.split not in ANNOTATIONS:
        raise WorkflowError(
            f"results of split {wildcards.split} were asked for, but the config has no "
            f"`annotations: {wildcards.split}:`"
        )
    return ANNOTATIONS[wildcards.split]


def exported_split(kind):
    """The split of submission.pt or submission.zip: the one in the config, else val for `pt`, and
    test for `zip` if the config has a test CSV."""
    board = "test" if kind == "zip" and "test" in ANNOTATIONS else "val"
    return CONFIG["export"]["split"] or board


# The weights that training starts from. A fault is an error only for a call that trains.
try:
    WEIGHTS = start_weights(CONFIG["train"], existing_path(CONFIG["train"]["config"], HERE))
    WEIGHTS_FAULT = ""
except EpicError as error:
    WEIGHTS, WEIGHTS_FAULT = None, str(error)
WEIGHTS_TEXT = WEIGHTS.path if WEIGHTS else "random weights"


def weights_to_train_from(wildcards):
    """The file that the rule train starts from, if any."""
    if WEIGHTS_FAULT:
        raise WorkflowError(WEIGHTS_FAULT)
    return [WEIGHTS.path] if WEIGHTS else []


def settings_of_training(wildcards):
    """The `train:` section of a run, as far as a change of it trains again."""
    section = SWEEP[wildcards.run] if SWEEP else CONFIG["train"]
    return job_settings(section)


def refuse_average(wildcards):
    """Raise for what is made with one model, where the config has several."""
    raise WorkflowError(
        f"timelines and features are made with one model, and the config has {len(MODELS)} in "
        "`predict: models:`, whose average is of segments only; set `predict: {models: [], model: "
        "FILE}`"
    )


ONE_MODEL = refuse_average if MODELS else MODEL


def video_on_request(wildcards, file):
    """The sheet's row of the video that a file was asked for of."""
    for video in VIDEOS:
        if video.video_id == wildcards.video:
            return video
    raise WorkflowError(
        f"results/{file}: {SHEET} has no such video; expected a video_id of it"
        + (
            "; for other files: epic100 predict VIDEO --model results/model.pth"
            if file.startswith("timeline")
            else ""
        )
    )


def video_of_timeline(wildcards):
    """The sheet's row of the video of a timeline."""
    return video_on_request(wildcards, f"timeline/{wildcards.video}.tsv")


def video_of_features(wildcards):
    """The sheet's row of the video of features."""
    return video_on_request(wildcards, f"features/{wildcards.video}.npz")


def timelines_made(wildcards):
    """Timelines of whole videos that are there already, of the splits that the page shows."""
    folder = Path(HOME.replace("{run}", wildcards.get("run", "")), "timeline")
    shown = [video for video in VIDEOS if video.split in CONFIG["browse"]["splits"]]
    paths = [folder / f"{video.video_id}.tsv" for video in shown]
    return [path.as_posix() for path in paths if not MODELS and path.is_file()]


def model_of_features(wildcards):
    """The model file that gives a probe its features; no rule of the probe's run makes it."""
    path = CONFIG["predict"]["model"] or f"{os.path.dirname(FEATURES)}/model.pth"
    if not os.path.exists(path):
        raise WorkflowError(
            f"{path}: no such model; the probe learns from its features: train it first, without "
            "`probe:`, or set `features: encoder:` to start or to an encoder of your own"
        )
    return path
