"""What stands between a command and the first clip: the DAG of the videos, and annotations at size.

    python benchmarks/startup.py [--rows 67217] [--times 1 10]

The CSV is made here, in the official form, over the videos of config/videos.tsv. The videos are
empty files; with --times 10 there are ten of each, of the same participants. Each figure is the
least of three, in seconds of CPU. The last line is one JSON object.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.segment_list import write_segments
from epic100.video.sheet import Video, read_sheet

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {"verbs": 97, "nouns": 300}
HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)


def stamp(seconds: float) -> str:
    """Seconds as the official CSVs write times, HH:MM:SS.ff."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 100) % 100:02d}"


def write_csv(path: Path, videos: list[Video], rows: int) -> None:
    """Random actions of about two seconds, sorted by video, in the official columns."""
    rng = np.random.default_rng(0)
    share = np.array([video.duration for video in videos])
    counts = rng.multinomial(rows, share / share.sum())
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(HEADER)
        writer = csv.writer(file)
        for video, count in zip(videos, counts, strict=True):
            clock = 50 if len(video.video_id.split("_")[1]) == 3 else 60
            for i, start in enumerate(np.sort(rng.uniform(0, video.duration - 3, count))):
                start, stop = round(start, 2), round(start + rng.uniform(0.5, 3), 2)
                verb, noun = int(rng.integers(97)), int(rng.integers(300))
                frames = [max(1, int(start * clock)), int(stop * clock)]
                times = [stamp(start), stamp(start), stamp(stop)]
                names = [f"{video.video_id}_{i}", video.participant_id, video.video_id]
                words = ["do a thing", "do", verb, "thing", noun, "['thing']", f"[{noun}]"]
                writer.writerow(names + times + frames + words)


def least(run: Callable[[], object]) -> float:
    """Seconds of CPU of this process and its children, the least of three runs."""
    spent = []
    for _ in range(3):
        before = os.times()
        run()
        spent.append(sum(os.times()[:4]) - sum(before[:4]))
    return round(min(spent), 2)


def put_videos(folder: Path, videos: list[Video], times: int) -> Path:
    """Empty videos, so many of each, their sheet, and a config, whose path is returned."""
    rows = ["video_id\tparticipant_id\tsplit\tfps\tduration"]
    for video in videos:
        for number in range(times):
            name = f"{video.video_id}{number:03}" if number else video.video_id
            path = folder / "videos" / video.participant_id / f"{name}.MP4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            about = (name, video.participant_id, video.split, video.fps, video.duration)
            rows.append("\t".join(map(str, about)))
    (folder / "sheet.tsv").write_text("\n".join(rows) + "\n")
    (folder / "config.yaml").write_text("videos: {root: videos, sheet: sheet.tsv}\n")
    return folder / "config.yaml"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=67_217)
    parser.add_argument("--times", nargs="+", type=int, default=[1, 10])
    options = parser.parse_args()
    videos = {video.video_id: video for video in read_sheet(ROOT / "config/videos.tsv")}
    train = [video for video in videos.values() if video.split == "train"]
    figures: dict[str, object] = {"rows": options.rows, "videos": len(videos)}
    with tempfile.TemporaryDirectory() as name:
        source, out = Path(name) / "EPIC_100_train.csv", Path(name) / "train.txt"
        write_csv(source, train, options.rows)

        def annotate() -> None:
            table = load_annotations(str(source), videos, split="train", classes=CLASSES)
            write_segments(index_segments(table, videos), str(out))

        figures["annotate_seconds"] = least(annotate)
        assert len(out.read_text().splitlines()) == options.rows
        (Path(name) / "annotations").mkdir()
        for csv_name in ("train", "validation", "test_timestamps"):
            (Path(name) / f"annotations/EPIC_100_{csv_name}.csv").symlink_to(source)
        for times in options.times:
            config = put_videos(Path(name), list(videos.values()), times)
            for option in ("-n", "--dag"):
                command = [sys.executable, "-m", "snakemake", "all", option, "--directory", name,
                           "--configfile", str(config)]  # fmt: skip
                run = partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True)
                figures[f"{option}, {len(videos) * times} videos"] = least(run)
    print("\n".join(f"{key:>24}: {value}" for key, value in figures.items()))
    print(json.dumps(figures | {"date": time.strftime("%Y-%m-%d")}))


if __name__ == "__main__":
    main()
