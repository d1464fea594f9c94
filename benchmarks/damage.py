"""Damages videos in many ways and compares what the scan reports with what the pictures say.

    python benchmarks/damage.py [--seeds 3] [--jobs 2] [video ...]

Every file is decoded twice, undamaged and damaged, and compared picture by picture at the same
time: a picture is harmed if the mean difference of any block of 16x16 pixels (8x8 in colour) is
over 8 of 255, or if it is gone. Harm inside a reported range, or in a file reported unreadable, is
found; harm outside is missed. A damaged file that is reported although all of its pictures are bit
for bit what and when they were is harmless; a reported undamaged one is a false alarm.
Beside it stands the check of the lab's archive: open with decord, read every 50th frame, pass if
nothing is raised (in a process of its own, as it may hang).
Where packets are left out and those behind close up, and where the index is hit, pictures are
compared with those up to half a second away: so little is no harm to a segment.
The last line printed is one JSON object.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from damage_ways import CLOSED_UP, FLIPS, ONCE, SHIFTING, WAYS

from epic100.base.errors import EpicError
from epic100.minikitchen import write_video
from epic100.minikitchen.packet_damage import rewrite
from epic100.scan import WORKER, scan_participant
from epic100.video.ffmpeg import picture_stream
from epic100.video.index import build_index
from epic100.video.index_file import load_index
from epic100.video.scan_table import DAMAGED, OK
from epic100.video.sheet import Video

VISIBLE = 8.0  # of 255, mean over a block
CLOSE_SECONDS = 0.5
DECORD_SECONDS = 20.0
MAX_SECONDS = 30.0  # of a given file
DECORD = """
import sys, decord
reader = decord.VideoReader(sys.argv[1])
for i in range(0, len(reader), 50):
    reader[i].asnumpy()
