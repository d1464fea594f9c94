"""Damage videos in many ways, and compare the report of the scan with the pictures.

    python benchmarks/damage.py [--seeds 3] [--jobs 2] [--log trials.jsonl] [video ...]

The files are of several codings (`damage_ways`): three of the mini kitchen, four more of H.264,
and one of each other coder. With --log, each finished trial is a line of a file, and a later call
goes on from there.

Every file is decoded twice, undamaged and damaged, and compared picture by picture at the same
time: a picture is harmed if the mean difference of any block of 16x16 pixels (8x8 in colour) is
over 8 of 255, or if it is gone. Harm inside a reported range, or in a file reported unreadable, is
found, and so is all harm in a file that is held back as a whole, since its lengths differ; harm
outside is missed, if the project's reader gives it too. Some unmarked pictures are
read at random as well; one that is refused is missed too. A damaged file that is reported although
all of its pictures are bit for bit what and when they were is harmless; a reported undamaged one
is a false alarm.
With --decord, the check of the lab's archive stands beside it: open with decord, read every 50th
frame, pass if nothing is raised (in a process of its own, as it may hang).
Where packets are left out and those behind close up, and where the index is hit, pictures are
compared with those up to half a second away: so little is no harm to a segment.
The last line printed is one JSON object.
"""

import argparse
import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from damage_ways import (
    CLOSED_UP,
    FLIPS,
    FULL,
    ONCE,
    SHIFTING,
    WAYS,
    coding_of,
    originals,
    scan_as_nobody,
)
from tables import machine, markdown

from epic100.base.errors import EpicError
from epic100.scan.participant import scan_participant
from epic100.scan.worker import scan_file
from epic100.video.build_index import build_index
from epic100.video.index import load_index
from epic100.video.reader import VideoReader
from epic100.video.scan_table import DAMAGED, OK
from epic100.video.sheet import Video

# A block is harmed if its mean difference is over this many levels of 255. The limit is higher in
# RGB, since differences in brightness and colours add up there.
VISIBLE = 8.0
CLOSE_SECONDS = 0.5
VISIBLE_RGB = 24.0
# This many unmarked frames of each file are read at random.
READ = 8
DECORD_SECONDS = 20.0
DECORD = """
import sys, decord
reader = decord.VideoReader(sys.argv[1])
for i in range(0, len(reader), 50):
    reader[i].asnumpy()
"""


@dataclass
class Trial:
    """The result for one file damaged in one way; counts are of pictures."""

    way: str
    file: str
    seed: int
    status: str
    reason: str
    harmed: int
    missed: int
    identical: bool
    marked_sound: int
    pictures: int
    decord: str
    judged: str
    finding: str = ""


def decode(path: Path) -> dict[int, np.ndarray]:
    """Decode planes uint8 [height * 1.5, width] by presentation time, without the bad packets."""
    shown: dict[int, np.ndarray] = {}
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        with contextlib.suppress(av.error.FFmpegError):
            for packet in container.demux(stream):
                with contextlib.suppress(av.error.FFmpegError):
                    frames = [frame for frame in packet.decode() if frame.pts is not None]
                    shown |= {frame.pts: frame.to_ndarray(format="yuv420p") for frame in frames}
    return shown


def harm(before: np.ndarray, after: np.ndarray, height: int) -> float:
    """Compute the greatest mean difference of a block: 16x16 in brightness, 8x8 in colour."""
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


