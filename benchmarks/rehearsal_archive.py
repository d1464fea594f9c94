"""The archive of a rehearsal: videos with the real ids and rates, a sheet, CSVs and a config.

One film a rate is encoded; each video is a copy of its stream. What is finished is kept: the same
call goes on after a full disk or a kill.
"""

import csv
import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import yaml

from epic100.minikitchen.kitchen import COLUMNS, TEST_COLUMNS

ROOT = Path(__file__).resolve().parent.parent
VERBS = {0: "take", 1: "put", 2: "wash", 3: "open"}
NOUNS = {0: "tap", 1: "spoon", 2: "plate", 3: "cupboard"}
CSVS = {"train": "train", "val": "validation", "test": "test_timestamps"}
LISTS = ("tail_verbs", "tail_nouns", "unseen_participant_ids_validation")
# One participant in twelve is absent, and about twenty videos are damaged.
ABSENT_EVERY, DAMAGED = 12, 20
# So many pictures form a group, and so many bytes become zeros.
GROUP, ZEROS = 25, 3000


@dataclass(frozen=True)
class Size:
    """How large a rehearsal is.

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
        "clips": {"height": 32},
    },
)


def full(clips: int) -> Size:
    """The real videos and lengths; `clips` segments are trained on."""
    rows = sheet_rows()
    names = [*rows]
    people = sorted({rows[name]["participant_id"] for name in names})
    gone = people[ABSENT_EVERY // 2 :: ABSENT_EVERY]
    there = [name for name in names if rows[name]["participant_id"] not in gone]
    broken = there[:: len(there) // DAMAGED][1:]
    train = SMALL.config["train"]
    return Size(
        videos=tuple(names),
        absent=tuple(name for name in names if name not in there),
        truncated=tuple(broken[::2]),
        damaged=tuple(broken[1::2]),
        other=(there[-1], there[0]),
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


@dataclass(frozen=True)
class Video:
    """A row of the sheet; `frames` is its length."""

    name: str
    participant: str
    split: str
    rate: Fraction
    frames: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.frames / self.rate)

    def path(self, root: Path) -> Path:
        """Its file."""
        return root / self.participant / f"{self.name}.MP4"


def sheet_rows() -> dict[str, dict[str, str]]:
    """The official rows by video."""
    with open(ROOT / "config/videos.tsv", newline="") as handle:
        return {row["video_id"]: row for row in csv.DictReader(handle, delimiter="\t")}


def read_sheet(size: Size) -> list[Video]:
    """The official rows of the videos, scaled down to whole groups of pictures."""
    rows, videos = sheet_rows(), []
    for name in size.videos:
        row = rows[name]
        rate = Fraction(row["fps"]).limit_denominator(1001)
        seconds = max(float(row["duration"]) / size.scale, size.least)
        frames = round(seconds * rate / GROUP) * GROUP
        videos.append(Video(name, row["participant_id"], row["split"], rate, frames))
    return videos


def make_archive(folder: Path, size: Size, seed: int, official: Path | None) -> None:
    """Write what is not there yet of videos, sheet, annotations and config below `folder`.

    Args:
        folder: Where.
        size: How much.
        seed: Of films and made-up segments.
        official: Folder of the official CSVs; None: made-up ones.

    Raises:
        SystemExit: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    videos = read_sheet(size)
    try:
        if not official:
            annotate(folder / "csv", videos, seed)
        make_videos(folder, size, videos, seed)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SystemExit(
            f"{folder}: the disk is full; make room, and give the same command again: "
            "finished files are kept"
        ) from error
    rows = [(v.name, v.participant, v.split, float(v.rate), v.seconds) for v in videos]
    write_table(
        folder / "sheet.tsv", ("video_id", "participant_id", "split", "fps", "duration"), rows, "\t"
    )
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
    """Write the films and the videos that are not there yet."""
    films = {
        rate: whole(folder / f"{float(rate):.0f}.film", encode, size, rate, seed)
        for rate in sorted({video.rate for video in videos})
    }
    by_name = {video.name: video for video in videos}
    for video in videos:
        source = by_name[size.other[1]] if video.name == size.other[0] else video
        if video.name not in size.absent:
            whole(
                video.path(folder / "videos"),
                write_video,
                films[source.rate],
                source.frames,
                video.name in size.truncated,
                video.name in size.damaged,
            )


