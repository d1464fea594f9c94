"""Make the archive of a rehearsal: videos with the real ids and rates, a sheet, CSVs, a config.

One film of each rate is encoded, and each video repeats its packets. Files that are finished stay,
so the same call goes on after a full disk or a kill.
"""

import errno
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import yaml
from archive_files import repeated

from epic100.minikitchen import write_annotations
from epic100.minikitchen.damage import truncate
from epic100.video.sheet import Video, read_sheet

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from support.damage import overwrite  # noqa: E402
from support.lab import write_sheet  # noqa: E402
from support.packets import rewrite, write_film  # noqa: E402
from support.tricky_videos import draw_frames  # noqa: E402

SHEET = ROOT / "config/videos.tsv"
CSVS = {"train": "train", "val": "validation", "test": "test_timestamps"}
# One participant in twelve is absent, and about twenty videos are damaged.
ABSENT_EVERY, DAMAGED = 12, 20
# A group has 25 pictures, and damage replaces 3,000 bytes by zeros.
GROUP, ZEROS = 25, 3000


@dataclass(frozen=True)
class Size:
    """The size of a rehearsal.

    Attributes:
        videos: Ids of config/videos.tsv.
        absent, truncated, damaged: What is wrong with which of them.
        other: A video, and the one whose film its file holds.
        scale: Lengths are the sheet's divided by this, but `least` seconds or more.
        picture: Width and height.
        film: Seconds that are encoded for each rate.
        config: Sections of the config.
    """

    videos: tuple[str, ...]
    absent: tuple[str, ...]
    truncated: tuple[str, ...]
    damaged: tuple[str, ...]
    other: tuple[str, str]
    scale: float
    least: float
    picture: tuple[int, int]
    film: float
    config: dict[str, dict]


SMALL = Size(
    videos=(
        "P01_01",
        "P01_11",
        "P01_101",
        "P02_03",
        "P02_12",
        "P02_108",
        "P02_125",
        "P18_01",
        "P18_03",
        "P22_02",
        "P22_05",
        "P22_107",
    ),
    absent=("P22_05",),
    truncated=("P02_03",),
    damaged=("P02_12",),
    other=("P22_107", "P01_01"),
    scale=300,
    least=4,
    picture=(96, 64),
    film=3,
    config={
        "train": {
            "config": "config/x3d_demo.py",
            "from_scratch": True,
            "epochs": 1,
            "batch_size": 4,
            "options": {
                "train_dataloader.dataset.pipeline.2.short_side": [36, 40],
                "train_dataloader.dataset.pipeline.3.size": 32,
            },
        },
        "predict": {"clips": 1, "workers": 0},
        "export": {"sls": {"pt": 0, "tl": 3, "td": 3}},
    },
)


def full(clips: int) -> Size:
    """Make the size with the real videos and lengths, and a training on `clips` segments."""
    participants = {video.video_id: video.participant_id for video in read_sheet(SHEET)}
    missing = sorted({*participants.values()})[ABSENT_EVERY // 2 :: ABSENT_EVERY]
    present = [name for name, participant in participants.items() if participant not in missing]
    broken = present[:: len(present) // DAMAGED][1:]
    train = SMALL.config["train"]
    return Size(
        videos=tuple(participants),
        absent=tuple(name for name in participants if name not in present),
        truncated=tuple(broken[::2]),
        damaged=tuple(broken[1::2]),
        other=(present[-1], present[0]),
        scale=1,
        least=0,
        picture=(128, 96),
        film=20,
        config=SMALL.config
        | {
            "train": train
            | {
                "batch_size": 16,
                "options": train["options"] | {"train_dataloader.dataset.part": clips},
            },
        },
    )


def videos_of(size: Size) -> list[Video]:
    """Read the official videos, and scale their lengths down to whole groups of pictures."""
    official = {video.video_id: video for video in read_sheet(SHEET)}
    videos = []
    for video in map(official.__getitem__, size.videos):
        seconds = max(video.duration / size.scale, size.least)
        groups = round(seconds * video.fps / GROUP)
        videos.append(replace(video, duration=groups * GROUP / video.fps, url="", md5=""))
    return videos


def pictures_of(video: Video) -> int:
    """Compute the number of pictures of a video."""
    return round(video.duration * video.fps)


def make_archive(folder: Path, size: Size, seed: int, official: Path | None) -> None:
    """Write the videos that do not exist yet, and the sheet, annotations and config.

    Args:
        folder: The folder of the archive.
        size: The size of the rehearsal.
        seed: The seed of films and made-up segments.
        official: The folder of the official CSVs; None means made-up ones.

    Raises:
        SystemExit: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    videos = videos_of(size)
    try:
        if not official:
            write_annotations(videos, folder / "csv", seed)
        make_videos(folder, size, videos, seed)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SystemExit(
            f"{folder}: the disk is full; make room, and give the same command again: "
            "finished files are kept"
        ) from error
    write_sheet(videos, folder)
    config = {
        "annotations": {
            split: f"{official or '../archive/csv'}/EPIC_100_{name}.csv"
            for split, name in CSVS.items()
        },
        "videos": {"root": "../archive/videos", "sheet": "../archive/sheet.tsv"},
        **size.config,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def make_videos(folder: Path, size: Size, videos: list[Video], seed: int) -> None:
    """Write the films and the videos that do not exist yet."""
    films = {
        fps: whole(folder / f"{fps:.0f}.MP4", encode, size, fps, seed)
        for fps in sorted({video.fps for video in videos})
    }
    by_name = {video.video_id: video for video in videos}
    for name, video in by_name.items():
        source = by_name[size.other[1]] if name == size.other[0] else video
        if name not in size.absent:
            whole(video.path(folder / "videos"), copy, films[source.fps], source, name, size)


def whole(path: Path, write: Callable[..., object], *given: object) -> Path:
    """Let `write` make a file under a temporary name, and rename it when it is complete."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"part.{path.name}")
        write(temporary, *given)
        temporary.replace(path)
    return path


def encode(path: Path, size: Size, fps: float, seed: int) -> None:
    """Encode a film of drifting, grainy blocks, in closed groups of pictures with B-frames."""
    rate = Fraction(fps).limit_denominator(1001)
    frames = round(size.film * rate / GROUP) * GROUP
    settings = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:bframes=3:threads=1:asm=SSE2"
    coder = {"preset": "veryfast", "crf": "26", "x264-params": settings}
    drawn = draw_frames(frames, size.picture, seed)
    write_film(path, drawn, size.picture, rate, range(frames), 1 / rate, coder=coder)


def copy(path: Path, film: Path, source: Video, name: str, size: Size) -> None:
    """Repeat the packets of a film to the length of `source`, and spoil the file if `size` says so.

    The index of the file stands first.
    """
    frames = pictures_of(source)
    rewrite(film, lambda packets: repeated(packets, frames), path, movflags="faststart")
    length = path.stat().st_size
    if name in size.truncated:
        truncate(path, 2 / 3)
    elif name in size.damaged:
        overwrite(path, length // 2, bytes(ZEROS))
