"""The whole workflow on an archive like EPIC-KITCHENS-100, killed on the way.

    python benchmarks/rehearsal.py FOLDER --small [--seed 0]     # a minute on two idle cores

Makes FOLDER/archive: videos with the ids, participants, splits and rates of config/videos.tsv and
lengths scaled down, a sheet of them, and annotations in the official columns. One film a rate is
encoded; each video is a copy of its stream. One video is absent, one truncated, one damaged in the
middle, one another video. Then everything is made from nothing, to both submissions, the report and
the page: in FOLDER/killed with a run that gets SIGTERM and one that gets SIGKILL with all of its
processes, each at a place drawn by the seed; in FOLDER/straight without a kill. Lists, tables and
submissions must be equal to the byte.

Prints a row for each call of Snakemake; the last line is one JSON object. Exits with 1 if the two
differ. FOLDER must be new or empty.
"""

import argparse
import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp",
    "stop_timestamp", "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun",
    "noun_class", "all_nouns", "all_noun_classes",
)  # fmt: skip
UNLABELLED = 8  # of these columns, the first ones, are in the test CSV
VERBS = {0: "take", 1: "put", 2: "wash", 3: "open"}
NOUNS = {0: "tap", 1: "spoon", 2: "plate", 3: "cupboard"}
CSVS = {"train": "train", "val": "validation", "test": "test_timestamps"}
TARGETS = ("results/submission.pt", "results/submission.zip")
PAGES = ("results/report.html", "results/browse/index.html")
# What must not depend on where a run was killed. Logs, times and weights' files are its own.
EXACT = ("segments/*.txt", "clean/*", "scan/*.tsv", "submission.pt", "submission.zip")
GROUP, ZEROS = 25, 3000  # pictures; bytes
DONE = " steps ("  # in the line in which Snakemake counts finished jobs: 3 of 27 steps (11%) done


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
    absent: str
    truncated: str
    damaged: str
    other: tuple[str, str]
    scale: float
    least: float
    picture: tuple[int, int]
    film: float
    config: dict[str, dict]


SMALL = Size(
    videos=("P01_01", "P01_11", "P01_101", "P02_03", "P02_12", "P02_108", "P02_125", "P18_01",
            "P18_03", "P22_02", "P22_05", "P22_107"),
    absent="P22_05",
    truncated="P02_03",
    damaged="P02_12",
    other=("P22_107", "P01_01"),
    scale=300,
    least=4,
    picture=(96, 64),
    film=3,
    config={
        "train": {
            "config": "config/x3d_demo.py", "from_scratch": True, "epochs": 1, "batch_size": 4,
            "options": {"train_dataloader.dataset.pipeline.2.short_side": [36, 40],
                        "train_dataloader.dataset.pipeline.3.size": 32},
        },
        "predict": {"clips": 1, "workers": 0},
        "export": {"sls": {"pt": 0, "tl": 3, "td": 3}},
        "clips": {"height": 32},
    },
)  # fmt: skip


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


def read_sheet(size: Size) -> list[Video]:
    """The official rows of the videos, scaled down to whole groups of pictures."""
    with open(ROOT / "config/videos.tsv", newline="") as handle:
        rows = {row["video_id"]: row for row in csv.DictReader(handle, delimiter="\t")}
    videos = []
    for name in size.videos:
        row = rows[name]
        rate = Fraction(row["fps"]).limit_denominator(1001)
        seconds = max(float(row["duration"]) / size.scale, size.least)
        frames = round(seconds * rate / GROUP) * GROUP
        videos.append(Video(name, row["participant_id"], row["split"], rate, frames))
    return videos


