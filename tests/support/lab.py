"""Make a small lab: videos, annotations, scans and clean lists, by the library. No test is here."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from epic100.base.text_table import write_table
from epic100.data.annotations import index_segments, read_annotations
from epic100.data.cleaning import clean
from epic100.data.segment_list import write_segments
from epic100.minikitchen import write_annotations, write_video
from epic100.scan.participant import scan_participant
from epic100.settings.data import Participants
from epic100.video.sheet import Video, read_sheet
from support.checkout import CLASSES, ROOT

LAB_VIDEOS = (
    Video("P01_01", "P01", "train", 60000 / 1001, 12.012),
    Video("P02_101", "P02", "train", 50.0, 12.0),
    Video("P03_07", "P03", "train", 30000 / 1001, 12.012),
    Video("P01_02", "P01", "val", 60000 / 1001, 12.012),
)


@dataclass(frozen=True)
class Lab:
    """The folder of a lab, and its videos by id."""

    folder: Path
    videos: dict[str, Video]

    @property
    def results(self) -> str:
        """The folder of the results."""
        return str(self.folder / "results")

    @property
    def root(self) -> str:
        """The folder of the videos."""
        return str(self.folder / "videos")


def write_sheet(videos: Iterable[Video], folder: Path) -> Path:
    """Write the sheet of these videos, and return its path."""
    sheet = folder / "sheet.tsv"
    write_table(sheet, [field.name for field in fields(Video)], map(astuple, videos))
    return sheet


def annotate(videos: Sequence[Video], folder: Path, results: Path, seed: int) -> dict[str, str]:
    """Write the CSVs into `folder` and the segment lists of train and val; return the CSVs."""
    by_id = {video.video_id: video for video in videos}
    write_annotations(videos, folder, seed=seed)
    csvs = {split: str(folder / FILES[split]) for split in ("train", "val")}
    for split, path in csvs.items():
        table = read_annotations(path, by_id, split=split, classes=CLASSES)
        write_segments(index_segments(table, by_id), results / f"segments/{split}.txt")
    return csvs


def clean_lists(
    videos: Sequence[Video],
    splits: Iterable[str],
    results: Path,
    policy: str = "segment",
    accept: Sequence[str] = (),
    include: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> None:
    """Clean the lists of these splits with all scan tables in `results`."""
    clean(
        {video.video_id: video for video in videos},
        segments={split: str(results / f"segments/{split}.txt") for split in splits},
        scans=[str(path) for path in sorted(results.glob("scan/*.tsv"))],
        lists={split: str(results / f"clean/{split}.txt") for split in splits},
        pairs=str(results / "clean/pairs.tsv"),
        dropped=str(results / "clean/dropped.tsv"),
        salvage=str(results / "clean/salvage.tsv"),
        policy=policy,
        participants=Participants(include=list(include)),
        accept=accept,
        absent=absent,
    )


def make_lab(folder: Path, videos: Sequence[Video] = LAB_VIDEOS, seed: int = 1) -> Lab:
    """Make a lab in `folder`: draw the videos of train and val, annotate, scan and clean them."""
    results = folder / "results"
    csvs = annotate(videos, folder / "annotations", results, seed)
    for participant in dict.fromkeys(video.participant_id for video in videos):
        own = [video for video in videos if video.participant_id == participant]
        for video in own:
            write_video(video, video.path(folder / "videos"), seed=seed)
        table = results / f"scan/{participant}.tsv"
        scan_participant(own, folder / "videos", table, table.with_suffix(".index.npz"))
    clean_lists(videos, csvs, results)
    return Lab(folder, {video.video_id: video for video in videos})


SHEET = read_sheet(ROOT / "config/demo_videos.tsv")
VIDEOS = {video.video_id: video for video in SHEET}
FILES = {
    "train": "EPIC_100_train.csv",
    "val": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}
