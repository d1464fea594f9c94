"""Measure the page of `results/browse/` with real annotations of val and random predictions.

    python benchmarks/browse.py FOLDER OUT [--splits val train]

FOLDER has the official CSVs. The page has two runs side by side, or one with `--runs 1`. It is
written to OUT/browse/ and opened in a headless Chromium, as tests open it. No clips: a page asks
for one at a time.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from epic100.data.annotations import read_annotations  # noqa: E402
from epic100.data.official_lists import CLASS_LISTS, LISTS  # noqa: E402
from epic100.pages.browse import write_folder  # noqa: E402
from epic100.pages.browse_data import ShownRun, gather  # noqa: E402
from epic100.scoring.predictions import Predictions, write_predictions  # noqa: E402
from epic100.video.sheet import read_sheet  # noqa: E402
from support.browser import Page  # noqa: E402

CLASSES = {"verbs": 97, "nouns": 300}
CSVS = {"val": "EPIC_100_validation.csv", "train": "EPIC_100_train.csv"}
REPEATS = 5
PAINT = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
READY = "return performance.getEntriesByName('epic-ready')[0].startTime"
# It measures the time from the event to the next frame after its changes are drawn.
FILTER = """
const form = document.getElementById('filter'), field = form.elements[NAME];
const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
await frame();
const begin = performance.now();
field.value = VALUE;
field.dispatchEvent(new Event('input', {bubbles: true}));
const code = performance.now() - begin;
await frame();
const all = performance.now() - begin;
return [code, all, document.getElementById('summary').innerText];
"""
FILTERS = (
    ("text", "open"),
    ("text", ""),
    ("result", "wrong"),
    ("result", "near"),
    ("verb", "1"),
    ("verb", ""),
    ("participant", "P01"),
    ("participant", ""),
    ("result", "second"),
    ("result", ""),
)


HEAP = "return performance.memory.usedJSHeapSize / 1e6"


def random_predictions(csv: Path, videos: dict, path: Path, seed: int) -> None:
    """Write random scores of the pairs of val, the true one a little more likely."""
    table = read_annotations(csv, videos, split=None, num_verbs=97, num_nouns=300)
    pairs = table.groupby(["verb", "noun"]).size()
    column = {pair: row for row, pair in enumerate(pairs.index)}
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(len(table), len(pairs), generator=generator)
    true = [column[pair] for pair in zip(table["verb"], table["noun"], strict=True)]
    scores[torch.arange(len(table)), true] += 5
    listed = [(int(verb), int(noun), int(count)) for (verb, noun), count in pairs.items()]
    ids = table["narration_id"].tolist()
    write_predictions(Predictions("val", ids, scores.log_softmax(1), listed, 97, 300, {}), path)


def main() -> None:
    """Write the page, open it several times, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--splits", nargs="+", default=["val"])
    parser.add_argument("--runs", type=int, default=2, choices=(1, 2))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    videos = {video.video_id: video for video in read_sheet(ROOT / "config/videos.tsv")}
    dropped, runs = options.out / "dropped.tsv", []
    for seed in range(options.runs):
        scores = options.out / f"val{seed}.pt"
        random_predictions(options.folder / CSVS["val"], videos, scores, seed)
        runs.append(ShownRun(f"seed{seed}", scores))
    dropped.write_text("narration_id\tsplit\treason\n")
    page = options.out / "browse/index.html"
    data = gather(
        videos,
        page=page,
        root=options.out,
        annotations={split: options.folder / CSVS[split] for split in options.splits},
        runs=runs,
        dropped=dropped,
        scans=(),
        name_csvs=(),
        classes=CLASSES,
        format="official",
        lists={key: str(options.folder / name) for key, (name, _) in (LISTS | CLASS_LISTS).items()},
    )
    write_folder(page, data, (), max_mb=500)
    figures = {
        "data_mb": (page.parent / "data.js").stat().st_size / 1e6,
        "paint_ms": [],
        "ready_ms": [],
        "heap_mb": [],
        "filter_ms": {},
    }
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            opened = Page(page.as_uri(), Path(folder) / "profile")
            opened.run(
                "while (!performance.getEntriesByName('epic-ready').length)"
                " await new Promise(done => setTimeout(done, 20))"
            )
            figures["paint_ms"].append(round(opened.run(PAINT)))
            figures["ready_ms"].append(round(opened.run(READY)))
            figures["heap_mb"].append(round(opened.run(HEAP)))
            for name, value in FILTERS:
                script = FILTER.replace("NAME", json.dumps(name)).replace(
                    "VALUE", json.dumps(value)
                )
                code, whole, words = opened.run(script)
                key = f"{name}={value}"
                figures["filter_ms"].setdefault(key, []).append([round(code), round(whole)])
            opened.close()
    for key, rows in figures["filter_ms"].items():
        figures["filter_ms"][key] = np.median(rows, axis=0).tolist()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
