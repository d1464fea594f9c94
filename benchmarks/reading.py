"""Measure what it costs to read training clips, by this library and by MMAction2.

    python benchmarks/reading.py [FOLDER] [--files 8] [--minutes 20] [--size 640 360] [--clips 40]
                                 [--repeats 3] [--learn 0]

FOLDER is an archive as `benchmarks/archive.py` makes it, with copies. Here clips are cut out of it,
one for each segment that is read, and encoded by libx264's defaults, as `ffmpeg -ss -to` does. All
ways read the same segments and frames (13, 6 apart), scale their short side to 182-228, crop
160, flip and format, each in a process of its own on one thread; crops are random. The ways take
turns, clip by clip. A way that reads a whole file for each clip reads a third of them.

With --learn N, an epoch of N of these clips is run with each way that does not fail: X3D-S of
config/ learns from each clip, on the same thread, and then predicts it by one view and by ten.

Prints Markdown tables and one JSON line: clips a second of CPU (the middle of the repeats, and
from the least to the most), memory of the process, which may take 6 GB, and what all of
EPIC-KITCHENS-100 would need beside the original videos, by what was measured here: GB of files and
hours of CPU to make them. The scan of the originals, which ours needs, is counted; that of copies
is not made.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from archive import (
    CROPPED,
    DENSE,
    FORMAT,
    THEIRS,
    WARM_UP,
    Clip,
    Read,
    Reader,
    archive_of,
    arguments,
    draw,
    mmaction2,
    ours,
)
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tables import machine, markdown

from epic100.settings import ProxySettings
from epic100.video.copy_encoder import write_proxy
from epic100.video.index_file import index_path, load_index
from epic100.video.reader import VideoReader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.packets import write_film
from support.scanned import inspect

# EPIC-KITCHENS-100 has this many hours, segments, and pairs in train.
HOURS, SEGMENTS, PAIRS = 100, 89_977, 3_568
# The steps of MMAction2's readers begin with these names.
READERS = {"decord": "Decord", "PyAV": "PyAV"}
MODEL = Path(__file__).resolve().parents[1] / "config/x3d_s_epic_rgb_segments.py"
# An epoch reads this many clips of each segment.
EPOCHS = {"train": 1, "val, one view": 1, "val, ten views": 10}
# Each way names the kind of its files, and has a function that makes its reader.
Ways = dict[str, tuple[str, Callable[[], Read]]]


def cut(folder: Path, clips: list[Clip]) -> tuple[list[Clip], float]:
    """Cut each segment into a file; return the clips of these files, and the CPU seconds."""
    cut_clips, began = [], time.process_time()
    (folder / "segments").mkdir(exist_ok=True)
    for number, clip in enumerate(clips):
        source, path = Path(clip.path), folder / f"segments/{number:04d}.MP4"
        index = load_index(index_path(folder / "scan/original", "P01"), source.stem)
        reader = VideoReader(source, index)
        pictures = reader.get_frames(range(clip.start, clip.start + clip.length))
        reader.close()
        height, width = pictures.shape[1:3]
        rate = Fraction(index.fps).limit_denominator(1001)
        write_film(path, pictures, (width, height), rate, range(clip.length), 1 / rate)
        frames = [frame - clip.start for frame in clip.frames]
        cut_clips.append(Clip(str(path), 0, clip.length, frames))
    return cut_clips, time.process_time() - began


def preparation(folder: Path, clips: list[Clip]) -> tuple[list[Clip], dict[str, dict[str, float]]]:
    """Cut the clips; return them, and GB and CPU hours for the whole of EPIC by kind of file."""
    film, copied = folder / "filmed/0.MP4", folder / "filmed/0.again.MP4"
    times = [time.process_time()]
    row, _ = inspect(film, "P01_01")
    times.append(time.process_time())
    write_proxy(film, copied, ProxySettings())
    times.append(time.process_time())
    # A CPU second for this film is so many CPU hours for the whole of EPIC.
    share = HOURS * row.fps / row.frames
    scan_hours, copy_hours = np.diff(times) * share
    cut_clips, seconds = cut(folder, clips)
    gb = sum(Path(clip.path).stat().st_size for clip in cut_clips) / 1e9
    each = SEGMENTS / len(cut_clips)
    return cut_clips, {
        "originals": {"gb": 0.0, "hours": 0.0},
        "originals, scanned": {"gb": 0.0, "hours": scan_hours},
        "copies": {
            "gb": copied.stat().st_size / 1e9 * 3600 * share,
            "hours": scan_hours + copy_hours,
        },
        "cut clips": {"gb": gb * each, "hours": seconds / 3600 * each},
    }


def used_by_x3d(make: Callable[[], Read], epoch: str) -> Read:
    """Read a clip, or ten, and let X3D-S learn from it or predict it."""
    torch.set_num_threads(1)
    read, config = make(), Config.fromfile(MODEL).model
    head = config.cls_head.head | {"num_classes": PAIRS}
    model = torch.nn.Sequential(MODELS.build(config.backbone), MODELS.build(head))
    model.train(epoch == "train")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)

    def use(clip: Clip) -> np.ndarray:
        views = torch.from_numpy(np.concatenate([read(clip) for _ in range(EPOCHS[epoch])]))
        with torch.set_grad_enabled(epoch == "train"):
            scores = model(views.float() / 128 - 1)
            if epoch == "train":
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(scores, torch.zeros(1, dtype=int)).backward()
                optimizer.step()
        return scores.detach().numpy()

    return use


def epochs(ways: Ways, clips: dict[str, list[Clip]], count: int) -> dict[str, dict]:
    """Measure CPU seconds a segment of epochs with each way, reading and X3D-S; they take turns."""
    rows: dict[str, dict] = {}
    for epoch in EPOCHS:
        readers = {
            name: Reader(partial(used_by_x3d, make, epoch), clips[source])
            for name, (source, make) in ways.items()
        }
        cpu: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(-WARM_UP, count):
            for name, reader in readers.items():
                seconds = reader.read(number)["cpu_ms"] / 1e3
                if number >= 0:
                    cpu[name].append(seconds)
        for name, reader in readers.items():
            reader.close()
            rows.setdefault(name, {})[epoch] = statistics.mean(cpu[name])
        print(epoch, file=sys.stderr)
    return rows


def epochs_table(found: dict[str, dict]) -> str:
    """Write the CPU seconds of a segment, and their share of those with cut clips, as Markdown."""
    cut = found["MMAction2 with decord, cut clips"]
    rows = [
        (name, *(f"{row[epoch]:.2f} ({row[epoch] / cut[epoch]:.2f} of cut clips)" for epoch in row))
        for name, row in found.items()
    ]
    return markdown(f"CPU s a segment | {' | '.join(EPOCHS)}", rows)


def compare(folder: Path, count: int, repeats: int, learn: int) -> tuple[dict, dict]:
    """Measure each way, and epochs of `learn` clips with each."""
    init_default_scope("mmaction")
    names = [name for name, _, _ in json.loads((folder / "files.json").read_text())["archive"]]
    clips = {
        "originals": draw(folder, "original", DENSE, count),
        "copies": draw(folder, "copy", DENSE, count),
    }
    clips["cut clips"], needs = preparation(folder, clips["originals"])
    ways: Ways = {}
    clips["originals, scanned"] = clips["originals"]
    for source, version in (("originals, scanned", "original"), ("copies", "copy")):
        paths = [str(folder / version / name) for name in names]
        steps = [*CROPPED, FORMAT]
        ways[f"ours, {source}"] = source, partial(ours, folder / "scan" / version, paths, steps)
    for name, reader in READERS.items():
        make = partial(mmaction2, reader, [*THEIRS, FORMAT])
        for source in ("originals", "cut clips"):
            ways[f"MMAction2 with {name}, {source}"] = source, make
    readers = {name: Reader(make, clips[source]) for name, (source, make) in ways.items()}
    cpu: dict[str, list[list[float]]] = {name: [[] for _ in range(repeats)] for name in ways}
    peak = dict.fromkeys(ways, 0.0)
    failed: set[str] = {name for name, reader in readers.items() if reader.missing}
    for turn in range(repeats):
        for number in range(-WARM_UP if not turn else 0, count):
            for name, reader in readers.items():
                most = -(-count // 3) if name.startswith("MMA") and "originals" in name else count
                if name in failed or number >= most:
                    continue
                try:
                    row = reader.read(number)
                # The process ended, since it took more than 6 GB.
                except EOFError:
                    failed.add(name)
                    continue
                peak[name] = row["peak_mb"]
                if number >= 0:
                    cpu[name][turn].append(row["cpu_ms"])
        print("repeat", turn + 1, file=sys.stderr)
    for name, reader in readers.items():
        if name not in failed:
            reader.close()
    rates = {
        name: sorted(1e3 * len(row) / sum(row) for row in rows)
        for name, rows in cpu.items()
        if name not in failed
    }
    figures = {
        name: needs[source] | {"peak_mb": peak[name], "clips a CPU second": rates.get(name)}
        for name, (source, _) in ways.items()
    }
    used = {name: way for name, way in ways.items() if name in rates and "PyAV" not in name}
    return figures, epochs(used, clips, learn) if learn else {}


def table(found: dict[str, dict]) -> str:
    """Write the figures as a Markdown table."""
    theirs_cut = found["MMAction2 with decord, cut clips"]["clips a CPU second"]
    rows: list[tuple] = []
    for name, row in found.items():
        rates, needs = row["clips a CPU second"], (f"{row['gb']:.0f}", f"{row['hours']:.0f}")
        if not rates:
            rows.append((name, "fails", None, None, None, *needs))
            continue
        middle, range_ = statistics.median(rates), f"{rates[0]:.2f} to {rates[-1]:.2f}"
        share = f"{middle / statistics.median(theirs_cut):.2f}" if theirs_cut else None
        rows.append((name, f"{middle:.2f}", range_, share, f"{row['peak_mb']:.0f}", *needs))
    head = "read | clips a CPU second | least to most | of decord on cut clips | peak MB"
    return markdown(f"{head} | GB beside the originals | CPU hours of preparation", rows)


def main() -> None:
    """Make the archive, unless it exists, and compare."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--learn", type=int, default=0)
    options = parser.parse_args()
    with archive_of(options) as folder:
        figures, learned = compare(folder, options.clips, options.repeats, options.learn)
    print(table(figures))
    if learned:
        print(f"\n{epochs_table(learned)}")
    print(json.dumps({"clips": options.clips, **machine(), "ways": figures, "epochs": learned}))


if __name__ == "__main__":
    main()