"""


@dataclass
class Trial:
    """What became of one file damaged in one way; counts are of pictures."""

    way: str
    file: str
    status: str
    reason: str
    harmed: int
    missed: int
    identical: bool
    marked_sound: int
    pictures: int
    decord: str


def decode(path: Path) -> tuple[list[int], list[np.ndarray]]:
    """Presentation times and planes (uint8 [height * 1.5, width]) as a lenient reader has them."""
    times, planes = [], []

    def take(frames) -> None:
        for frame in frames:
            if frame.pts is not None:
                times.append(frame.pts)
                planes.append(frame.to_ndarray(format="yuv420p"))

    with av.open(str(path)) as container:
        stream = picture_stream(container)
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        with contextlib.suppress(av.error.FFmpegError):
            for packet in container.demux(stream):
                if packet.size:
                    with contextlib.suppress(av.error.FFmpegError):
                        take(packet.decode())
        with contextlib.suppress(av.error.FFmpegError):
            take(stream.codec_context.decode(None))
    return times, planes


def harm(before: np.ndarray, after: np.ndarray, height: int) -> float:
    """Greatest mean difference of a block: 16x16 in brightness, 8x8 in colour."""
    if before.shape != after.shape:
        return 255.0
    if np.array_equal(before, after):
        return 0.0
    difference = np.abs(before.astype(np.int16) - after)
    width = before.shape[1]
    luma = _blocks(difference[:height], 16)
    chroma = difference[height:].reshape(-1, width // 2)
    return max(luma, _blocks(chroma, 8))


def _blocks(difference: np.ndarray, size: int) -> float:
    height, width = (n // size * size for n in difference.shape)
    cut = difference[:height, :width].reshape(height // size, size, width // size, size)
    return float(cut.mean(axis=(1, 3)).max()) if cut.size else float(difference.mean())


def trial(way: str, original: Path, seed: int) -> Trial | None:
    """Damage a copy, scan it, compare. None where the way does not fit the file."""
    rng = np.random.default_rng([seed, len(way), *way.encode()])
    with tempfile.TemporaryDirectory() as folder:
        video = Video("P01_01", "P01", "train", *_rate_and_length(original))
        path = video.path(folder)
        path.parent.mkdir()
        shutil.copyfile(original, path)
        try:
            (WAYS | FLIPS)[way](path, rng)
        except EpicError:
            return None
        worker = WORKER
        if way == "no permission" and os.geteuid() == 0:
            if not shutil.which("setpriv"):
                return None
            # Root may read everything, so the scan runs as nobody.
            worker = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *WORKER)
            for place in (Path(folder), path.parent):
                place.chmod(0o755)
            cache = Path(folder) / "cache" / "P01"
            cache.mkdir(parents=True)
            cache.chmod(0o777)
        index_file = Path(folder) / "P01.index.npz"
        with contextlib.redirect_stdout(io.StringIO()):
            row = scan_participant(
                [video], folder, Path(folder) / "P01.tsv", index_file, worker=worker
            )[0]
        decord = _decord(path)
        known = build_index(original)
        if row.status not in (OK, DAMAGED):
            alike = path.is_file() and path.read_bytes() == original.read_bytes()
            return Trial(way, original.name, row.status, row.reason, known.frames, 0,
                         alike and way != "no permission", 0, known.frames, decord)  # fmt: skip
        index = load_index(index_file, "P01_01")
        counts = compare(original, path, row, index, way)
        return Trial(way, original.name, row.status, row.reason, *counts, known.frames, decord)


def compare(original: Path, path: Path, row, index, way: str) -> tuple[int, int, bool, int]:
    """(harmed, missed, all identical, sound pictures inside reported ranges)."""
    known = build_index(original)
    times, planes = decode(original)
    truth = dict(zip(times, planes, strict=True))
    with av.open(str(original)) as container:
        height = picture_stream(container).codec_context.height
    truth = [truth[pts] for pts in known.pts.tolist()]
    try:
        seen = dict(zip(*decode(path), strict=True))
    except av.error.FFmpegError:
        seen = {}
    marked = np.zeros(max(row.pictures, index.frames), dtype=bool)
    for start, stop in row.damaged:
        marked[start:stop] = True
    step = 1 / known.fps
    harmed = missed = marked_sound = 0
    # A picture shown at another time is not what it was, even if that harms nobody.
    identical = index.frames == known.frames and np.allclose(index.times, known.times)
    covered = np.zeros(known.frames, dtype=bool)
    offset = 0
    reach = round(CLOSE_SECONDS / step) if way in SHIFTING else 0
    for j, (pts, seconds) in enumerate(zip(index.pts.tolist(), index.times.tolist(), strict=True)):
        i = round(seconds / step)
        worst, picture = 255.0, seen.get(pts)
        if i < known.frames:
            covered[i] = True
        if picture is not None:
            for by in [offset, *range(-reach, reach + 1)] if reach else [0]:
                if 0 <= i + by < known.frames:
                    found = harm(truth[i + by], picture, height)
                    if found < worst:
                        worst, offset = found, by
                    if worst <= VISIBLE:
                        break
        identical = identical and worst == 0
        bad = worst > VISIBLE
        harmed += bad
        missed += bad and not marked[j]
        marked_sound += bool(marked[j]) and not bad
    # Pictures that are gone: found if marked as promised but absent, if they lie behind the end
    # that the table states, or if the picture behind the hole is marked.
    last = round(index.times[-1] / step)
    for i in np.flatnonzero(~covered):
        if way in CLOSED_UP and i > last:
            continue
        if way in SHIFTING and np.abs(index.times - i * step).min() < CLOSE_SECONDS:
            continue
        harmed += 1
        if i > last:
            missed += not (row.status == DAMAGED or i >= row.pictures)
        else:
            behind = np.searchsorted(index.times, (i - 0.5) * step)
            missed += not marked[behind]
    return harmed, missed, identical, marked_sound


def _rate_and_length(path: Path) -> tuple[float, float]:
    index = build_index(path)
    return index.fps, index.frames / index.fps


def _decord(path: Path) -> str:
    command = [sys.executable, "-c", DECORD, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=DECORD_SECONDS)
    except subprocess.TimeoutExpired:
        return "hangs"
    return "passes" if done.returncode == 0 else "fails"


def originals(folder: Path, given: list[Path]) -> list[Path]:
    """Mini-kitchen files of several sizes and rates, and the first half minute of given ones."""
    made = []
    for number, (fps, seconds, size) in enumerate(
        ((60000 / 1001, 18.0, (160, 90)), (50.0, 18.0, (320, 180)), (30000 / 1001, 30.0, (160, 90)))
    ):
        path = folder / f"kitchen{number}.MP4"
        video = Video(f"P0{number + 1}_01", f"P0{number + 1}", "train", fps, seconds)
        write_video(video, path, seed=number, size=size)
        made.append(path)
    for path in given:
        copy = folder / f"{path.stem}.MP4"
        rewrite(path, partial(_first, seconds=MAX_SECONDS, path=path), copy)
        made.append(copy)
    return made


def _first(packets, seconds: float, path: Path):
    index = build_index(path)
    end = index.pts[0] + seconds / float(index.time_base)
    keys = [i for i, p in enumerate(packets) if p.is_key and p.pts <= end]
    stop = len(packets) if index.times[-1] <= seconds else keys[-1] or len(packets)
    return packets[:stop]


def main() -> None:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, help="more files to damage copies of")
    parser.add_argument("--seeds", type=int, default=3, help="damages of each way a file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="ways whose name holds this")
    parser.add_argument("--show", action="store_true", help="print every trial that missed")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.jobs) as pool:
        files = originals(Path(folder), options.videos)
        waiting = [
            pool.submit(trial, way, file, seed)
            for way in WAYS | FLIPS
            if options.only in way
            for number, file in enumerate(files)
            for seed in range(1 if way in ONCE or way.startswith("undamaged") else options.seeds)
            if way not in ONCE or number == 0
        ]
        trials = [t for t in (w.result() for w in waiting) if t is not None]
    report(trials, options.show, time.monotonic() - started)


def report(trials: list[Trial], show: bool, seconds: float) -> None:
    """Print the table, and the JSON object as the last line."""
    versions = f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}, decord 0.6.0"
    print(f"{time.strftime('%Y-%m-%d')}, {versions}, {len(trials)} files, {seconds:.0f} s\n")
    print(f"{'way':34} files harmed found |  pictures harmed  missed  sound but marked | "
          "harmless, told | decord finds")  # fmt: skip
    kinds = {}
    for way in WAYS | FLIPS:
        own = [t for t in trials if t.way == way]
        if not own:
            continue
        bad = [t for t in own if t.harmed]
        kinds[way] = kind = {
            "files": len(own),
            "harmed": len(bad),
            "found": sum(t.status != OK and not t.missed for t in bad),
            "pictures_harmed": sum(t.harmed for t in own),
            "pictures_missed": sum(t.missed for t in own),
            "sound_marked_percent": round(
                100 * sum(t.marked_sound for t in own) / sum(t.pictures for t in own), 2
            ),
            "false_alarms": sum(t.identical and t.status != OK for t in own),
            "decord_finds": sum(t.decord != "passes" for t in bad),
            "decord_hangs": sum(t.decord == "hangs" for t in own),
        }
        hangs = f" ({kind['decord_hangs']} hang)" if kind["decord_hangs"] else ""
        print(f"{way:34} {kind['files']:5} {kind['harmed']:6} {kind['found']:5} | "
              f"{kind['pictures_harmed']:16} {kind['pictures_missed']:7} "
              f"{kind['sound_marked_percent']:15.1f} % | {kind['false_alarms']:14} | "
              f"{kind['decord_finds']:3} of {kind['harmed']}{hangs}")  # fmt: skip
        for t in own:
            if show and (t.missed or (t.identical and t.status != OK)):
                print(f"    {asdict(t)}")

    def recall(names) -> float:
        harmed = sum(kinds[n]["pictures_harmed"] for n in names if n in kinds)
        missed = sum(kinds[n]["pictures_missed"] for n in names if n in kinds)
        return round(100 * (1 - missed / harmed), 3) if harmed else 100.0

    print()
    print(
        json.dumps(
            {
                "recall_structural_percent": recall(WAYS),
                "recall_flips_percent": recall(FLIPS),
                "false_alarms_on_undamaged_files": sum(
                    k["false_alarms"] for way, k in kinds.items() if way.startswith("undamaged")
                ),
                "harmless_damage_told": sum(
                    k["false_alarms"] for way, k in kinds.items() if not way.startswith("undamaged")
                ),
                "undamaged_files": sum(
                    k["files"] for way, k in kinds.items() if way.startswith("undamaged")
                ),
                "decord_finds_percent": round(
                    100
                    * sum(k["decord_finds"] for k in kinds.values())
                    / max(sum(k["harmed"] for k in kinds.values()), 1),
                    1,
                ),
                "decord_hangs": sum(k["decord_hangs"] for k in kinds.values()),
                "date": time.strftime("%Y-%m-%d"),
                "versions": versions,
                "kinds": kinds,
            }
        )
    )


if __name__ == "__main__":
    main()
