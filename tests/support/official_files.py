"""Small annotations with the official names, for all 700 videos: enough to plan."""

from collections.abc import Sequence
from pathlib import Path

from epic100.base.text_table import write_table
from epic100.download.annotations import NAMES
from epic100.video.sheet import Video

COLUMNS = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
LABELS = ("verb", "verb_class", "noun", "noun_class")


def write_official_files(videos: Sequence[Video], folder: Path) -> None:
    """Write a segment for each video, the lists, and names for 97 verbs and 300 nouns."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        labels = LABELS if split != "test" else ()
        rows = [
            (
                f"{video.video_id}_0",
                video.participant_id,
                video.video_id,
                "00:00:00.50",
                "00:00:01.50",
                *("take", 0, "cup", 1)[: len(labels)],
            )
            for video in videos
            if video.split == split
        ]
        write_table(folder / NAMES[split], COLUMNS + labels, rows, delimiter=",")
    for task, count in (("verb", 97), ("noun", 300)):
        names = [(number, f"{task}{number}") for number in range(count)]
        write_table(folder / NAMES[f"{task}_classes"], ("id", "key"), names, delimiter=",")
        write_table(folder / NAMES[f"tail_{task}s"], (task,), [(count - 1,)], delimiter=",")
    unseen = ("participant_id",)
    write_table(folder / NAMES["unseen_participants"], unseen, [("P18",)], delimiter=",")
