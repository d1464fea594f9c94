"""Measure report.html and compare.html: CPU to make them, their size, first paint, empty area.

    python benchmarks/pages.py OUT [--runs 128]

The report is of drawn predictions of as many segments as EPIC's val has, with pictures of the
official sheet and without examples. The runs side by side differ by a rate, a seed and a number of
epochs. Both are written to OUT, and opened in a headless Chromium, as tests open pages.
"""

import argparse
import base64
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from epic100.base.text_table import write_frame  # noqa: E402
from epic100.data.official_lists import read_class_names  # noqa: E402
from epic100.pages.archive_figures import plot_archive, plot_close_up  # noqa: E402
from epic100.pages.bootstrap import by_video, draw_videos  # noqa: E402
from epic100.pages.compare import (  # noqa: E402
    GROUPS,
    Comparison,
    Run,
    write_compare_page,
)
from epic100.pages.examples import by_class  # noqa: E402
from epic100.pages.report import write_page  # noqa: E402
from epic100.pages.training_figures import plot_training  # noqa: E402
from epic100.scoring.evaluation import evaluate  # noqa: E402
from epic100.scoring.metrics import TASKS  # noqa: E402
from epic100.scoring.outcomes import outcomes, read_labels  # noqa: E402
from epic100.scoring.predictions import Predictions, write_predictions  # noqa: E402
from epic100.video.scan_table import ScanRow  # noqa: E402
from support.browser import Page  # noqa: E402
from support.made_up import (  # noqa: E402
    real_segments,
    real_sheet,
    segment_list,
)

# The official val split has this many segments, in this many videos.
SEGMENTS, VIDEOS = 9668, 138
ACCURACY = {"verb": 0.65, "noun": 0.52, "action": 0.40}
RATES, EPOCHS = (0.003, 0.01, 0.03), (30, 60)
# A block of the picture of a page is empty if it is of the colour of the page's paper.
BLOCK = 20


