"""The config, checked and complete, and what several rules ask of it and of the video sheet."""

import os

from epic100.config import complete_config, existing_path, gpus_to_ask
from epic100.official_lists import find_lists
from epic100.sheet import participants_of, read_sheet

# Read by envs/epic100.post-deploy.sh, which Snakemake copies away from here before it runs.
os.environ.update(EPIC100_ROOT=str(workflow.basedir))

CONFIG = complete_config(config)
SHEET = existing_path(CONFIG["videos"]["sheet"], workflow.basedir)
VIDEO_ROOT = CONFIG["videos"]["root"]
MINIKITCHEN = CONFIG.get("minikitchen")

VIDEOS = read_sheet(SHEET)
EXCLUDED = CONFIG["participants"]["exclude"]
PARTICIPANTS = participants_of(VIDEOS, EXCLUDED)
ANNOTATIONS = {
    split: CONFIG["annotations"][split]
    for split in ("train", "val", "test")
    if CONFIG["annotations"][split] is not None
}
OFFICIAL_LISTS = find_lists(ANNOTATIONS["val"], CONFIG["evaluate"], to_be_made=bool(MINIKITCHEN))


wildcard_constraints:
    participant="[^/]+",
    split="train|val|test",


def videos_of(participant):
    """The sheet's rows of one participant."""
    return [video for video in VIDEOS if video.participant_id == participant]


def video_at(wildcards):
    """The sheet's row of one video."""
    return next(video for video in VIDEOS if video.video_id == wildcards.video_id)


def is_there(video):
    """Whether a video's file is on disk, or will be when the demo's kitchen has made it."""
    if MINIKITCHEN:
        return MINIKITCHEN["damage"].get(video.video_id) != "missing"
    return video.path(VIDEO_ROOT).exists()


def files_of(wildcards):
    """Videos that can be scanned: a missing one is a row in the table, not a broken DAG."""
    videos = filter(is_there, videos_of(wildcards.participant))
    return [video.path(VIDEO_ROOT).as_posix() for video in videos]


def hours_of(participant):
    """Hours of video that a participant's scan decodes."""
    return sum(video.duration for video in videos_of(participant)) / 3600


def annotations_of(wildcards):
    """The CSV of a split; the error names the key that lacks."""
    if wildcards.split not in ANNOTATIONS:
        raise WorkflowError(
            f"results of split {wildcards.split} were asked for, but the config has no "
            f"`annotations: {wildcards.split}:`"
        )
    return ANNOTATIONS[wildcards.split]