def make_archive(folder: Path, size: Size, seed: int) -> None:
    """Write videos, sheet, annotations and config below `folder`."""
    folder.mkdir(parents=True)
    videos = read_sheet(size)
    films = {rate: encode(folder / f"{float(rate):.0f}.film", size, rate, seed)
             for rate in sorted({video.rate for video in videos})}  # fmt: skip
    by_name = {video.name: video for video in videos}
    for video in videos:
        source = by_name[size.other[1]] if video.name == size.other[0] else video
        if video.name != size.absent:
            copy(films[source.rate], video.path(folder / "videos"), source.frames)
    damage(by_name[size.truncated].path(folder / "videos"), cut=True)
    damage(by_name[size.damaged].path(folder / "videos"), cut=False)
    rows = [(v.name, v.participant, v.split, float(v.rate), v.seconds) for v in videos]
    write_table(folder / "sheet.tsv", ("video_id", "participant_id", "split", "fps", "duration"),
                rows, "\t")  # fmt: skip
    annotate(folder / "csv", videos, seed)
    config = {
        "annotations": {split: f"../archive/csv/EPIC_100_{name}.csv"
                        for split, name in CSVS.items()},
        "videos": {"root": "../archive/videos", "sheet": "../archive/sheet.tsv"},
        **size.config,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def encode(path: Path, size: Size, rate: Fraction, seed: int) -> Path:
    """A film of drifting, grainy blocks, in closed groups of pictures with B-frames."""
    rng, (width, height) = np.random.default_rng(seed), size.picture
    wide = rng.integers(0, 200, (height // 8, width, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    settings = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:bframes=3:threads=1:asm=0"
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
    return path


def copy(film: Path, path: Path, frames: int) -> None:
    """Repeat the packets of a film until a file has so many pictures; its index stands first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(film)) as source:
        stream = source.streams.video[0]
        packets = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe)
                   for p in source.demux(stream) if p.size]  # fmt: skip
        length = sum(duration for *_, duration, _ in packets)
        with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
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
        columns = COLUMNS[:UNLABELLED] if split == "test" else COLUMNS
        rows = [row[: len(columns)] for row in sorted(tables[split])]
        write_table(folder / f"EPIC_100_{name}.csv", columns, rows, ",")
    seen = {video.participant for video in videos if video.split == "train"}
    unseen = {video.participant for video in videos if video.split == "val"} - seen
    for name, column, values in (("tail_verbs", "verb", [max(VERBS)]),
                                 ("tail_nouns", "noun", [max(NOUNS)]),
                                 ("unseen_participant_ids_validation", "participant_id", unseen),
                                 ):  # fmt: skip
        write_table(folder / f"EPIC_100_{name}.csv", (column,), [(v,) for v in sorted(values)], ",")


def segments(video: Video, rng: random.Random) -> Iterator[tuple]:
    """Rows of one video; frames count on the annotation clock, as in the official files."""
    clock = 50 if len(video.name.split("_")[1]) == 3 else 60
    start, number = rng.uniform(0, 0.3), 0
    while (stop := start + rng.uniform(0.4, 1.2)) < video.seconds:
        verb, noun = rng.choice(list(VERBS)), rng.choice(list(NOUNS))
        ends = [f"00:{int(s) // 60:02}:{s % 60:05.2f}" for s in (start, stop)]
        yield (f"{video.name}_{number}", video.participant, video.name, ends[0] + "0", *ends,
               int(start * clock) + 1, int(stop * clock) + 1, f"{VERBS[verb]} {NOUNS[noun]}",
               VERBS[verb], verb, NOUNS[noun], noun, [NOUNS[noun]], [noun])  # fmt: skip
        start, number = stop + rng.uniform(-0.1, 0.2), number + 1


def write_table(path: Path, columns: tuple[str, ...], rows: list[tuple], delimiter: str) -> None:
    """A table with a header."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle, delimiter=delimiter)
        writer.writerows([columns, *rows])


@dataclass(frozen=True)
class Kill:
    """A signal, to the main process or to all, and its place.

    Attributes:
        share: Of the steps that this call has to do; they are done when the clock starts.
        seconds: How long after that it is sent.
    """

    number: signal.Signals
    everyone: bool
    share: float
    seconds: float


@dataclass(frozen=True)
class Call:
    """What a call of Snakemake cost; CPU without processes that were killed unheard."""

    folder: str
    end: str
    steps: int
    wall_s: float
    cpu_s: float


def call(folder: Path, targets: tuple[str, ...], kill: Kill | None = None) -> Call:
    """Run Snakemake in `folder`; what it says is added to `said.txt` there."""
    folder.mkdir(exist_ok=True)
    config = folder.parent / "archive/config.yaml"
    command = [sys.executable, "-m", "snakemake", *targets, "--directory", str(folder),
               "--configfile", str(config)]  # fmt: skip
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **quiet)
    timer, steps = None, 0
    with open(folder / "said.txt", "a") as said:
        for line in process.stderr or ():
            said.write(line)
            if DONE not in line:
                continue
            steps, of = int(line.split()[0]), int(line.split()[2])
            if kill and timer is None and steps >= kill.share * of:
                send = os.killpg if kill.everyone else os.kill
                timer = threading.Timer(kill.seconds, send, (process.pid, kill.number))
                timer.start()
    code = process.wait()
    if timer:
        timer.join()
    if (code == 0) == bool(kill) or bool(timer) != bool(kill):
        raise SystemExit(f"{folder}/said.txt: exit {code}, kill: {kill}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    end = f"{kill.number.name} {kill.seconds:.2f} s after {steps} steps" if kill else "whole"
    return Call(folder.name, end, steps, round(time.monotonic() - began, 1), round(cpu, 1))


def rehearse(folder: Path, seed: int) -> list[Call]:
    """Make everything, killed twice; then the lists, tables and submissions without a kill."""
    rng = random.Random(seed)
    kills = [
        Kill(number, everyone, rng.uniform(0.1, 0.6), rng.uniform(0, 2))
        for number, everyone in ((signal.SIGTERM, False), (signal.SIGKILL, True))
    ]
    return [
        *(call(folder / "killed", TARGETS + PAGES, kill) for kill in (*kills, None)),
        call(folder / "straight", TARGETS),
    ]


def differences(folder: Path) -> list[str]:
    """Results that must be equal and are not, below `results/`."""
    found = [folder / name / "results" for name in ("killed", "straight")]
    names = {
        path.relative_to(f).as_posix() for f in found for part in EXACT for path in f.glob(part)
    }
    pairs = {name: [f / name for f in found] for name in sorted(names)}
    return [
        name
        for name, (one, other) in pairs.items()
        if not (one.exists() and other.exists() and one.read_bytes() == other.read_bytes())
    ]


def main() -> None:
    """Rehearse and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--small", action="store_true", required=True, help="12 videos of seconds")
    parser.add_argument("--seed", type=int, default=0, help="of segments and of the kills' places")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if folder.is_dir() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty; a rehearsal starts from nothing")
    make_archive(folder / "archive", SMALL, given.seed)
    calls = rehearse(folder, given.seed)
    print("| folder | end | steps | wall, s | CPU, s |\n|---|---|---|---|---|")
    for row in calls:
        print("|", " | ".join(str(value) for value in asdict(row).values()), "|")
    other = differences(folder)
    print(json.dumps({"calls": [asdict(row) for row in calls], "differ": other}))
    sys.exit(bool(other))


if __name__ == "__main__":
    main()