def trial(way: str, original: Path, seed: int, with_decord: bool) -> Trial | None:
    """Damage a copy, scan it and compare; None if the way cannot damage this file."""
    rng = np.random.default_rng([seed, len(way), *way.encode()])
    with tempfile.TemporaryDirectory() as folder:
        video = Video("P01_01", "P01", "train", *_rate_and_length(original))
        path = video.path(folder)
        path.parent.mkdir()
        shutil.copyfile(original, path)
        try:
            (WAYS | FLIPS)[way](path, rng)
        except (EpicError, ValueError):
            return None
        for directory in (Path(folder), path.parent):
            # The user nobody must be able to look into it.
            directory.chmod(0o755)
        index_file = Path(folder) / "P01.index.npz"
        with contextlib.redirect_stdout(io.StringIO()):
            row = scan_participant(
                [video],
                folder,
                Path(folder) / "P01.tsv",
                index_file,
                scan=scan_as_nobody if way == "no permission" else scan_file,
            )[0]
        decord = _decord(path) if with_decord else ""
        known = _index(original)
        result = functools.partial(Trial, way, original.name, seed, row.status, row.reason)
        if row.status not in (OK, DAMAGED):
            alike = path.is_file() and path.read_bytes() == original.read_bytes()
            identical = alike and way != "no permission"
            return result(known.frames, 0, identical, 0, known.frames, decord, row.judged)
        index = load_index(index_file, "P01_01")
        harmed, missed, *others = compare(original, path, row, index, way)
        missed = 0 if row.finding else missed
        return result(harmed, missed, *others, known.frames, decord, row.judged, row.finding)


def compare(original: Path, path: Path, row, index, way: str) -> tuple[int, int, bool, int]:
    """Compare all pictures.

    Returns:
        The harmed and the missed pictures, whether all are identical, and the undamaged pictures
        inside reported ranges.
    """
    known, truth, height = _index(original), *_truth(original)
    try:
        seen = decode(path)
    except av.error.FFmpegError:
        seen = {}
    marked = np.zeros(max(row.pictures, index.frames), dtype=bool)
    for start, stop in row.damaged:
        marked[start:stop] = True
    step = 1 / known.fps
    harmed = marked_sound = 0
    # Both lists have pairs: an unmarked frame, and the frame that it should be.
    wrong: list[tuple[int, int]] = []
    sound: list[tuple[int, int]] = []
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
            for shift in [offset, *range(-reach, reach + 1)] if reach else [0]:
                if 0 <= i + shift < known.frames:
                    difference = harm(truth[i + shift], picture, height)
                    if difference < worst:
                        worst, offset = difference, shift
                    if worst <= VISIBLE:
                        break
        identical = identical and worst == 0
        bad = worst > VISIBLE
        harmed += bad
        if not marked[j]:
            (wrong if bad else sound).append((j, min(i + offset, known.frames - 1)))
        marked_sound += bool(marked[j]) and not bad
    rng = np.random.default_rng(len(sound))
    missed = unlike(original, path, index, wrong)
    missed += unlike(original, path, index, [*rng.permutation(sound)[:READ]])
    # A picture that is gone counts as found if the picture behind the hole is marked. If it lies
    # behind the last picture, it counts as found if the file is reported as damaged, or if the
    # table says that the file ends before it.
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


def unlike(original: Path, path: Path, index, frames: list[tuple[int, int]]) -> int:
    """Count the frames that the project's reader refuses or gives as another picture.

    A player that goes on through lost pictures may be misled where a reader, which begins at the
    next key frame, is not.
    """
    if not frames:
        return 0
    count, expected = 0, VideoReader(original, _index(original))
    try:
        reader = VideoReader(path, index)
    except EpicError:
        return len(frames)
    for frame, true in frames:
        try:
            (picture,) = reader.get_frames([int(frame)])
        except EpicError:
            count += 1
            continue
        (known,) = expected.get_frames([int(true)])
        gap = np.abs(known.astype(np.int16) - picture) if known.shape == picture.shape else None
        count += gap is None or max(_blocks(gap[..., c], 16) for c in range(3)) > VISIBLE_RGB
    return count


_index = functools.lru_cache(build_index)


@functools.lru_cache(1)
def _truth(path: Path) -> tuple[list[np.ndarray], int]:
    """Decode the planes of all pictures of an undamaged file in order; return its height too."""
    shown = decode(path)
    with av.open(str(path)) as container:
        height = container.streams.best("video").codec_context.height
    return [shown[pts] for pts in _index(path).pts.tolist()], height


def _rate_and_length(path: Path) -> tuple[float, float]:
    index = _index(path)
    return index.fps, index.frames / index.fps