def epochs_of(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the epochs of a training."""
    epoch = np.arange(1, count + 1)
    accuracy = 40 * (1 - np.exp(-epoch / 10))
    return pd.DataFrame(
        {
            "epoch": epoch,
            "loss": 2 + 6 * np.exp(-epoch / 8) + rng.normal(0, 0.05, count),
            "val_loss": np.nan,
            "lr": 0.01 * (1 + np.cos(np.pi * epoch / count)) / 2,
            "samples_per_s": 180.0,
            "data_share": 0.08,
            "seconds": 400.0,
            **{f"{task}_top{k}": accuracy * k**0.3 for task in TASKS for k in (1, 5)},
        }
    )


def write_runs(count: int, out: Path) -> Path:
    """Draw runs and write their page."""
    rng = np.random.default_rng(0)
    videos = rng.integers(0, VIDEOS, SEGMENTS)
    groups = {"overall": videos >= 0, "unseen": videos < 12, "tail": rng.random(SEGMENTS) < 0.25}
    chances, runs = rng.random((len(TASKS), SEGMENTS)), []
    for number in range(count):
        rate, length = RATES[number % 3], EPOCHS[number // 3 % 2]
        gain = (-0.02, 0.01, 0.0)[number % 3] + 0.012 * (length == 60)
        metrics: dict[str, Any] = {"predicted": 9400, "data": "made-up runs"}
        metrics["trained_on"] = {"gpus": 2, "hardware": "H100"}
        right = {}
        for task, chance in zip(TASKS, chances, strict=True):
            own = np.where(rng.random(SEGMENTS) < 0.75, chance, rng.random(SEGMENTS))
            hit = own < ACCURACY[task] + gain
            metrics[f"readable_{task}_accuracy_at_1"] = 100 * hit[:9400].mean()
            for group in GROUPS:
                right[f"{group}_{task}"] = by_video(hit & groups[group], videos)
                metrics[f"{group}_{task}_accuracy_at_1"] = 100 * hit[groups[group]].mean()
        name = f"lr{rate}_epochs{length}_seed{number // 6}" if number else "default"
        settings = {"train.epochs": str(length), "train.seed": str(number // 6)}
        settings["train.options.optim_wrapper.optimizer.lr"] = str(rate)
        runs.append(Run(name, out / name, metrics, settings, right, epochs_of(length, rng)))
    sizes = {f"{name}_{task}": by_video(groups[name], videos) for name in GROUPS for task in TASKS}
    page = out / "compare.html"
    write_compare_page(Comparison(runs, sizes, draw_videos(VIDEOS), SEGMENTS, []), page)
    return page


def write_report(out: Path) -> Path:
    """Draw predictions, and write the report with its pictures."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(i % 97, i % 300, 1 + i % 50) for i in range(2000)]
    drawn = torch.randint(0, len(pairs), (SEGMENTS,), generator=generator)
    scores = torch.randn(SEGMENTS, len(pairs), generator=generator)
    scores[torch.arange(SEGMENTS), drawn] += 3
    ids = [f"s{i}" for i in range(SEGMENTS)]
    segment_list(out / "val.txt", ids, [pairs[i] for i in drawn])
    made = Predictions("val", ids, scores.log_softmax(1), pairs, 97, 300, {"split": "train"})
    write_predictions(made, out / "val.pt")
    metrics = evaluate(
        out / "val.pt", out / "val.txt", out / "metrics.json", lists={}, reduce="max"
    )
    names = read_class_names([])
    outcome = outcomes(made, read_labels(out / "val.txt", {}), "max")
    write_frame(by_class(outcome, pairs, names), out / "per_class.tsv", float_format="%.2f")
    videos = real_sheet()
    rows = {name: ScanRow(name, "damaged", 50.0, 5000, [(9, 60)], pictures=5000) for name in videos}
    history = epochs_of(60, np.random.default_rng(0))
    plot_archive(videos, rows, out / "archive.svg")
    segments = real_segments(videos, splits=["train", "val", "test"])
    plot_close_up(videos, rows, segments, segments["narration_id"][::9], out / "close_up.svg")
    plot_training(history, out / "training.svg")
    people = sorted({video.participant_id for video in videos.values()})
    kept = {"segments": 2000, "kept_by_segment": 1900, "kept_by_video": 0, "decoder_only": 0}
    kept |= {"left_out": 0, "why": ""}
    write_frame(
        pd.DataFrame([{"participant_id": name} | kept for name in people]), out / "kept.tsv"
    )
    (out / "dropped.tsv").write_text("narration_id\tsplit\treason\n")
    (out / "examples.json").write_text("{}")
    write_page(
        out / "report.html",
        metrics=metrics,
        salvage=out / "kept.tsv",
        dropped=out / "dropped.tsv",
        examples=out / "examples.json",
        # Lengths take no more than the archive does.
        figures={
            name: out / f"{name.replace('lengths', 'archive')}.svg"
            for name in ("lengths", "archive", "close_up", "training")
        },
        policy="segment",
        settings={},
        pages={},
        classes=out / "per_class.tsv",
        about=["made-up predictions"],
        history=history,
    )
    return out / "report.html"


def look(page: Path) -> dict[str, Any]:
    """Open a page: CPU and time to its first paint, and its empty area and height by width."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shown = Page("about:blank", Path(folder) / "profile")
        shown.resize(1440)
        shown._call("Performance.enable")
        shown.go(page.as_uri())
        shown.run("await new Promise(done => setTimeout(done, 500))")
        figures = shown._call("Performance.getMetrics")["figures"]
        times = {metric["name"]: metric["value"] for metric in figures}
        paint = shown.run(
            "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
        figures = {"page_cpu_s": times["TaskDuration"], "paint_ms": round(paint)}
        for width in (1440, 1024, 390):
            shown.resize(width)
            height = shown.run("return document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            drawn = shown._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
            image = Image.open(io.BytesIO(base64.b64decode(drawn["data"]))).convert("RGB")
            figures[f"height_at_{width}"] = height
            figures[f"empty_at_{width}"] = f"{100 * empty_share(np.asarray(image, int)):.0f} %"
        shown.close()
    return figures


def empty_share(image: np.ndarray) -> float:
    """Return the share of blocks of a picture [height, width, 3] that show the paper alone."""
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    blocks = image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, 3)
    return float((abs(blocks - image[2, 2]).max(axis=(1, 3, 4)) < 4).mean())


def main() -> None:
    """Write both pages, look at them, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=128)
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, write in (
        ("report", lambda: write_report(out)),
        ("compare", lambda: write_runs(options.runs, out)),
    ):
        start = time.process_time()
        page = write()
        cost = {"cpu_s": round(time.process_time() - start, 1), "mb": page.stat().st_size / 1e6}
        found[name] = cost | look(page)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
