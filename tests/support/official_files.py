"""Small annotations with the official names and numbers of classes. No test is here."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from epic100.base.text_table import write_table
from epic100.data.download_annotations import NAMES
from epic100.minikitchen import write_annotations
from epic100.video.sheet import Video
from support.checkout import CLASSES

# Only the first seconds of a longer video have segments, so that 700 videos take a second.
ANNOTATED_SECONDS = 8.0


def write_official_files(videos: Iterable[Video], folder: Path) -> None:
    """Write the official CSVs: segments of these videos, lists, and 97 verbs and 300 nouns."""
    starts = [replace(video, duration=min(video.duration, ANNOTATED_SECONDS)) for video in videos]
    write_annotations(starts, folder, seed=1)
    for task in ("verb", "noun"):
        names = [(number, f"{task}{number}") for number in range(CLASSES[f"{task}s"])]
        write_table(folder / NAMES[f"{task}_classes"], ("id", "key"), names, delimiter=",")