def _decord(path: Path) -> str:
    command = [sys.executable, "-c", DECORD, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=DECORD_SECONDS)
    except subprocess.TimeoutExpired:
        return "hangs"
    return "passes" if done.returncode == 0 else "fails"


def main() -> None:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, help="more files to damage copies of")
    parser.add_argument("--seeds", type=int, default=3, help="damages of each way a file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="ways whose name holds this")
    parser.add_argument("--coding", default="", help="codings whose name holds this")
    parser.add_argument("--log", type=Path, help="a file of finished trials, to go on from")
    parser.add_argument("--decord", action="store_true", help="ask decord too")
    parser.add_argument("--show", action="store_true", help="print every trial that missed")
    options = parser.parse_args()
    started = time.monotonic()
    trials = _read(options.log)
    known = {(t.way, t.file, t.seed) for t in trials}
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.jobs) as pool:
        files = originals(Path(folder), options.videos, options.coding)
        waiting = [
            pool.submit(trial, way, file, seed, options.decord)
            for seed in range(options.seeds)
            for number, file in enumerate(files)
            for way in WAYS | FLIPS
            if options.only in way
            if not seed or not (way in ONCE or way.startswith("undamaged"))
            if way not in ONCE or number == 0
            if (way, file.name, seed) not in known
        ]
        for done in as_completed(waiting):
            if result := done.result():
                trials.append(result)
                if options.log:
                    with options.log.open("a") as log:
                        log.write(json.dumps(asdict(result)) + "\n")
    report(trials, options.show, time.monotonic() - started)


def _read(log: Path | None) -> list[Trial]:
    if log is None or not log.exists():
        return []
    return [Trial(**json.loads(line)) for line in log.read_text().splitlines()]


def report(trials: list[Trial], show: bool, seconds: float) -> None:
    """Print two tables, and the JSON object as the last line."""
    print(f"{machine()}, {len(trials)} files, {seconds:.0f} s")
    full = [t for t in trials if coding_of(t.file) in FULL]
    codings = sorted({coding_of(t.file) for t in trials})
    chosen = {
        "coding": {c: [t for t in trials if coding_of(t.file) == c] for c in codings},
        f"way ({', '.join(FULL)})": {w: [t for t in full if t.way == w] for w in WAYS | FLIPS},
    }
    tables = [
        {row: counts(some) for row, some in table.items() if some} for table in chosen.values()
    ]
    for name, table in zip(chosen, tables, strict=True):
        if table:
            head = " | ".join([name, *next(iter(table.values()))])
            print(f"\n{markdown(head, ([row, *cells.values()] for row, cells in table.items()))}")
    for t in trials:
        if show and (t.missed or (t.identical and t.status != OK)):
            print(f"    {asdict(t)}")
    figures = {"files": len(trials), "codings": tables[0], "ways": tables[1]}
    print(json.dumps(machine() | figures))


def counts(trials: list[Trial]) -> dict[str, int | float | str]:
    """Make the figures of a row of a table."""
    bad = [t for t in trials if t.harmed]
    reported = [t for t in trials if t.identical and t.status != OK]
    row: dict[str, int | float | str] = {
        "judged": ", ".join(sorted({t.judged for t in trials if t.judged})),
        "files": len(trials),
        "harmed": len(bad),
        "found": sum((t.status != OK or bool(t.finding)) and not t.missed for t in bad),
        "pictures harmed": sum(t.harmed for t in trials),
        "missed": sum(t.missed for t in trials),
        "sound but marked, %": round(
            100 * sum(t.marked_sound for t in trials) / sum(t.pictures for t in trials), 1
        ),
        "held back": sum(bool(t.finding) for t in trials),
        "harmless, told": sum(not t.way.startswith("undamaged") for t in reported),
        "false alarms": sum(t.way.startswith("undamaged") for t in reported),
    }
    compared = [t for t in bad if t.decord]
    if compared:
        row["decord finds"] = f"{sum(t.decord != 'passes' for t in compared)} of {len(compared)}"
    return row


if __name__ == "__main__":
    main()