def whole(path: Path, write: Callable[..., None], *given: object) -> Path:
    """Let `write` make a file, which gets its name when it is whole."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        write(part, *given)
        part.replace(path)
    return path


def write_video(path: Path, film: Path, frames: int, truncated: bool, damaged: bool) -> None:
    """A video of a film, spoilt where it should be."""
    copy(film, path, frames)
    if truncated or damaged:
        damage(path, cut=truncated)


def encode(path: Path, size: Size, rate: Fraction, seed: int) -> None:
    """A film of drifting, grainy blocks, in closed groups of pictures with B-frames."""
    rng, (width, height) = np.random.default_rng(seed), size.picture
    wide = rng.integers(0, 200, (height // 8, width, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    settings = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:bframes=3:threads=1:asm=SSE2"
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.width, stream.height = size.picture
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "26", "x264-params": settings}
        for number in range(round(size.film * rate / GROUP) * GROUP):
            at = 2 * number % (wide.shape[1] - width)
            grain = rng.integers(0, 12, (height, width, 1), np.uint8)
            frame = av.VideoFrame.from_ndarray(wide[:, at : at + width] + grain, format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def copy(film: Path, path: Path, frames: int) -> None:
    """Repeat the packets of a film until a file has so many pictures; its index stands first."""
    with av.open(str(film)) as source:
        stream = source.streams.video[0]
        packets = [
            (bytes(p), p.pts, p.dts, p.duration, p.is_keyframe)
            for p in source.demux(stream)
            if p.size
        ]
        length = sum(duration for *_, duration, _ in packets)
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
            copied = out.add_stream_from_template(stream, opaque=True)
            for number in range(frames):
                turn, place = divmod(number, len(packets))
                data, pts, dts, duration, is_key = packets[place]
                packet = av.Packet(data)
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.duration, packet.is_keyframe = duration, is_key
                packet.stream, packet.time_base = copied, stream.time_base
                out.mux(packet)


def damage(path: Path, cut: bool) -> None:
    """Cut the tail, or put zeros into the middle."""
    data = bytearray(path.read_bytes())
    if cut:
        data = data[: 2 * len(data) // 3]
    else:
        data[len(data) // 2 : len(data) // 2 + ZEROS] = bytes(ZEROS)
    path.write_bytes(data)


def annotate(folder: Path, videos: list[Video], seed: int) -> None:
    """Made-up segments under the official names and columns, and the official lists."""
    tables: dict[str, list[tuple]] = {split: [] for split in CSVS}
    for video in videos:
        tables[video.split] += segments(video, random.Random(f"{seed} {video.name}"))
    for split, name in CSVS.items():
        columns = TEST_COLUMNS if split == "test" else COLUMNS
        rows = [row[: len(columns)] for row in sorted(tables[split])]
        write_table(folder / f"EPIC_100_{name}.csv", columns, rows, ",")
    seen = {video.participant for video in videos if video.split == "train"}
    unseen = {video.participant for video in videos if video.split == "val"} - seen
    lists = (("verb", [max(VERBS)]), ("noun", [max(NOUNS)]), ("participant_id", unseen))
    for name, (column, values) in zip(LISTS, lists, strict=True):
        write_table(folder / f"EPIC_100_{name}.csv", (column,), [(v,) for v in sorted(values)], ",")


def segments(video: Video, rng: random.Random) -> Iterator[tuple]:
    """Rows of one video; frames count on the annotation clock, as in the official files."""
    clock = 50 if len(video.name.split("_")[1]) == 3 else 60
    start, number = rng.uniform(0, 0.3), 0
    while (stop := start + rng.uniform(0.4, 1.2)) < video.seconds:
        verb, noun = rng.choice(list(VERBS)), rng.choice(list(NOUNS))
        ends = [f"00:{int(s) // 60:02}:{s % 60:05.2f}" for s in (start, stop)]
        yield (
            f"{video.name}_{number}",
            video.participant,
            video.name,
            ends[0] + "0",
            *ends,
            int(start * clock) + 1,
            int(stop * clock) + 1,
            f"{VERBS[verb]} {NOUNS[noun]}",
            VERBS[verb],
            verb,
            NOUNS[noun],
            noun,
            [NOUNS[noun]],
            [noun],
        )
        start, number = stop + rng.uniform(-0.1, 0.2), number + 1


def write_table(path: Path, columns: tuple[str, ...], rows: list[tuple], delimiter: str) -> None:
    """A table with a header."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle, delimiter=delimiter)
        writer.writerows([columns, *rows])
