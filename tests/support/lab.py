"""A small lab: its folder, with every stage up to the clean lists done by the library itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from epic100.minikitchen import write_annotations, write_video
from epic100.scan import scan_participant
from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.cleaning import clean
from epic100.segments.segment_list import write_segments
from epic100.video.sheet import Video
from support.checkout import CLASSES

LAB_VIDEOS = (
    Video("P01_01", "P01", "train", 60000 / 1001, 12.012),
    Video("P02_101", "P02", "train", 50.0, 12.0),
    Video("P03_07", "P03", "train", 30000 / 1001, 12.012),
    Video("P01_02", "P01", "val", 60000 / 1001, 12.012),
)


@dataclass(frozen=True)
class Lab:
    """The folder and its videos by id."""

    folder: Path
    videos: dict[str, Video]

    @property
    def results(self) -> str:
        return str(self.folder / "results")

    @property
    def root(self) -> str:
        return str(self.folder / "videos")


def make_lab(folder: Path, videos: Sequence[Video] = LAB_VIDEOS, seed: int = 1) -> Lab:
    """Film `videos` of train and val, annotate, scan and clean them below `folder`."""
    by_id = {video.video_id: video for video in videos}
    results, annotations = folder / "results", folder / "annotations"
    write_annotations(videos, annotations, seed=seed)
    csvs = {
        "train": str(annotations / "EPIC_100_train.csv"),
        "val": str(annotations / "EPIC_100_validation.csv"),
    }
    segments = {split: str(results / f"segments/{split}.txt") for split in csvs}
    for split, path in csvs.items():
        table = load_annotations(path, by_id, split=split, classes=CLASSES)
        write_segments(index_segments(table, by_id), segments[split])
    scans = []
    for participant in dict.fromkeys(video.participant_id for video in videos):
        own = [video for video in videos if video.participant_id == participant]
        for video in own:
            write_video(video, video.path(folder / "videos"), seed=seed)
        table = results / f"scan/{participant}.tsv"
        scan_participant(own, folder / "videos", table, table.with_suffix(".index.npz"))
        scans.append(str(table))
    clean(
        by_id,
        annotations=csvs,
        segments=segments,
        scans=scans,
        lists={split: str(results / f"clean/{split}.txt") for split in csvs},
        pairs=str(results / "clean/pairs.tsv"),
        dropped=str(results / "clean/dropped.tsv"),
        salvage=str(results / "clean/salvage.tsv"),
        policy="segment",
        classes=CLASSES,
    )
    return Lab(folder, by_id)
